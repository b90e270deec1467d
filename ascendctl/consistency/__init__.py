"""The temperature-0 comparison: does a candidate server answer exactly as the reference does?

One way through: prompts → asking (HTTP) → answers → compare → verdicts → report. Only `endpoint` and
`asking` do input and output; the rest is pure, and a report only tells what `verdicts` decided.
"""

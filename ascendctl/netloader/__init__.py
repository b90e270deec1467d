"""Weights from a running instance to a new one: the engine inside vLLM, and what drives it from outside."""

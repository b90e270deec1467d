"""What runs inside vLLM's workers: imports the standard library, torch and vLLM only (a test holds that).

``plugin`` is the way in; vLLM finds it through the entry point ``vllm.general_plugins``.
"""

"""What a failed attempt leaves behind in vLLM's configuration, and how it is put back for a second one.

Building a model registers its layers by name (``static_forward_context`` and its like) in the compilation
configuration. A second model under the same names is refused ("Duplicate layer name"), and the first one
would stay in memory for as long as it is registered: a load from disk then runs out of it. Imports no vLLM.
"""

from __future__ import annotations

import copy
import gc
from dataclasses import dataclass
from typing import Any

import torch

# Custom-op counters are registrations too: a second model would count every op twice.
_COUNTERS = ("enabled_custom_ops", "disabled_custom_ops")


@dataclass(frozen=True)
class Registrations:
    """What was registered before a model was built; a draft model is built beside its target's layers."""

    kept: dict[str, Any]
    quantization: Any

    @classmethod
    def taken(cls, vllm_config: Any) -> Registrations:
        """Copies of the containers, not of the layers in them."""
        compilation = vllm_config.compilation_config
        kept = {
            name: copy.copy(value)
            for name, value in vars(compilation).items()
            if (name.startswith("static_") or name in _COUNTERS) and isinstance(value, (dict, list, set))
        }
        # Building a model writes the names of its packed modules into it; layers may be counted there too.
        return cls(kept, _copied(vllm_config.quant_config))

    def put_back(self, vllm_config: Any) -> None:
        """Restores the containers in place: others hold references to them."""
        compilation = vllm_config.compilation_config
        for name, value in self.kept.items():
            container = getattr(compilation, name)
            container.clear()
            if isinstance(container, list):
                container.extend(value)
            else:
                container.update(value)
        vllm_config.quant_config = self.quantization


def free_memory() -> None:
    """Hands the memory of what nobody refers to any more back to the device; models have cycles."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
        torch.accelerator.empty_cache()


def _copied(quantization: Any) -> Any:
    try:
        return copy.deepcopy(quantization)
    # A plugin's quantisation may hold what cannot be copied; it is then used a second time as it is.
    except Exception:
        return quantization

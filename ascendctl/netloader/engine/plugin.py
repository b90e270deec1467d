"""The entry point that vLLM calls in each of its processes (``vllm.general_plugins``).

Load format ``ascendctl`` is always ours. ``netloader`` is ours where the distribution of vllm-ascend is not
installed: with it, that name means vllm-ascend's own loader, whichever of the two plugins vLLM runs first.
"""

from __future__ import annotations

import importlib.metadata

from ascendctl.netloader.engine.phases import TAG, logger

OWN_FORMAT = "ascendctl"
SHARED_FORMAT = "netloader"
# Metadata finders differ in whether they take "-" and "_" for the same.
VLLM_ASCEND_NAMES = ("vllm_ascend", "vllm-ascend")

_registered: set[str] = set()


def load_formats() -> tuple[str, ...]:
    """The values of ``--load-format`` that this installation answers to."""
    return (OWN_FORMAT,) if _vllm_ascend_installed() else (OWN_FORMAT, SHARED_FORMAT)


def register() -> None:
    """Registers the loader under `load_formats`; a second call changes nothing.

    Never raises: vLLM runs every plugin in every process, and a loader that cannot be imported (another vLLM)
    must not stop an engine that does not ask for it. The log says why, and vLLM then refuses the format.
    """
    wanted = [name for name in load_formats() if name not in _registered]
    if not wanted:
        return
    try:
        from vllm.model_executor.model_loader import register_model_loader

        from ascendctl.netloader.engine.loader import NetloaderModelLoader
    except Exception as error:
        logger().error(
            "%s --load-format %s is not available: the loader cannot be imported beside this vLLM (%s: %s)",
            TAG,
            " and ".join(wanted),
            type(error).__name__,
            error,
        )
        return
    for name in wanted:
        register_model_loader(name)(NetloaderModelLoader)
        _registered.add(name)


def _vllm_ascend_installed() -> bool:
    return any(map(_installed, VLLM_ASCEND_NAMES))


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True

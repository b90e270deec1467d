"""Hooks around everything in vLLM that changes or frees the weights of a running engine.

A worker's methods are wrapped on its class, once per process, so that `WeightVersion` hears of a change
before anything is touched: sends under way are aborted, new joiners are refused with the reason.

- Sleep mode ends with `wake_up`. The weights are then read again, and served again only if they are what they
  were: level 2 throws them away.
- A weight update, a reload and expert re-balancing are final: the bytes from before post-processing are not
  kept for the new weights, so those held here are no longer what this engine answers with.
- Calls of arbitrary functions on the model (`collective_rpc` with a callable, `apply_model`) cannot be seen.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ascendctl.netloader.engine.phases import TAG, logger
from ascendctl.netloader.engine.weight_version import WeightVersion

SLEEP = "sleep mode"

# Methods of vLLM's workers by what they do to the weights, with the reason that joiners are told. Those that
# announce a change touch nothing when they fail (no update is configured, one is active already).
ANNOUNCING: Mapping[str, str] = {
    "start_weight_update": "a weight update",
    "start_draft_weight_update": "a weight update of the draft model",
}
REPLACING: Mapping[str, str] = {
    "update_weights": "a weight update",
    "finish_weight_update": "a weight update",
    "reload_weights": "a reload of the weights",
    "reset_weights": "the weights were set to zero (weight checker)",
    "elastic_ep_execute": "elastic expert parallelism",
}
# The methods of `EplbState`, in vLLM itself, that move experts between ranks.
REBALANCING: Mapping[str, str] = {
    "rearrange": "expert re-balancing",
    "update_mapping": "expert re-balancing",
    "reconfigure_physical_expert_slots": "expert re-balancing",
}

_HOOK_MARK = "_ascendctl_netloader_hook"


@dataclass(frozen=True)
class Watched:
    """Weights that a listener hands out. ``changed()`` reads them again: why they may not be served any more,
    or None. ``tell()`` is called after every change, for the status file.
    """

    version: WeightVersion
    changed: Callable[[], str | None]
    tell: Callable[[], None]


class _Registry:
    """The weights watched in this process (target and draft), and whether they sleep."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._watched: list[Watched] = []
        self._asleep = False

    def add(self, watched: Watched) -> None:
        with self._lock:
            self._watched.append(watched)

    def remove(self, watched: Watched) -> None:
        with self._lock:
            self._watched = [other for other in self._watched if other is not watched]

    def retire(self, reason: str) -> None:
        with self._lock:
            for watched in self._watched:
                if watched.version.servable[1] != reason:
                    logger().warning("%s weights are no longer served to joiners: %s", TAG, reason)
                watched.version.retire(reason)
                watched.tell()

    def begin(self, reason: str) -> None:
        with self._lock:
            for watched in self._watched:
                watched.version.begin_change(reason)
                watched.tell()

    def end(self, reason: str) -> None:
        with self._lock:
            for watched in self._watched:
                watched.version.end_change(reason)
                watched.tell()

    def fall_asleep(self) -> bool:
        """False when they sleep already."""
        with self._lock:
            if self._asleep:
                return False
            self._asleep = True
            self.begin(SLEEP)
            return True

    def wake(self) -> None:
        with self._lock:
            if not self._asleep:
                return
            self._asleep = False
            for watched in self._watched:
                reason = watched.changed()
                if reason is not None:
                    logger().warning("%s weights are no longer served to joiners: %s", TAG, reason)
                    watched.version.retire(reason)
            self.end(SLEEP)


_registry = _Registry()


def watch(watched: Watched) -> Callable[[], None]:
    """From now on the hooks tell ``watched`` of changes; returns what ends that."""
    _registry.add(watched)
    return functools.partial(_registry.remove, watched)


def install(worker_class: type) -> tuple[str, ...]:
    """Wraps the methods of ``worker_class`` and of vLLM's EPLB state; a second call changes nothing.

    Returns the names of those that this vLLM does not have, so that they can be told.
    """
    missing = [
        *_wrap(worker_class, {"sleep": _sleep, "wake_up": _wake_up, "discard": _discard}),
        *_wrap(worker_class, {name: _announcing(reason) for name, reason in ANNOUNCING.items()}),
        *_wrap(worker_class, {name: _replacing(reason) for name, reason in REPLACING.items()}),
    ]
    try:
        from vllm.distributed.eplb.eplb_state import EplbState
    except ImportError:
        missing.append("EplbState")
    else:
        missing += _wrap(EplbState, {name: _rebalancing(reason) for name, reason in REBALANCING.items()})
    return tuple(missing)


_Around = Callable[[Callable[..., Any]], Callable[..., Any]]


def _wrap(owner: type, around: Mapping[str, _Around]) -> list[str]:
    missing = []
    for name, wrapper in around.items():
        method = getattr(owner, name, None)
        if method is None:
            missing.append(name)
        elif not hasattr(method, _HOOK_MARK):
            wrapped = functools.wraps(method)(wrapper(method))
            setattr(wrapped, _HOOK_MARK, True)
            setattr(owner, name, wrapped)
    return missing


def _sleep(method: Callable[..., Any]) -> Callable[..., Any]:
    def hooked(*args: Any, **kwargs: Any) -> Any:
        began = _registry.fall_asleep()
        try:
            return method(*args, **kwargs)
        except BaseException:
            if began:
                _registry.wake()
            raise

    return hooked


def _wake_up(method: Callable[..., Any]) -> Callable[..., Any]:
    def hooked(self: Any, tags: list[str] | None = None, *args: Any, **kwargs: Any) -> Any:
        answer = method(self, tags, *args, **kwargs)
        if tags is None or "weights" in tags:
            _registry.wake()
        return answer

    return hooked


def _discard(method: Callable[..., Any]) -> Callable[..., Any]:
    def hooked(self: Any, tags: Any, *args: Any, **kwargs: Any) -> Any:
        if "weights" in tags:
            _registry.retire("the weights were discarded")
        return method(self, tags, *args, **kwargs)

    return hooked


def _announcing(reason: str) -> _Around:
    def wrapper(method: Callable[..., Any]) -> Callable[..., Any]:
        def hooked(*args: Any, **kwargs: Any) -> Any:
            _registry.begin(reason)
            try:
                answer = method(*args, **kwargs)
                _registry.retire(reason)
                return answer
            finally:
                _registry.end(reason)

        return hooked

    return wrapper


def _replacing(reason: str) -> _Around:
    def wrapper(method: Callable[..., Any]) -> Callable[..., Any]:
        def hooked(*args: Any, **kwargs: Any) -> Any:
            _registry.retire(reason)
            return method(*args, **kwargs)

        return hooked

    return wrapper


def _rebalancing(reason: str) -> _Around:
    def wrapper(method: Callable[..., Any]) -> Callable[..., Any]:
        def hooked(self: Any, *args: Any, **kwargs: Any) -> Any:
            # While memory is profiled nothing is moved; `is_profile` is the first parameter of `rearrange`.
            if not (kwargs.get("is_profile") or (args and args[0] is True)):
                _registry.retire(reason)
            return method(self, *args, **kwargs)

        return hooked

    return wrapper

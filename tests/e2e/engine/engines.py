"""Plain models, options and identities for the tests of sessions, and a wire that turns a bit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ascendctl.netloader.engine.address import Address
from ascendctl.netloader.engine.digest import digest
from ascendctl.netloader.engine.holdings import Holdings
from ascendctl.netloader.engine.identity import Identity
from ascendctl.netloader.engine.joining import Received, receive_weights
from ascendctl.netloader.engine.options import Options, Timeouts
from ascendctl.netloader.engine.shop import LegacyTensors
from ascendctl.netloader.engine.source import Source
from ascendctl.netloader.engine.weights import WeightSet

MIB = 1024 * 1024

IDENTITY = Identity(
    architecture="PlainForCausalLM",
    config_digest="c0ffee",
    dtype="bfloat16",
    quantization=None,
    quantization_digest=None,
    revision=None,
    tp_size=1,
    tp_rank=0,
    pp_size=1,
    pp_rank=0,
    dp_size=1,
    dp_rank=0,
    ep_size=1,
    ep_rank=0,
    global_rank=0,
    group="target",
    weights_digest=None,
    vllm_version="0.32.0",
    torch_version="2.13.0",
    device_kind="cpu",
)

SHORT = Timeouts(connect_s=3.0, join_s=5.0, link_s=8.0, chunk_s=10.0)
"""Every deadline passes within a test; on a busy machine none of them does by itself."""


def options_of(fields: Mapping[str, Any]) -> Options:
    given = dict(fields)
    timeouts = replace(SHORT, **given.pop("timeouts", {}))
    if isinstance(given.get("token"), str):
        given["token"] = given["token"].encode()
    return replace(Options(chunk_bytes=MIB, timeouts=timeouts), **given)


def identity_of(fields: Mapping[str, Any]) -> Identity:
    return replace(IDENTITY, **fields)


def model_of(form: Mapping[str, Any], *, filled: bool) -> list[tuple[str, torch.Tensor]]:
    """Named tensors: ``large`` of ``large_mib`` MiB each and ``small`` of 64 numbers each, one dtype each.
    ``filled``: with the numbers that ``seed`` gives, else with zeros."""
    generator = torch.Generator().manual_seed(int(form.get("seed", 1)))
    dtype = getattr(torch, form.get("dtype", "bfloat16"))
    named: list[tuple[str, torch.Tensor]] = []
    for index in range(int(form.get("small", 20))):
        named.append((f"layers.{index}.norm", torch.zeros(64, dtype=dtype)))
    for index in range(int(form.get("large", 4))):
        rows = int(float(form.get("large_mib", 2)) * MIB) // dtype.itemsize // 1024
        named.append((f"layers.{index}.mlp", torch.zeros(rows, 1024, dtype=dtype)))
    for name, shape in form.get("extra", {}).items():
        named.append((name, torch.zeros(*shape, dtype=dtype)))
    named.sort(key=lambda pair: pair[0], reverse=bool(form.get("reversed", False)))
    if filled:
        for _, tensor in named:
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return named


def digest_of_model(model: Sequence[tuple[str, torch.Tensor]]) -> str:
    """One text for all bytes of all tensors, in order."""
    return "".join(digest(t.detach().contiguous().view(-1).view(torch.uint8)).hex()[:8] for _, t in model)


def legacy_of(model: Sequence[tuple[str, torch.Tensor]]) -> LegacyTensors:
    return LegacyTensors(raw=lambda: model, processed=lambda: model)


def turn_bit(position: int) -> None:
    """Turns one bit of what this process receives: a wrapper of the link's receive does it, after the bytes
    arrived and before anybody else sees them."""
    from ascendctl.netloader.engine import receiving

    open_link = receiving.open_link
    lock = threading.Lock()
    before = 0

    class Turning:
        def __init__(self, pending: Any, data: torch.Tensor, at: int) -> None:
            self._pending, self._data, self._at = pending, data, at

        def wait(self, timeout_s: float) -> None:
            self._pending.wait(timeout_s)
            if 0 <= self._at < self._data.numel():
                self._data[self._at] ^= 1

    def turned(*args: Any, **kwargs: Any) -> Any:
        link = open_link(*args, **kwargs)
        receive = link.receive

        def receives(into: torch.Tensor) -> Any:
            nonlocal before
            with lock:
                at, before = position - before, before + into.numel()
            return Turning(receive(into), into, at)

        link.receive = receives
        return link

    receiving.open_link = turned  # type: ignore[assignment]


class Seed:
    """A source in the test's own process. ``fields``: of Options; see `model_of` and `identity_of`."""

    def __init__(
        self,
        *,
        model: Mapping[str, Any] | None = None,
        identity: Mapping[str, Any] | None = None,
        group: str = "netloader",
        holdings: Holdings | None = None,
        **fields: Any,
    ) -> None:
        self.options = options_of(fields)
        self.model = model_of(model or {}, filled=True)
        self.weights = WeightSet(self.model, self.options.chunk_bytes)
        self.source = Source(
            self.weights,
            identity_of(identity or {}),
            self.options,
            rank=0,
            group=group,
            model_path="/m/tiny",
            bind_ip="127.0.0.1",
            holdings=holdings,
            legacy=legacy_of(self.model),
        )

    def __enter__(self) -> Seed:
        self.address = self.source.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.source.stop()

    @property
    def digest(self) -> str:
        return digest_of_model(self.model)


class Joiner:
    """A joiner in the test's own process; its tensors begin as zeros."""

    def __init__(
        self,
        *,
        model: Mapping[str, Any] | None = None,
        identity: Mapping[str, Any] | None = None,
        group: str = "netloader",
        **fields: Any,
    ) -> None:
        self.options = options_of(fields)
        self.model = model_of(model or {}, filled=False)
        self.weights = WeightSet(self.model, self.options.chunk_bytes)
        self.identity = identity_of(identity or {})
        self.group = group

    def receive(self, *sources: Address | str, relay: Source | None = None) -> Received:
        addresses = [Address.parse(s) if isinstance(s, str) else s for s in sources]
        return receive_weights(
            self.weights,
            self.identity,
            self.options,
            rank=0,
            group=self.group,
            model_path="/m/tiny",
            sources=addresses,
            relay=relay,
            legacy=legacy_of(self.model),
        )

    @property
    def digest(self) -> str:
        return digest_of_model(self.model)

    @property
    def untouched(self) -> bool:
        """True while no byte arrived."""
        return all(not tensor.any() for _, tensor in self.model)


def eventually(holds: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    """Waits for ``holds()``; fails the test when it does not come."""
    until_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)

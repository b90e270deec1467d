"""Whole joins of the Netloader engine beside what they are made of, measured in turns in one run.

    python benchmarks/netloader.py [--device cpu|cuda] [--model-gib 1] [--only wire small chain faults]

wire    one joiner, tensors of 64 MiB, in chunks of 16, 32 and 64 MiB: bytes per second from the first receive
        to the last verified chunk, with and without digests, beside raw send/recv of the same transport
        (gloo: one at a time and two in flight, the faster counts). Wanted without digests: >= 0.90 of raw;
        with digests >= 0.65 (CPU) or 0.95 (GPU) of the rate without. ``join`` is all of it, connect to DONE.
small   one joiner, thousands of small tensors, beside a loop that sends them one by one over the same
        transport. Wanted: <= 25 us per tensor on a CPU; >= 3 times as fast as the loop.
chain   8 joiners, every node capped to the same rate: a chain, one joiner alone, and as control a star that
        serves one after the other. Wanted: chain <= 1.25 x one joiner.
faults  seconds until the next good joiner has everything, begun right after each fault. Wanted: <= 1 s
        with a model of 8 MiB.

With ``--device cuda`` wire and small run from GPU 0 to GPU 1 over NCCL (one GPU: through CUDA IPC, beside a
copy on that GPU). Needs torch; neither vLLM nor a network.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # it prints a stack for every peer that is gone

import torch

from ascendctl.netloader.engine import phases as phases_module
from ascendctl.netloader.engine.address import Address
from ascendctl.netloader.engine.digest import prepare
from ascendctl.netloader.engine.holdings import Holdings
from ascendctl.netloader.engine.identity import Identity
from ascendctl.netloader.engine.joining import NoSource, Received, receive_weights
from ascendctl.netloader.engine.links import rendezvous
from ascendctl.netloader.engine.options import Options, Timeouts
from ascendctl.netloader.engine.phases import Phases
from ascendctl.netloader.engine.source import Source
from ascendctl.netloader.engine.weights import WeightSet
from benchmarks.netloader_links import over_gloo, over_nccl, raw_group

IP = "127.0.0.1"
MIB = 1 << 20
WAIT_S = 120.0
RAW_IN_FLIGHT = (1, 2)
CHAIN_JOINERS = 8
PARTS = ("wire", "small", "chain", "faults")
IDENTITY = Identity(
    *("PlainForCausalLM", "0", "bfloat16", None, None, None, 1, 0, 1, 0, 1, 0, 1, 0, 0, "target", None),
    *("0.0", "0.0", "any"),
)
Named = list[tuple[str, torch.Tensor]]


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments.add_argument("--model-gib", type=float, default=0.5, help="size of the model of part wire")
    arguments.add_argument("--chunk-mib", nargs="*", type=int, default=[16, 32, 64])
    arguments.add_argument("--small-tensors", type=int, default=5120)
    arguments.add_argument("--small-kib", type=int, default=8)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--chain-mib", type=int, default=96, help="size of the model of part chain")
    arguments.add_argument("--chain-mib-s", type=float, default=16.0, help="what each of its nodes may send")
    arguments.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    given = arguments.parse_args()
    phases_module.logger().setLevel("ERROR")
    print(f"device {given.device}, torch {torch.__version__}, {os.cpu_count()} cores")
    for part in given.only:
        {"wire": wire, "small": small, "chain": chain, "faults": faults}[part](given)


# The two ends of wire and small -----------------------------------------------------------------------


def large_tensors(gib: float, device: torch.device, fill: bool) -> Named:
    """64 MiB each."""
    count = max(1, round(gib * 1024 / 64))
    named = [
        (f"layers.{n}.w", torch.zeros(32 * MIB, dtype=torch.bfloat16, device=device)) for n in range(count)
    ]
    for _, tensor in named if fill else ():
        tensor.view(torch.int64).random_()
    return named


def small_tensors(count: int, kib: int, device: torch.device, fill: bool) -> Named:
    named = [
        (f"layers.{n}.w", torch.zeros(kib * 512, dtype=torch.bfloat16, device=device)) for n in range(count)
    ]
    for _, tensor in named if fill else ():
        tensor.view(torch.int64).random_()
    return named


def device_of(end: str, kind: str) -> torch.device:
    """The source's is the first GPU, the joiner's the second where there is one."""
    if kind == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", 1 if end == "joiner" and torch.cuda.device_count() > 1 else 0)


def options(chunk_mib: int = 32, **fields: Any) -> Options:
    return replace(Options(chunk_bytes=chunk_mib * MIB, timeouts=Timeouts(total_s=WAIT_S)), **fields)


def source_end(
    pipe: Any, device_kind: str, make: str, sizes: tuple[float, int], chunks_mib: list[int]
) -> None:
    """A process with the tensors: for each chunk size a source with digests and one without, and the raw
    side, which does what the pipe says."""
    quiet()
    device = device_of("source", device_kind)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    named = globals()[make](*sizes, device, True)
    sources, addresses = [], {}
    for mib in chunks_mib:
        weights = WeightSet(named, mib * MIB)
        for digests in (True, False):
            holdings = None if digests else Holdings.whole(weights.manifest)
            source = new_source(weights, options(mib), holdings)
            addresses[mib, digests] = str(source.start())
            sources.append(source)
            if digests:
                digested(source)
    pipe.send(addresses)
    raw = Raw("source", device, pipe.recv())
    while (order := pipe.recv()) is not None:
        raw.run(order, named)
        pipe.send("done")
    for source in sources:
        source.stop()


def new_source(weights: WeightSet, given: Options, holdings: Holdings | None = None) -> Source:
    return Source(
        weights,
        IDENTITY,
        given,
        rank=0,
        group="netloader",
        model_path="/m",
        bind_ip=IP,
        holdings=holdings,
    )


def digested(source: Source) -> None:
    """Waits until a new source has made its digests."""
    until_s = time.monotonic() + WAIT_S
    while not source.holdings.complete:
        assert time.monotonic() < until_s, "the source does not digest"
        time.sleep(0.01)


class Raw:
    """torch's own send and recv between the two ends."""

    def __init__(self, end: str, device: torch.device, port: int | None) -> None:
        self._rank = 0 if end == "joiner" else 1
        self._device = device
        self.alone = device.type == "cuda" and torch.cuda.device_count() < 2
        if self.alone:
            return  # NCCL refuses two ranks on one GPU
        if port is None:
            self.hosted = rendezvous.hosted_store(IP, WAIT_S)
            store: Any = self.hosted.store
        else:
            store = rendezvous.joined_store(IP, port, WAIT_S)
        self._kind = "nccl" if device.type == "cuda" else "gloo"
        self._store = store
        self._group: Any = None

    def run(self, order: tuple[str, int, int, int], named: Named) -> None:
        """``("chunks", bytes, count, in flight)``, or ``("loop", …)``: each tensor by itself."""
        what, size, count, in_flight = order
        if self.alone:
            return
        if self._group is None:
            self._group = raw_group(self._kind, self._store, self._rank)
        if what == "loop":
            self._loop(named)
        else:
            # The same bytes in the same memory as the engine's: a buffer that stays in a cache is no match.
            pieces = [piece for _, tensor in named for piece in tensor.view(torch.uint8).split(size)]
            if self._kind == "nccl":
                over_nccl(self._group, self._rank, pieces, count)
            else:
                over_gloo(self._group, self._rank, pieces, count, in_flight)
        self.finish()

    def finish(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _loop(self, named: Named) -> None:
        call = self._group.send if self._rank == 1 else self._group.recv
        for _, tensor in named:
            call([tensor], 1 - self._rank, 0).wait()
            self.finish()


class Ends:
    """The joiner's end in this process, and the source's in another."""

    def __init__(self, given: Any, make: str, sizes: tuple[float, int] | tuple[float], chunks_mib: list[int]):
        self.device = device_of("joiner", given.device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=source_end, args=(other, given.device, make, sizes, chunks_mib)
        )
        self._process.start()
        preparing = prepare(self.device)
        self.named = globals()[make](*sizes, self.device, False)
        self.weights = WeightSet(self.named, 32 * MIB)
        self.addresses = self._pipe.recv()
        if preparing is not None:  # in an engine, while it makes its model
            preparing.join()
        self.raw = Raw("joiner", self.device, None)
        self._pipe.send(0 if self.raw.alone else self.raw.hosted.port)

    def engine(self, chunk_mib: int, digests: bool) -> tuple[float, float, dict[str, float]]:
        """Seconds of the wire alone, of the whole join, and by phase."""
        phases = Phases(0, "netloader")
        given = options(chunk_mib, verify="required" if digests else "if-offered")
        began = time.perf_counter()
        received = join(self.weights, given, [self.addresses[chunk_mib, digests]], phases=phases)
        seconds = time.perf_counter() - began
        assert received.verified == digests and received.bytes == self.weights.total_bytes
        return phases.seconds["wire"], seconds, phases.seconds

    def transport(self, what: str, size: int = 0, count: int = 0, in_flight: int = 1) -> float:
        """Seconds of the raw transport for the same bytes."""
        order = (what, size, count, in_flight)
        if self.raw.alone and what == "loop":
            return copy_one_by_one_seconds(self.device, self.named)
        if self.raw.alone:
            return copy_seconds(self.device, size * count)
        self._pipe.send(order)
        began = time.perf_counter()
        self.raw.run(order, self.named)
        seconds = time.perf_counter() - began
        self._pipe.recv()
        return seconds

    def close(self) -> None:
        self._pipe.send(None)
        self._process.join(60)


def copy_seconds(device: torch.device, nbytes: int) -> float:
    """One GPU: what a copy on it takes, the peak of any way through it."""
    piece = torch.ones(min(nbytes, 256 * MIB), dtype=torch.uint8, device=device)
    into = torch.empty_like(piece)
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    for _ in range(max(1, nbytes // len(piece))):
        into.copy_(piece)
    torch.cuda.synchronize(device)
    return time.perf_counter() - began


def copy_one_by_one_seconds(device: torch.device, named: Named) -> float:
    """One GPU: a copy of every tensor by itself, each awaited."""
    pairs = [(tensor, torch.empty_like(tensor)) for _, tensor in named]
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    for tensor, into in pairs:
        into.copy_(tensor)
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def join(
    weights: WeightSet,
    given: Options,
    sources: Sequence[str],
    *,
    phases: Phases | None = None,
    relay: Any = None,
) -> Received:
    return receive_weights(
        weights,
        IDENTITY,
        given,
        rank=0,
        group="netloader",
        model_path="/m",
        sources=[Address.parse(source) for source in sources],
        phases=phases,
        relay=relay,
    )


def wire(given: Any) -> None:
    ends = Ends(given, "large_tensors", (given.model_gib,), given.chunk_mib)
    total = ends.weights.total_bytes
    print(f"\nwire: {total / 1e9:.2f} GB in tensors of 64 MiB, {given.rounds} rounds, GB/s (median)")
    print("chunk   raw   engine  /raw   +digest  /engine   join s  (fastest)  connect join group wire digest")
    for mib in given.chunk_mib:
        ways: dict[str, Callable[[], Any]] = {
            "plain": lambda: ends.engine(mib, False),  # noqa: B023
            "digest": lambda: ends.engine(mib, True),  # noqa: B023
        }
        for in_flight in RAW_IN_FLIGHT:
            ways[f"raw{in_flight}"] = lambda n=in_flight: ends.transport(
                "chunks",
                mib * MIB,  # noqa: B023
                total // (mib * MIB),  # noqa: B023
                n,
            )
        taken = in_turns(ways, given.rounds)
        raws = [statistics.median(taken[f"raw{n}"]) for n in RAW_IN_FLIGHT]
        raw = taken[f"raw{RAW_IN_FLIGHT[raws.index(min(raws))]}"]
        plain, digest = [w for w, _, _ in taken["plain"]], [w for w, _, _ in taken["digest"]]
        whole = [j for _, j, _ in taken["digest"]]
        by_phase = {
            name: statistics.median(p.get(name, 0.0) for _, _, p in taken["digest"])
            for name in ("connect", "join", "group", "wire", "digest")
        }
        rate = lambda seconds: total / statistics.median(seconds) / 1e9  # noqa: E731
        print(
            f"{mib:3} MiB {rate(raw):6.2f} {rate(plain):7.2f} {ratio(raw, plain):6.3f}"
            f" {rate(digest):8.2f} {ratio(plain, digest):8.3f} {statistics.median(whole):9.3f}"
            f" {min(whole):9.3f}   " + " ".join(f"{seconds:6.3f}" for seconds in by_phase.values()),
            flush=True,
        )
    ends.close()


def small(given: Any) -> None:
    ends = Ends(given, "small_tensors", (given.small_tensors, given.small_kib), [32])
    count = given.small_tensors
    taken = in_turns(
        {
            "digest": lambda: ends.engine(32, True),
            "plain": lambda: ends.engine(32, False),
            "loop": lambda: ends.transport("loop"),
        },
        given.rounds,
    )
    ends.close()
    print(f"\nsmall: {count} tensors of {given.small_kib} KiB, {given.rounds} rounds, us per tensor (median)")
    each = lambda seconds: statistics.median(seconds) / count * 1e6  # noqa: E731
    for name in ("plain", "digest"):
        wires, joins = [w for w, _, _ in taken[name]], [j for _, j, _ in taken[name]]
        print(
            f"  engine, {name:7} {each(wires):8.1f}   with join {each(joins):8.1f}"
            f"   loop/join {ratio(joins, taken['loop'], inverse=True):6.1f}"
        )
    if ends.raw.alone:
        print("  one by one            no raw transport between two processes on one GPU")
    else:
        print(f"  one by one      {each(taken['loop']):8.1f}")


def in_turns(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """What each way returned in each round; the first round does not count."""
    taken: dict[str, list[Any]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name in list(ways) if turn % 2 else list(ways)[::-1]:
            got = ways[name]()
            if turn:
                taken[name].append(got)
    return taken


def ratio(base: Sequence[float], other: Sequence[float], inverse: bool = False) -> float:
    """Median over the rounds of the rate of ``other`` in the rate of ``base``."""
    values = [a / b for a, b in zip(base, other, strict=True)]
    return 1 / statistics.median(values) if inverse else statistics.median(values)


# Chain ------------------------------------------------------------------------------------------------


def chain_joiner(pipe: Any, mib: int, mib_s: float) -> None:
    """A process that joins at the address that the pipe brings, in a chain or not, again and again."""
    quiet()
    torch.set_num_threads(1)
    named = chain_tensors(mib, False)
    pipe.send("ready")
    while (order := pipe.recv()) is not None:
        address, chained = order
        given = options(1, chain=chained, bandwidth_bytes_s=mib_s * MIB)
        weights = WeightSet(named, MIB)
        relay = new_source(weights, given, Holdings()) if chained else None
        if relay is not None:
            relay.start()
        received = join(weights, given, [address], relay=relay)
        pipe.send((time.monotonic(), received.source))
        if relay is not None:
            pipe.recv()
            relay.stop()


def chain_tensors(mib: int, fill: bool) -> Named:
    named = [(f"layers.{n}.w", torch.zeros(MIB // 2, dtype=torch.bfloat16)) for n in range(mib)]
    for _, tensor in named if fill else ():
        tensor.view(torch.int64).random_()
    return named


def chain(given: Any) -> None:
    named = chain_tensors(given.chain_mib, True)
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(CHAIN_JOINERS):
        pipe, other = context.Pipe()
        process = context.Process(target=chain_joiner, args=(other, given.chain_mib, given.chain_mib_s))
        process.start()
        pipes.append(pipe)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()
    print(
        f"\nchain: {given.chain_mib} MiB in chunks of 1 MiB, every node sends at most"
        f" {given.chain_mib_s:g} MiB/s; seconds until all have everything"
    )
    one = chain_run(named, pipes[:1], given, chained=True)
    chained = chain_run(named, pipes, given, chained=True)
    again = chain_run(named, pipes[:1], given, chained=True)
    alone = statistics.mean((one, again))
    print(f"  one joiner                 {one:7.2f}, and again {again:7.2f}")
    print(f"  {CHAIN_JOINERS} joiners, chain           {chained:7.2f}   x one joiner {chained / alone:6.3f}")
    star = chain_run(named, pipes, given, chained=False)
    print(f"  {CHAIN_JOINERS} joiners, one by one      {star:7.2f}   x one joiner {star / alone:6.3f}")
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(None)
        process.join(60)


def chain_run(named: Named, pipes: list[Any], given: Any, *, chained: bool) -> float:
    """Seconds from the start of all joiners, or of the first of a star that serves serially, to the last."""
    capped = options(1, chain=chained, bandwidth_bytes_s=given.chain_mib_s * MIB)
    seed = new_source(WeightSet(named, MIB), capped)
    address = str(seed.start())
    digested(seed)
    began = time.monotonic()
    if chained:
        for pipe in pipes:
            pipe.send((address, True))
        ends = [pipe.recv() for pipe in pipes]
        for pipe in pipes:
            pipe.send("done")
        fed_by_seed = [source for _, source in ends if source == address]
        assert len(fed_by_seed) == 1, f"the seed fed {len(fed_by_seed)} joiners"
    else:
        ends = []
        for pipe in pipes:
            pipe.send((address, False))
            ends.append(pipe.recv())
    seed.stop()
    return max(moment for moment, _ in ends) - began


# Faults -----------------------------------------------------------------------------------------------


def fault_seed(pipe: Any) -> None:
    quiet()
    named = chain_tensors(8, True)
    source = new_source(WeightSet(named, MIB), options(1, timeouts=Timeouts()))
    pipe.send(str(source.start()))
    pipe.recv()
    source.stop()


def victim(pipe: Any, address: str, place: str) -> None:
    """A joiner that says when it is at ``place`` and stays there."""
    quiet()
    from tests.e2e.engine import places

    named = chain_tensors(8, False)

    def hold() -> None:
        pipe.send(os.getpid())
        time.sleep(3600)

    places.install("joiner", place, hold)
    with contextlib.suppress(NoSource):
        join(WeightSet(named, MIB), options(1), [address])


def faults(given: Any) -> None:
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    seed = context.Process(target=fault_seed, args=(other,))
    seed.start()
    address = Address.parse(pipe.recv())
    weights = WeightSet(chain_tensors(8, False), MIB)

    def served() -> float:
        began = time.perf_counter()
        join(weights, options(1), [str(address)])
        return time.perf_counter() - began

    served()
    print("\nfaults: 8 MiB; seconds of the next good join, begun right after the fault")
    slowest = 0.0
    for name, fault in fault_list(context, address):
        with fault():
            seconds = served()
        slowest = max(slowest, seconds)
        print(f"  {name:48} {seconds:6.3f}", flush=True)
    print(f"  {'without a fault':48} {served():6.3f}\n  {'slowest':48} {slowest:6.3f}   (limit 1)")
    pipe.send(None)
    seed.join(60)


def fault_list(context: Any, address: Address) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Name and a context in which the fault has just happened."""
    content = {"device_id": 0, "model_path": "/m", "tp": 1, "pp": 1, "port": 9, "group_name": "netloader"}
    stale = json.dumps({"label": "JOIN", "content": {**content, "int8_cache": "no"}}).encode()
    yield "20 connections that say nothing (F1)", lambda: connections(address, 20, b"")
    yield "10 JOINs whose sender is gone (F2)", lambda: connections(address, 10, stale, close=True)
    yield "10 JOINs whose store never opens (F2)", lambda: connections(address, 10, stale)
    yield "20 connections reset inside a JOIN (F3)", lambda: connections(address, 20, stale[:50], reset=True)
    yield "20 times no UTF-8 (F3)", lambda: connections(address, 20, b"\xff\xfe\x00" * 100)
    yield "20 JOINs of 2000 bytes (F4)", lambda: connections(address, 20, b"{" + b" " * 2000)
    for fate, number in (("killed", signal.SIGKILL), ("stopped", signal.SIGSTOP)):
        for place in ("connect", "join", "identity", "manifest", "link", "wire:3", "done"):
            yield f"a joiner {fate}: {place}", lambda p=place, n=number: lost_joiner(context, address, p, n)


@contextlib.contextmanager
def connections(
    address: Address, count: int, data: bytes, *, close: bool = False, reset: bool = False
) -> Iterator[None]:
    socks = [socket.create_connection((address.host, address.port), 10) for _ in range(count)]
    for sock in socks:
        with contextlib.suppress(OSError):
            sock.sendall(data)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if close or reset:
            sock.close()
    yield
    for sock in socks:
        sock.close()


@contextlib.contextmanager
def lost_joiner(context: Any, address: Address, place: str, number: signal.Signals) -> Iterator[None]:
    pipe, other = context.Pipe()
    process = context.Process(target=victim, args=(other, str(address), place))
    process.start()
    os.kill(pipe.recv(), number)
    yield
    process.kill()
    process.join(60)


def quiet() -> None:
    phases_module.logger().setLevel("ERROR")


if __name__ == "__main__":
    main()

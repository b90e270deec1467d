"""What a link costs over the transport below it: our links and raw send/recv, in turns, in one run.

    python benchmarks/netloader_links.py [--kind gloo|host|nccl|cuda_ipc ...] [--mib 16 32 64] [--rounds 9]

Two processes on this machine, the source sends and the joiner receives. In each round the same bytes
go once over the link (two transfers in flight, as the loader does) and once over what it is compared with,
in alternating order:

  gloo      raw ProcessGroupGloo send/recv of the same size, one at a time and two in flight: the faster
  host      on CPUs the same as gloo; with a GPU, raw gloo between host buffers (no GPU in it)
  nccl      raw ProcessGroupNCCL send/recv, all of a round queued at once (needs two GPUs)
  cuda_ipc  a copy from one buffer of the GPU to another, the peak that any way through it has (one GPU)

Printed for each size: the median rate of both in GB/s (10^9), the median over the rounds of their ratio, and
how long the link took to open. Wanted: a ratio of 0.90 or more for gloo and nccl.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.distributed as dist

from ascendctl.netloader.engine.links import choose, rendezvous
from ascendctl.netloader.engine.links.contract import RANK_OF, Link, Role
from ascendctl.netloader.engine.links.gloo import gloo_group

IP = "127.0.0.1"
WAIT_S = 60.0
IN_FLIGHT = 2
ROUND_BYTES = {"cpu": 512 << 20, "cuda": 8 << 30}


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument(
        "--kind", nargs="*", default=["gloo"], choices=["gloo", "host", "nccl", "cuda_ipc"]
    )
    arguments.add_argument("--mib", nargs="*", type=int, default=[16, 32, 64], help="sizes of one transfer")
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--gpu", action="store_true", help="host: with the weights on a GPU")
    given = arguments.parse_args()
    context = multiprocessing.get_context("spawn")
    print(f"{'link':9} {'MiB':>4} {'link GB/s':>10} {'raw GB/s':>10} {'ratio':>6} {'open s':>7}")
    for kind in given.kind:
        queue: Any = context.Queue()
        ports: Any = context.Queue()
        ends = [
            context.Process(target=end, args=(role, kind, given.mib, given.rounds, given.gpu, ports, queue))
            for role in ("joiner", "source")
        ]
        for process in ends:
            process.start()
        for _ in given.mib:
            mib, link, raw, ratio, open_s = queue.get(timeout=600)
            print(f"{kind:9} {mib:4} {link:10.2f} {raw:10.2f} {ratio:6.3f} {open_s:7.3f}", flush=True)
        for process in ends:
            process.join(60)


def end(role: Role, kind: str, sizes: list[int], rounds: int, gpu: bool, ports: Any, queue: Any) -> None:
    """One process: all sizes of one kind of link."""
    rank = RANK_OF[role]
    device = torch.device("cpu")
    if kind in ("nccl", "cuda_ipc") or gpu:
        device = torch.device("cuda", rank if kind == "nccl" else 0)
        torch.cuda.set_device(device)
    hosted = None
    if role == "joiner":
        hosted = rendezvous.hosted_store(IP, WAIT_S)
        ports.put(hosted.port)
        store: dist.Store = hosted.store
    else:
        store = rendezvous.joined_store(IP, ports.get(), WAIT_S)
    began = time.perf_counter()
    link = choose.open_link(
        kind, role=role, store=store, prefix="link/", device=device, local_ip=IP, timeout_s=WAIT_S
    )
    open_s = time.perf_counter() - began
    words = rendezvous.prefixed(store, "words/", WAIT_S)
    meet = rendezvous.peer_socket(words, hosts=rank == 0, local_ip=IP, timeout_s=WAIT_S)
    raw_device = device if kind == "nccl" else torch.device("cpu")
    group = raw_group(kind, store, rank)
    for mib in sizes:
        size = mib << 20
        count = max(2, ROUND_BYTES[device.type if kind != "host" else "cpu"] // size)
        ours = [torch.full((size,), 1, dtype=torch.uint8, device=device) for _ in range(IN_FLIGHT)]
        theirs = [torch.full((size,), 1, dtype=torch.uint8, device=raw_device) for _ in range(IN_FLIGHT)]
        ways: dict[str, Callable[[], None]] = {"link": lambda: over_link(link, role, ours, count)}  # noqa: B023
        if kind == "cuda_ipc":
            ways["raw"] = lambda: copies(ours, count)  # noqa: B023
        elif kind == "nccl":
            ways["raw"] = lambda: over_nccl(group, rank, theirs, count)  # noqa: B023
        else:
            ways["raw"] = lambda: over_gloo(group, rank, theirs, count, 1)  # noqa: B023
            ways["raw2"] = lambda: over_gloo(group, rank, theirs, count, 2)  # noqa: B023
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(rounds + 1):
            order = list(ways) if turn % 2 else list(ways)[::-1]
            for name in order:
                alone = name == "raw" and kind == "cuda_ipc"
                seconds = timed(ways[name], meet, device, runs=role == "joiner" or not alone)
                if turn:
                    rates[name].append(count * size / seconds / 1e9)
        if role == "joiner":
            best = max(
                (name for name in rates if name != "link"), key=lambda name: statistics.median(rates[name])
            )
            ratio = statistics.median(a / b for a, b in zip(rates["link"], rates[best], strict=True))
            medians = (statistics.median(rates[name]) for name in ("link", best))
            queue.put((mib, *medians, ratio, open_s))
    meet.sendall(b".")
    meet.recv(1)
    link.close()


def raw_group(kind: str, store: dist.Store, rank: int) -> Any:
    """torch's own process group for the comparison."""
    inside = rendezvous.prefixed(store, "raw/", WAIT_S)
    if kind == "nccl":
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = timedelta(seconds=WAIT_S)
        return dist.ProcessGroupNCCL(inside, rank, 2, options)
    return gloo_group(inside, rank, IP, WAIT_S)


def timed(way: Callable[[], None], meet: Any, device: torch.device, *, runs: bool) -> float:
    """Seconds from when both ends are ready to when this one is through."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    meet.sendall(b".")
    meet.recv(1)
    began = time.perf_counter()
    if runs:
        way()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - began
    meet.sendall(b".")
    meet.recv(1)
    return seconds


def over_link(link: Link, role: Role, buffers: list[torch.Tensor], count: int) -> None:
    under_way: list[Any] = []
    for number in range(count):
        if len(under_way) == IN_FLIGHT:
            under_way.pop(0).wait(WAIT_S)
        data = buffers[number % IN_FLIGHT]
        under_way.append(link.send(data) if role == "source" else link.receive(data))
    for pending in under_way:
        pending.wait(WAIT_S)


def over_gloo(group: Any, rank: int, buffers: list[torch.Tensor], count: int, in_flight: int) -> None:
    under_way: list[Any] = []
    for number in range(count):
        if len(under_way) == in_flight:
            under_way.pop(0).wait()
        call = group.send if rank == 1 else group.recv
        under_way.append(call([buffers[number % len(buffers)]], 1 - rank, 0))
    for work in under_way:
        work.wait()


def over_nccl(group: Any, rank: int, buffers: list[torch.Tensor], count: int) -> None:
    for number in range(count):
        call = group.send if rank == 1 else group.recv
        call([buffers[number % len(buffers)]], 1 - rank, 0).wait()


def copies(buffers: list[torch.Tensor], count: int) -> None:
    for _ in range(count):
        buffers[0].copy_(buffers[1])


if __name__ == "__main__":
    main()

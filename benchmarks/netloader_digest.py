"""What integrity and packing cost: rates of the digest beside others, and µs per small tensor.

    python benchmarks/netloader_digest.py [--device cpu|cuda] [--mib 64] [--tensors 2000] [--rounds 7]

All are measured in turn, ``--rounds`` times, and the best of each is shown: on a shared machine only figures
of one run can be compared. Needs torch; neither a network nor vLLM.
"""

from __future__ import annotations

import argparse
import hashlib
import time
import zlib
from collections.abc import Callable, Mapping

import torch

from ascendctl.netloader.engine.digest import Digester, digest
from ascendctl.netloader.engine.manifest import MAX_CHUNK_BYTES, MIB
from ascendctl.netloader.engine.weights import WeightSet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--mib", type=int, default=64, help="size of what is digested")
    parser.add_argument("--tensors", type=int, default=2000, help="how many small tensors are packed")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    print(f"device {device}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    _print_rates(chosen.mib * MIB, chosen.rounds, device)
    for nbytes in (128, 8192):
        _print_packing(chosen.tensors, nbytes, chosen.rounds, device)


def _print_rates(nbytes: int, rounds: int, device: torch.device) -> None:
    data = torch.randint(0, 256, (nbytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(data)
    in_host = bytearray(nbytes)
    torch.frombuffer(in_host, dtype=torch.uint8).copy_(data)
    # On a device the host's digests begin with the way to the host, which is not counted here.
    ways: dict[str, Callable[[], object]] = {
        "digest": lambda: digest(data),
        "crc32 (host)": lambda: zlib.crc32(in_host),
        "sha256 (host)": lambda: hashlib.sha256(in_host).digest(),
        "copy": lambda: target.copy_(data),
    }
    with Digester(device) as digester:
        parts = data.split(max(nbytes // 4, 1))
        ways["digest, beside, in 4"] = lambda: [p.result() for p in [digester.submit(part) for part in parts]]
        seconds = _best(ways, rounds, device)
    print(f"\n{nbytes // MIB} MiB                  GB/s   x digest")
    for way, taken_s in seconds.items():
        print(f"  {way:<20} {nbytes / taken_s / 1e9:8.2f}   {seconds['digest'] / taken_s:6.2f}")


def _print_packing(count: int, nbytes: int, rounds: int, device: torch.device) -> None:
    def tensors() -> list[tuple[str, torch.Tensor]]:
        made = torch.randint(0, 256, (count, nbytes), dtype=torch.uint8, device=device)
        return [(f"layers.{n}.weight", one.view(torch.bfloat16)) for n, one in enumerate(made)]

    source, target = WeightSet(tensors()), WeightSet(tensors())
    staging = torch.empty(min(source.total_bytes, MAX_CHUNK_BYTES), dtype=torch.uint8, device=device)
    pairs = [(one, torch.empty_like(one)) for _, one in tensors()]

    def pack() -> None:
        for chunk in source.manifest.chunks:
            source.outgoing(chunk, staging)

    def unpack() -> None:
        for chunk in source.manifest.chunks:
            target.incoming(chunk, staging).commit()

    def loop() -> None:
        for one, other in pairs:
            other.copy_(one)
            _finish(device)

    ways: dict[str, Callable[[], object]] = {
        "pack": pack,
        "unpack": unpack,
        "copy, one by one, each awaited": loop,
    }
    seconds = _best(ways, rounds, device)
    print(f"\n{count} tensors of {nbytes} bytes in {len(source.manifest.chunks)} chunks: µs each")
    for way, taken_s in seconds.items():
        print(f"  {way:<31} {taken_s / count * 1e6:8.2f}")
    print(f"  {'pack + unpack':<31} {(seconds['pack'] + seconds['unpack']) / count * 1e6:8.2f}   (limit 25)")


def _best(ways: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Seconds of the fastest of ``rounds`` (and one before, which does not count), all in turn."""
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(rounds + 1):
        for name, way in ways.items():
            _finish(device)
            begun = time.perf_counter()
            way()
            _finish(device)
            if turn:
                best[name] = min(best[name], time.perf_counter() - begun)
    return best


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()

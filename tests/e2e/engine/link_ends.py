"""One end of a link as a process of its own, told what to do line by line: what tests kill, stop and watch.

    python link_ends.py source|joiner LOCAL_IP DEVICE

reads one JSON object per line and answers each with one. Device ``shared`` is CPU memory that two processes
share, which stands in for one GPU of two processes in the cuda_ipc link.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 120.0
GROUP = "netloader"


class End:
    """The process of one end, as its test sees it."""

    def __init__(self, role: str, local_ip: str, device: str = "cpu") -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), role, local_ip, device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TORCH_CPP_LOG_LEVEL": "FATAL"},
        )
        self.pid = self.process.pid

    def tell(self, do: str, **what: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **what}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Its next answer; fails the test if none comes or the process died."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        assert ready, "the end does not answer"
        line = self.process.stdout.readline()
        assert line, f"the end died with {self.process.wait()}"
        return dict(json.loads(line))

    def ask(self, do: str, **what: Any) -> dict[str, Any]:
        self.tell(do, **what)
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def leave(self) -> int:
        """Let it end by itself; its exit code."""
        self.tell("leave")
        return self.process.wait(PATIENCE_S)

    def __enter__(self) -> End:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def listening_on(pid: int) -> set[str]:
    """The addresses, as /proc/net/tcp and tcp6 write them, on which process ``pid`` listens."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(entry.readlink()))
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                found.add(words[1].partition(":")[0])
    return found


def _main(role: str, local_ip: str, device_name: str) -> None:
    import torch

    from ascendctl.netloader.engine.links import choose, rendezvous
    from ascendctl.netloader.engine.links.contract import RANK_OF, Link, LinkError, Pending
    from ascendctl.netloader.engine.links.cuda_ipc import CudaIpcLink
    from ascendctl.netloader.engine.links.host import HostLink
    from ascendctl.netloader.engine.links.legacy import LegacyGroup

    device = torch.device("cpu" if device_name == "shared" else device_name)
    torch.set_num_threads(1)
    ramp = torch.arange(251, dtype=torch.uint8, device=device)
    hosted: rendezvous.Hosted | None = None
    link: Link | None = None
    legacy: LegacyGroup | None = None
    posted: list[tuple[Pending, torch.Tensor, int]] = []

    def pattern(index: int, size: int) -> torch.Tensor:
        """Bytes that tell where they belong: another start for each transfer, and 251 is no power of 2."""
        start = (37 * index) % 251
        return ramp.repeat(size // 251 + 3)[start : start + size].clone()

    def store(ask: dict[str, Any]) -> Any:
        nonlocal hosted
        if role == "joiner":
            if hosted is None:
                hosted = rendezvous.hosted_store(local_ip, ask.get("timeout_s", 30.0))
            return hosted.store
        return rendezvous.joined_store(ask["ip"], ask["port"], ask.get("timeout_s", 30.0))

    def done(ask: dict[str, Any]) -> dict[str, Any]:
        nonlocal link, legacy, hosted
        match ask["do"]:
            case "host":
                store(ask)
                assert hosted is not None
                return {"ip": hosted.ip, "port": hosted.port}
            case "open":
                prefix = ask.get("prefix") or rendezvous.group_prefix(ask["ip"], ask["port"], GROUP)
                timeout_s = ask.get("timeout_s", 30.0)
                posted.clear()
                if ask["kind"] == "staged":
                    inside = rendezvous.prefixed(store(ask), prefix, timeout_s)
                    link = HostLink(inside, RANK_OF[role], device, local_ip, timeout_s)
                elif device_name == "shared":
                    inside = rendezvous.prefixed(store(ask), prefix, timeout_s)
                    link = CudaIpcLink(
                        inside, RANK_OF[role], device, local_ip, timeout_s, SharedMemory(), ask["slot_bytes"]
                    )
                else:
                    link = choose.open_link(
                        ask["kind"],
                        role=role,
                        store=store(ask),
                        prefix=prefix,
                        device=device,
                        local_ip=local_ip,
                        timeout_s=timeout_s,
                    )
                return {"kind": link.kind}
            case "legacy":
                prefix = rendezvous.group_prefix(ask["ip"], ask["port"], GROUP)
                legacy = LegacyGroup(
                    store(ask), prefix, RANK_OF[role], device, ask.get("timeout_s", 30.0), local_ip
                )
                return {}
            case "legacy-send":
                assert legacy is not None
                for number in range(ask["count"]):
                    legacy.send(torch.full((3, number + 1), float(number), dtype=torch.bfloat16))
                legacy.barrier()
                return {}
            case "legacy-receive":
                assert legacy is not None
                right = True
                for number in range(ask["count"]):
                    into = torch.empty((3, number + 1), dtype=torch.bfloat16)
                    legacy.recv(into)
                    right = right and bool((into == number).all())
                legacy.barrier()
                return {"right": right}
            case "post":
                assert link is not None
                for index, size in enumerate(ask["sizes"], start=ask.get("first", 0)):
                    if role == "source":
                        data = pattern(index, size)
                        posted.append((link.send(data), data, index))
                    else:
                        data = torch.zeros(size, dtype=torch.uint8, device=device)
                        posted.append((link.receive(data), data, index))
                return {}
            case "wait":
                began = time.monotonic()
                right = True
                try:
                    while posted:
                        pending, data, index = posted.pop(0)
                        pending.wait(ask["timeout_s"])
                        right = right and bool((data == pattern(index, data.numel())).all())
                except LinkError as error:
                    return {
                        "error": type(error).__name__,
                        "words": str(error),
                        "seconds": time.monotonic() - began,
                    }
                return {"right": right, "seconds": time.monotonic() - began}
            case "abort-soon":
                assert link is not None
                threading.Timer(ask["after_s"], link.abort, ["the test said so"]).start()
                return {}
            case "close":
                assert link is not None
                link.close()
                link = None
                if hosted is not None:
                    hosted.close()
                    hosted = None
                return {}
            case "works":
                # The accelerator and the process are of use after what happened.
                ones = torch.ones(1 << 20, device=device)
                return {"sum": float(ones.sum())}
        raise AssertionError(ask)

    for line in sys.stdin:
        ask = json.loads(line)
        if ask["do"] == "leave":
            break
        try:
            answer = done(ask)
        except LinkError as error:
            answer = {"error": type(error).__name__, "words": str(error)}
        print(json.dumps(answer), flush=True)


class SharedMemory:
    """`ascendctl.netloader.engine.links.cuda_ipc.Memory` in files that two processes map."""

    def __init__(self) -> None:
        self._maps: dict[int, tuple[mmap.mmap, str | None]] = {}

    def allocate(self, size: int) -> int:
        descriptor, path = tempfile.mkstemp(dir="/dev/shm", prefix="ascendctl-test-")
        os.truncate(descriptor, size)
        return self._mapped(descriptor, size, path)

    def free(self, address: int) -> None:
        _, path = self._maps.pop(address)
        if path is not None:
            Path(path).unlink(missing_ok=True)

    def export(self, address: int) -> str:
        path = self._maps[address][1]
        assert path is not None
        return path.encode().hex()

    def open(self, handle: str) -> int:
        path = bytes.fromhex(handle).decode()
        address = self._mapped(os.open(path, os.O_RDWR), Path(path).stat().st_size, None)
        # Nothing is left behind when the source is killed.
        Path(path).unlink()
        return address

    def shut(self, address: int) -> None:
        self._maps.pop(address)

    def mark(self) -> None:
        return None

    def copy(self, to: int, source: int, size: int, after: object) -> tuple[int, int, int]:
        return to, source, size

    def finish(self, copy: tuple[int, int, int]) -> None:
        """As late as a GPU may: what is said to be done before is not there."""
        import ctypes

        ctypes.memmove(*copy)

    def _mapped(self, descriptor: int, size: int, path: str | None) -> int:
        import ctypes

        mapped = mmap.mmap(descriptor, size)
        os.close(descriptor)
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        self._maps[address] = (mapped, path)
        return address


if __name__ == "__main__":
    _main(*sys.argv[1:4])

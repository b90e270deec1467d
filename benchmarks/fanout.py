"""What asking a cluster costs, over its floor: real OpenSSH servers, rendered stand-in tools.

    python benchmarks/fanout.py --hosts 1000 [--width 64] [--clush] [--generation a2]

In one run, on the same hosts:

  A  connect and run ``true``: paramiko's client, nothing else, as many at a time as verify
  B  the probe script run locally once per host, as many at a time as there are cores
  C  ``ascendctl verify --inventory``, the whole command as a process of its own
  D  clush running the multi-node guide's loops, where it is installed (``--clush``)

and prints C / (A + B), and the controller's peak memory. Every simulated host has its own address and
port and sees the same rendered tools, whose answers were written beforehand. The servers run here too,
so the floor is what this machine needs to be all the hosts at once. Nothing leaves loopback.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ascendctl.facts import Profile
from ascendctl.probe.catalogue import commands_of
from ascendctl.probe.script import allowed, build_script, new_nonce
from ascendctl.sim.render import render_cluster
from ascendctl.sim.spec import make_spec
from tests.openssh import FarmHost, OpenSSHFarm

GUIDE_LOOPS = """
for i in $(seq 0 {last}); do hccn_tool -i $i -lldp -g | grep Ifname; done
for i in $(seq 0 {last}); do hccn_tool -i $i -link -g; done
for i in $(seq 0 {last}); do hccn_tool -i $i -net_health -g; done
for i in $(seq 0 {last}); do hccn_tool -i $i -netdetect -g; done
for i in $(seq 0 {last}); do hccn_tool -i $i -gateway -g; done
for i in $(seq 0 {last}); do hccn_tool -i $i -ip -g; done
for i in $(seq 0 {last}); do hccn_tool -i $i -vnic -g; done
for i in $(seq 0 {last}); do hccn_tool -i $i -tls -g | grep switch; done
cat /etc/hccn.conf
"""
DEVICES = {"a2": 8, "a3": 16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--generation", choices=sorted(DEVICES), default="a2")
    parser.add_argument("--clush", action="store_true", help="also run clush with the guide's loops")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, farm(options, Path(name)) as (servers, bin_path):
        hosts = [servers.host(name) for name in servers.names]
        devices = DEVICES[options.generation]
        print(f"{len(hosts)} hosts of {devices} devices, {options.width} at a time, {os.cpu_count()} cores")
        bare_s = timed("A  connect and true (paramiko)", lambda: bare(servers, hosts, options.width))
        local_s = timed("B  the same scripts, locally", lambda: locally(bin_path, len(hosts)))
        verify_s, peak_mib = verify(servers, hosts, options, Path(name))
        print(f"C  ascendctl verify              {verify_s:8.1f} s   controller peak {peak_mib:.0f} MiB")
        print(f"C / (A + B) = {verify_s / (bare_s + local_s):.2f}")
        if options.clush:
            clush(servers, hosts, options, Path(name), verify_s)


@contextlib.contextmanager
def farm(options: argparse.Namespace, folder: Path) -> Iterator[tuple[OpenSSHFarm, str]]:
    spec = make_spec(generation=options.generation, hosts=1)
    (rendered,) = render_cluster(spec, folder / "hosts", cheap=True)
    path = f"{rendered.bin}:/usr/bin:/bin"
    names = [f"node{number:04d}" for number in range(1, options.hosts + 1)]
    with OpenSSHFarm([(name, path) for name in names]) as servers:
        yield servers, path


def timed(label: str, job: object) -> float:
    assert callable(job)
    started = time.perf_counter()
    job()
    seconds = time.perf_counter() - started
    print(f"{label:<32} {seconds:8.1f} s", flush=True)
    return seconds


def bare(servers: OpenSSHFarm, hosts: list[FarmHost], width: int) -> None:
    import paramiko

    key = paramiko.Ed25519Key.from_private_key_file(str(servers.client_key))

    def one(host: FarmHost) -> None:
        transport = paramiko.Transport((host.address, host.port))
        try:
            transport.connect(username=servers.user, pkey=key)
            channel = transport.open_session()
            channel.exec_command("true")
            assert channel.recv_exit_status() == 0
        finally:
            transport.close()

    with concurrent.futures.ThreadPoolExecutor(width) as pool:
        list(pool.map(one, hosts))


def locally(path: str, count: int) -> None:
    script = build_script(new_nonce(), sudo=False, commands=allowed(commands_of(Profile.STANDARD)))

    def one(_: int) -> None:
        done = subprocess.run(
            ["/bin/sh", "-s"], input=script, capture_output=True, check=True, env={"PATH": path}
        )
        assert done.stdout.rstrip().endswith(b"done")

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, range(count)))


def verify(
    servers: OpenSSHFarm, hosts: list[FarmHost], options: argparse.Namespace, folder: Path
) -> tuple[float, float]:
    """Wall seconds and peak MiB of the whole command; its report must be complete and green."""
    ssh = {
        "user": servers.user,
        "identity": str(servers.client_key),
        "known_hosts": str(servers.known_hosts),
        "config": False,
    }
    entries = [{"name": h.name, "address": h.address, "ssh": {"port": h.port}} for h in hosts]
    inventory = folder / "inventory.yaml"
    defaults = {"ssh": ssh, "generation": options.generation}
    inventory.write_text(yaml.safe_dump({"version": 1, "defaults": defaults, "hosts": entries}))
    report = folder / "report.json"
    argv = [sys.executable, "-m", "ascendctl", "verify", "-i", str(inventory), "--format", "json"]
    argv += ["--mesh", "off"]
    with report.open("wb") as stream:
        started = time.perf_counter()
        process = subprocess.Popen([*argv, "--width", str(options.width)], stdout=stream)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    document = json.loads(report.read_text())
    bad = [r for r in document["results"] if r["status"] not in ("pass", "not-applicable")]
    if process.returncode or bad:
        print(f"   verify exited {process.returncode} with {len(bad)} cells not passed, first: {bad[:1]}")
    return seconds, usage.ru_maxrss / 1024


def clush(
    servers: OpenSSHFarm, hosts: list[FarmHost], options: argparse.Namespace, folder: Path, verify_s: float
) -> None:
    program = shutil.which("clush") or str(Path(sys.executable).with_name("clush"))
    if not Path(program).exists():
        print("D  clush is not installed")
        return
    config = folder / "ssh_config"
    lines = [f"Host {h.name}\n HostName {h.address}\n Port {h.port}\n" for h in hosts]
    common = f"Host *\n User {servers.user}\n IdentityFile {servers.client_key}\n IdentitiesOnly yes\n"
    common += f" UserKnownHostsFile {servers.known_hosts}\n"
    config.write_text("".join(lines) + common)
    loops = GUIDE_LOOPS.format(last=DEVICES[options.generation] - 1).strip().replace("\n", "; ")
    nodes = ",".join(h.name for h in hosts)
    argv = [program, "-f", str(options.width), "-o", f"-F {config}", "-w", nodes, "-S", loops]
    started = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout
    lines_read = sum(1 for _ in process.stdout)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    print(
        f"D  clush, the guide's loops      {seconds:8.1f} s   peak {usage.ru_maxrss / 1024:.0f} MiB,"
        f" exit {process.returncode}, {lines_read} lines; C / D = {verify_s / seconds:.2f}"
    )
    print("   (the loops ask 8 commands per device and judge nothing; verify asks 11 and judges all)")


if __name__ == "__main__":
    main()

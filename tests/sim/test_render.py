"""The rendered stand-ins, run by a real shell."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ascendctl.sim.faults import cluster_of
from ascendctl.sim.render import RenderedHost, render_cluster
from ascendctl.sim.spec import make_spec
from ascendctl.sim.surroundings import meminfo_text
from ascendctl.sim.tools import answer

PATIENCE_S = 60
BUSY = b"hccn_tool is busy, please try again.\n"


def rendered(folder: Path, *faults: dict[str, Any], cheap: bool = False, **fields: Any) -> RenderedHost:
    fields = {"generation": "a2", "hosts": 1, **fields}
    spec = make_spec(faults=[{"host": "node01", **fault} for fault in faults], **fields)
    return render_cluster(spec, folder / "hosts", cheap=cheap)[0]


def start(host: RenderedHost, script: str) -> subprocess.Popen[bytes]:
    """Run a script with the host's stand-ins first in PATH, in a session of its own."""
    return subprocess.Popen(
        ["/bin/sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": f"{host.bin}:/usr/bin:/bin"},
        cwd=host.directory,
        start_new_session=True,
    )


def sh(host: RenderedHost, script: str) -> subprocess.CompletedProcess[bytes]:
    child = start(host, script)
    out, err = child.communicate(timeout=PATIENCE_S)
    return subprocess.CompletedProcess(script, child.returncode, out, err)


def processes_in(directory: Path) -> list[int]:
    """Processes whose working directory is the host's: whatever its stand-ins left behind."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if (entry / "cwd").readlink() == directory:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose hosts' leftovers are ended with the test."""
    yield tmp_path
    for directory in (tmp_path / "hosts").glob("*"):
        for process in processes_in(directory):
            os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize("generation", ["a2", "a3"])
def test_a_stand_in_prints_what_the_tool_would(folder: Path, generation: str) -> None:
    host = rendered(folder, {"kind": "ip-missing", "device": 1}, generation=generation)
    cluster = cluster_of(
        make_spec(
            generation=generation, hosts=1, faults=[{"host": "node01", "kind": "ip-missing", "device": 1}]
        )
    )
    lines = ["npu-smi info", "npu-smi info -m", "hccn_tool -i 1 -ip -g", "hccn_tool -i 3 -lldp -g"]
    lines += [
        "hccn_tool -i 0 -link_stat -g",
        "hccn_tool -i 77 -link -g",
        *(f"hccn_tool -i 3 -{option} -g" for option in ("optical", "stat", "hw_stats", "speed", "duplex")),
        "npu-smi info -t ecc -i 1 -c 0",
        "npu-smi info -t spod-info -i 0 -c 0",
    ]
    for line in lines:
        ran, given = sh(host, line), answer(cluster.hosts[0], line.split(), cluster)
        assert (ran.stdout, ran.stderr, ran.returncode) == (given.stdout, given.stderr, given.exit_code), line


def test_only_what_was_not_foreseen_starts_an_interpreter(folder: Path) -> None:
    """With no interpreter to be found, the guide's commands still answer, and pings that lose nothing."""
    host = rendered(folder, {"kind": "port-loss", "device": 5, "value": 30}, hosts=2)
    tools = (host.bin / "hccn_tool", host.bin / "npu-smi")
    for script in (*tools, host.directory / "answers" / "hccn_tool" / "ping"):
        interpreter = f"exec {sys.executable}"
        assert interpreter in script.read_text()
        script.write_text(script.read_text().replace(interpreter, "exit 99; "))
    assert sh(host, "hccn_tool -i 0 -net_health -g").stdout == b"net health status: Success\n"
    assert sh(host, "hccn_tool -i 0 -fec -g").stdout == b"fec mode: auto FEC mode\n"
    for line in ("info", "info -t topo", "info -t health -i 3 -c 0", "info -t ecc -i 7 -c 0"):
        assert sh(host, f"npu-smi {line}").returncode == 0, line
    assert b"3 received" in sh(host, "hccn_tool -i 0 -ping -g address 10.20.2.12").stdout
    assert sh(host, "hccn_tool -i 5 -ping -g address 10.20.2.12").returncode == 99
    assert sh(host, "hccn_tool -i 0 -ping -g address 10.20.1.16").returncode == 99
    assert sh(host, "hccn_tool -i 0 -arp -g").returncode == 99


ROCE_PING, HCCS_PING = "-i {device} -ping -g address {roce}", "-i {device} -hccs_ping -g address {vnic}"
PINGS = {
    "a2": [ROCE_PING, ROCE_PING],
    "a3": [ROCE_PING, HCCS_PING, *(f"{HCCS_PING} cnt {count}" for count in (20, 21))],
}


@pytest.mark.parametrize("generation", ["a2", "a3"])
def test_pings_are_made_as_the_model_says(folder: Path, generation: str) -> None:
    """From a device that loses nothing, one that loses some, one whose link is down, one of two that share
    an address; to others such."""
    faults = [
        {"host": "node01", "kind": "port-loss", "device": 1, "value": "40-out"},
        {"host": "node01", "kind": "link-down", "device": 2},
        {"host": "node01", "kind": "ip-duplicate", "device": 3, "value": "node01:5"},
        {"host": "node02", "kind": "port-loss", "device": 1, "value": 50},
        {"host": "node02", "kind": "ip-duplicate", "device": 3, "value": "node02:5"},
    ]
    if generation == "a3":
        faults += [
            {"host": "node01", "kind": "hccs-loss", "device": 1, "value": 40},
            {"host": "node02", "kind": "spod-invalid", "device": 3},
            {"host": "node03", "kind": "pod-split"},
        ]
    spec = make_spec(generation=generation, hosts=4, hosts_per_super_pod=3, faults=faults)
    host = render_cluster(spec, folder / "hosts")[0]
    cluster = cluster_of(spec)
    fates = set()
    for target, device, (number, words) in itertools.product(
        (1, 2, 3), (0, 1, 2, 3), enumerate(PINGS[generation])
    ):
        peer = cluster.hosts[target].dies[(device + number) % 4]
        ping = words.format(device=device, roce=peer.port.address, vnic=peer.vnic.address)
        ran = sh(host, f"rm -f busy/ping*; hccn_tool {ping}")
        given = answer(cluster.hosts[0], ["hccn_tool", *ping.split()], cluster)
        got = (ran.stdout, ran.stderr, ran.returncode)
        assert got == (given.stdout, given.stderr, given.exit_code), ping
        fates.add(next(word for word in ran.stdout.split() if word.endswith(b"%")))
    assert {b"0.00%", b"100.00%"} < fates


def test_what_only_the_whole_tool_knows_of_pings(folder: Path) -> None:
    spec = make_spec(generation="a2", hosts=2)
    host, cluster = render_cluster(spec, folder / "hosts")[0], cluster_of(spec)
    for words in ("-ping -g address 10.20.2.11 pkt 64", "-hccs_ping -g address 192.168.2.199"):
        ran = sh(host, f"hccn_tool -i 1 {words}")
        given = answer(cluster.hosts[0], ["hccn_tool", "-i", "1", *words.split()], cluster)
        assert (ran.stdout, ran.stderr, ran.returncode) == (given.stdout, given.stderr, given.exit_code)


def test_a_ping_made_again_may_meet_another_fate(folder: Path) -> None:
    fault = {"kind": "port-loss", "device": 1, "value": 50}
    host = rendered(folder, fault, hosts=2)
    cluster = cluster_of(make_spec(generation="a2", hosts=2, faults=[{"host": "node01", **fault}]))
    for attempt in range(6):
        ran = sh(host, "hccn_tool -i 1 -ping -g address 10.20.2.11")
        times = cluster.roce_ping(cluster.hosts[0].dies[1], "10.20.2.11", 3, attempt)
        assert ran.stdout.count(b"recv time out") == times.count(None)
        assert ran.returncode == (1 if None in times else 0)


@pytest.mark.parametrize(("cheap", "limit_s"), [(False, 2), (True, PATIENCE_S // 2)])
def test_a_lost_packet_is_waited_for(folder: Path, cheap: bool, limit_s: int) -> None:
    """The wait is so long that a test that met it would not end."""
    host = rendered(folder, {"kind": "port-loss", "device": 1}, hosts=2, lost_packet_wait=60, cheap=cheap)
    ran = sh(host, f"timeout -s KILL {limit_s} hccn_tool -i 1 -ping -g address 10.20.2.11")
    assert ran.returncode == (1 if cheap else 137)


@pytest.mark.parametrize(
    "words",
    [
        "address 10.20.2.256",
        "address 10.20.2",
        "address 10.20.2.11.1",
        "address ../../network",
        "address ''",
        "address 10.20.2.11 cnt 5",
        "address",
        "",
    ],
)
def test_a_ping_that_the_tool_does_not_understand(folder: Path, words: str) -> None:
    host = rendered(folder, hosts=2)
    ran = sh(host, f"hccn_tool -i 1 -ping -g {words}")
    assert (ran.stdout, ran.stderr, ran.returncode) == (b"", b"Cmd execute failed!\n", 1)


def test_pings_misbehave_whomever_they_are_for(folder: Path) -> None:
    host = rendered(
        folder,
        hang("ignores-term", command="hccn_tool -ping"),
        {"kind": "truncated-output", "device": 3, "command": "hccn_tool -hccs_ping"},
        {"kind": "busy", "device": 4, "value": 1, "command": "hccn_tool -ping"},
        {"kind": "command-hang", "device": 5, "command": "hccn_tool"},
        generation="a3",
        hosts=2,
    )
    assert sh(host, "timeout -s KILL 1 hccn_tool -i 2 -ping -g address 10.30.2.11").returncode == 137
    assert sh(host, "hccn_tool -i 2 -hccs_ping -g address 192.1.2.199").returncode == 0
    assert b"packets loss" not in sh(host, "hccn_tool -i 3 -hccs_ping -g address 192.1.2.199").stdout
    ping = "hccn_tool -i 4 -ping -g address 10.30.2.11"
    assert [sh(host, ping).returncode for _ in range(2)] == [11, 0]
    assert sh(host, "timeout -s KILL 1 hccn_tool -i 5 -ping -g address 10.30.2.11").returncode == 137
    assert sh(host, "timeout -s KILL 1 hccn_tool -i 5 -link -g").returncode == 137


def test_hccs_ping_is_for_root(folder: Path) -> None:
    host = rendered(folder, {"kind": "hccs-ping-denied"}, generation="a3", hosts=2)
    ran = sh(host, "hccn_tool -i 5 -hccs_ping -g address 192.1.2.199")
    assert ran.stderr == b"permission denied: pls check this cmd run permission.\n"
    assert ran.returncode == 12
    assert sh(host, "hccn_tool -i 5 -ping -g address 10.30.2.11").returncode == 0


def test_the_host_around_the_tools(folder: Path) -> None:
    host = rendered(folder)
    assert sh(host, "hostname").stdout == b"node01\n"
    assert sh(host, "uname -srm").stdout.split()[0::2] == [b"Linux", b"aarch64"]
    assert b"inet 10.10.0.1/16" in sh(host, "ip -o addr show").stdout
    assert sh(host, "cat /usr/local/Ascend/driver/version.info").stdout.startswith(b"Version=25.5.0\n")
    assert sh(host, "cat /etc/hccn.conf").stdout.startswith(b"address_0=10.20.1.11\nnetmask_0=")
    assert sh(host, "date +%s").stdout.strip().isdigit()
    assert b"\nHugePages_Total:  204800\n" in sh(host, "cat /proc/meminfo").stdout
    assert b"\nNTP=yes\nNTPSynchronized=yes\n" in sh(host, "timedatectl show").stdout


def test_the_host_without_huge_pages_and_time_server(folder: Path) -> None:
    host = rendered(folder, {"kind": "no-huge-pages"}, {"kind": "time-unsynchronized"})
    assert b"\nHugePages_Total:       0\n" in sh(host, "cat /proc/meminfo").stdout
    assert b"\nNTP=yes\nNTPSynchronized=no\n" in sh(host, "timedatectl show").stdout


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="this system has no /proc/meminfo")
def test_meminfo_is_written_as_this_machines_kernel_writes_it() -> None:
    labels = ("MemTotal", "MemFree", "MemAvailable", "SwapCached", "AnonPages", "Committed_AS")
    lines = Path("/proc/meminfo").read_text().splitlines(keepends=True)
    real = {line.split(":")[0]: line for line in lines}
    memory_kib = {label: int(real[label].split()[1]) for label in labels if label in real}
    pages = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("HugePages_")}
    written = meminfo_text(memory_kib, {label.removeprefix("HugePages_"): n for label, n in pages.items()})
    assert written.splitlines(keepends=True)[: len(memory_kib) + len(pages)] == [
        *(real[label] for label in memory_kib),
        *(real[label] for label in pages),
    ]


def test_a_counter_that_grows_changes_one_file(tmp_path: Path) -> None:
    """So a cluster that runs can be given another count, as tests of what changes between runs do."""

    def answers(count: int) -> dict[Path, bytes]:
        faults = [{"host": "node01", "kind": "link-flaps", "device": 2, "value": count}]
        spec = make_spec(generation="a2", hosts=1, faults=faults)
        folder = render_cluster(spec, tmp_path / str(count))[0].directory / "answers"
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before, after = answers(7), answers(9)
    assert before.keys() == after.keys()
    assert [str(path) for path in before if before[path] != after[path]] == ["hccn_tool/2"]


@pytest.mark.parametrize("cheap", [False, True])
def test_a_deep_command_that_misbehaves_does_so(folder: Path, cheap: bool) -> None:
    host = rendered(
        folder,
        hang("ignores-term", command="hccn_tool -optical"),
        {"kind": "garbage-output", "device": 3, "command": "npu-smi info -t ecc"},
        {"kind": "truncated-output", "device": 3, "command": "hccn_tool -stat"},
        cheap=cheap,
    )
    assert sh(host, "timeout -s KILL 1 hccn_tool -i 2 -optical -g").returncode == 137
    assert sh(host, "hccn_tool -i 1 -optical -g").stdout.startswith(b"optical info:\n")
    with pytest.raises(UnicodeDecodeError):
        sh(host, "npu-smi info -t ecc -i 3 -c 0").stdout.decode()
    assert not sh(host, "hccn_tool -i 3 -stat -g").stdout.endswith(b"\n")
    assert sh(host, "hccn_tool -i 4 -stat -g").stdout.endswith(b"\n")


def test_cat_speaks_of_files_that_the_host_lacks_as_cat_does(folder: Path) -> None:
    host = rendered(folder, {"kind": "hccn-conf-missing"})
    toolkit = "/usr/local/Ascend/ascend-toolkit/latest"
    ran = sh(host, f"cat {toolkit}/aarch64-linux/ascend_toolkit_install.info {toolkit}/x86_64-linux/none")
    assert ran.returncode == 1
    assert b"version=8.5.0\n" in ran.stdout
    # GNU cat names itself as it was called; a stand-in is always called by its path, as the probe does.
    cat = host.bin / "cat"
    assert ran.stderr == f"{cat}: {toolkit}/x86_64-linux/none: No such file or directory\n".encode()
    real = subprocess.run(["/usr/bin/cat", "/no/such/file"], capture_output=True, check=False).stderr
    assert real == b"/usr/bin/cat: /no/such/file: No such file or directory\n"
    missing = sh(host, "cat /etc/hccn.conf")
    assert (missing.returncode, missing.stdout) == (1, b"")
    assert missing.stderr == f"{cat}: /etc/hccn.conf: No such file or directory\n".encode()


def test_other_files_and_other_questions_go_to_the_real_programs(folder: Path) -> None:
    host = rendered(folder)
    (folder / "mine").write_text("hello\n")
    assert sh(host, f"cat {folder}/mine").stdout == b"hello\n"
    assert sh(host, "echo piped | cat").stdout == b"piped\n"
    assert sh(host, "uname -o").stdout == subprocess.check_output(["/bin/uname", "-o"])


def test_a_clock_that_is_off(folder: Path) -> None:
    from dataclasses import replace

    from ascendctl.sim.healthy import build
    from ascendctl.sim.render import _render

    cluster = build("a2", ("node01",))
    skewed = replace(cluster.hosts[0], clock_offset_s=-3600.5)
    (folder / "hosts").mkdir()
    host = _render(cluster, skewed, folder / "hosts", cheap=False)
    shown = float(sh(host, "date +%s.%N").stdout)
    assert -3630 < shown - time.time() < -3590


def test_a_missing_tool_is_not_found(folder: Path) -> None:
    host = rendered(folder, {"kind": "no-tool", "value": "npu-smi"})
    assert sh(host, "npu-smi info").returncode == 127
    assert sh(host, "hccn_tool -i 0 -link -g").returncode == 0


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not installed")
def test_calls_at_the_same_time_meet_the_lock(folder: Path) -> None:
    """The lock is held from outside, so that the second call surely meets it; then it is free again."""
    host = rendered(folder)
    ran = sh(host, f"exec 8>{host.directory}/lock; flock 8; hccn_tool -i 0 -link -g")
    assert (ran.stdout, ran.stderr, ran.returncode) == (BUSY, b"", 11)
    assert sh(host, "hccn_tool -i 0 -link -g").returncode == 0
    assert sh(host, f"exec 8>{host.directory}/lock; flock 8; npu-smi info -m").returncode == 0


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not installed")
def test_a_slow_call_holds_the_lock_and_a_cheap_one_has_neither(folder: Path) -> None:
    slow = rendered(folder, latency=PATIENCE_S)
    first = start(slow, "hccn_tool -i 0 -link -g")
    deadline = time.monotonic() + PATIENCE_S
    while "sleep" not in [name_of(process) for process in processes_in(slow.directory)]:
        assert first.poll() is None and time.monotonic() < deadline
    assert sh(slow, "hccn_tool -i 1 -link -g").stdout == BUSY
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    cheap = rendered(folder / "cheap", latency=PATIENCE_S, cheap=True)
    before = time.monotonic()
    script = f"exec 8>{cheap.directory}/lock; flock 8; hccn_tool -i 0 -link -g"
    assert sh(cheap, script).returncode == 0
    assert time.monotonic() - before < PATIENCE_S / 2


@pytest.mark.parametrize(
    ("fault", "calls", "codes"),
    [
        ({"value": 2}, ["-i 0 -link", "-i 1 -ip", "-i 0 -link", "-i 1 -ip"], [11, 11, 0, 0]),
        ({"value": 1, "device": 1}, ["-i 0 -link", "-i 1 -link", "-i 1 -link"], [0, 11, 0]),
        ({"value": 1, "command": "hccn_tool -tls"}, ["-i 0 -link", "-i 1 -tls", "-i 2 -tls"], [0, 11, 0]),
        ({"value": "permanent", "device": 1}, ["-i 1 -link"] * 4, [11] * 4),
    ],
)
def test_busy(folder: Path, fault: dict[str, Any], calls: list[str], codes: list[int]) -> None:
    host = rendered(folder, {"kind": "busy", **fault})
    ran = [sh(host, f"hccn_tool {call} -g") for call in calls]
    assert [each.returncode for each in ran] == codes
    assert all((each.stdout == BUSY) == (each.returncode == 11) for each in ran)


def hang(form: str, **fields: Any) -> dict[str, Any]:
    return {"kind": "command-hang", "device": 2, "value": form, **fields}


def test_a_command_that_ignores_term_is_killed_and_leaves_nothing(folder: Path) -> None:
    host = rendered(folder, hang("ignores-term"))
    ran = sh(host, "timeout -k 1 1 hccn_tool -i 2 -link -g")
    assert ran.returncode == 137
    assert processes_in(host.directory) == []
    assert sh(host, "hccn_tool -i 2 -ip -g; hccn_tool -i 3 -link -g").returncode == 0


def test_a_grandchild_keeps_the_output_open_after_the_kill(folder: Path) -> None:
    host = rendered(folder, hang("grandchild"))
    child = start(host, "timeout -k 1 1 hccn_tool -i 2 -link -g; echo over >&2; exit 3")
    assert child.wait(PATIENCE_S) == 3
    with pytest.raises(subprocess.TimeoutExpired):
        child.communicate(timeout=1)
    left = processes_in(host.directory)
    assert len(left) == 1
    os.kill(left[0], signal.SIGKILL)
    assert child.communicate(timeout=PATIENCE_S) == (b"", b"over\n")
    assert sh(host, "hccn_tool -i 3 -link -g").returncode == 0


def test_a_command_that_cannot_be_killed_keeps_timeout_waiting(folder: Path) -> None:
    """Long after its limit timeout has neither ended nor killed; told to go on, it does both."""
    host = rendered(folder, hang("unkillable"))
    child = start(host, "timeout -k 1 1 hccn_tool -i 2 -link -g & echo $!; wait $!; echo $?")
    assert child.stdout is not None
    timeout_pid = int(child.stdout.readline())
    deadline = time.monotonic() + PATIENCE_S
    while state_of(timeout_pid) != "T":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(3)
    assert state_of(timeout_pid) == "T" and child.poll() is None
    os.kill(timeout_pid, signal.SIGCONT)
    assert int(child.stdout.readline()) == 137
    child.communicate(timeout=PATIENCE_S)


@pytest.mark.parametrize(
    ("fault", "hanging", "answering"),
    [
        (hang("ignores-term"), "hccn_tool -i 2 -link -g", "hccn_tool -i 1 -link -g"),
        (hang("ignores-term", command="hccn_tool -tls"), "hccn_tool -i 2 -tls -g", "hccn_tool -i 2 -link -g"),
        (
            hang("ignores-term", command="hccn_tool -link_stat"),
            "hccn_tool -i 2 -link_stat -g",
            "hccn_tool -i 2 -link -g",
        ),
        (
            {"kind": "command-hang", "command": "npu-smi info -t topo"},
            "npu-smi info -t topo",
            "npu-smi info",
        ),
        (
            {"kind": "command-hang", "device": 3, "command": "npu-smi info -t health"},
            "npu-smi info -t health -i 3 -c 0",
            "npu-smi info -t health -i 2 -c 0",
        ),
        ({"kind": "command-hang"}, "hccn_tool -i 7 -link -g", "hccn_tool -i 7 -ip -g"),
        ({"kind": "command-hang", "command": "npu-smi"}, "npu-smi info -m", "hccn_tool -i 7 -ip -g"),
    ],
)
def test_which_command_hangs(folder: Path, fault: dict[str, Any], hanging: str, answering: str) -> None:
    host = rendered(folder, fault)
    assert sh(host, answering).returncode == 0
    assert sh(host, f"timeout -s KILL 1 {hanging}").returncode == 137


def test_rendering_does_not_write_into_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(FileExistsError, match="not empty"):
        render_cluster(make_spec(generation="a2", hosts=1), tmp_path)


def test_a_rendered_folder_may_move(folder: Path) -> None:
    """The stand-ins find their answers from where they lie themselves."""
    host = rendered(folder)
    moved = folder / "elsewhere"
    shutil.move(folder / "hosts", moved)
    state = RenderedHost("node01", moved / "node01", host.state)
    assert sh(state, "hccn_tool -i 0 -link -g").stdout == b"link status: UP\n"
    assert sh(state, "hccn_tool -i 0 -mtu -g").stdout == b"mtu:4200\n"
    assert sh(state, "cat /etc/hccn.conf").returncode == 0


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

"""The probe script under a real /bin/sh, with stand-in tools on PATH: hanging, busy, lost, killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ascendctl.facts import Profile
from ascendctl.probe.capture import HostCapture, decode
from ascendctl.probe.catalogue import BY_ID, Command, commands_of
from ascendctl.probe.frames import Target
from ascendctl.probe.script import build_script, new_nonce

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]
SHELL_ARGV = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}

A2_MAPPING = """\
printf '\\tNPU ID    Chip ID   Chip Logic ID   Chip Name   \\n'
printf '\\t0    0   0   Ascend 910B3\\n\\t0    1   -   Mcu   \\n'
printf '\\t1    0   1   Ascend 910B3\\n\\t1    1   -   Mcu   \\n'
"""
A3_MAPPING = """\
printf '\\tNPU ID    Chip ID   Chip Logic ID   Chip Phy-ID   Chip Name   \\n'
printf '\\t6    0   0   12   Ascend910\\n\\t6    1   1   13   Ascend910\\n\\t6   2   -   -   Mcu  \\n'
"""


class Bench:
    """A folder of stand-in tools and the script run against it."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.tmp = folder / "tmp"
        self.log = folder / "log"
        self.bin.mkdir()
        self.tmp.mkdir()
        self.log.touch()

    def tool(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.log}\n{body}')
        path.chmod(0o755)

    def popen(self, shell: str, script: bytes) -> subprocess.Popen[bytes]:
        env = {"PATH": f"{self.bin}:/usr/bin:/bin", "TMPDIR": str(self.tmp)}
        process = subprocess.Popen(
            SHELL_ARGV[shell], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, start_new_session=True
        )
        assert process.stdin
        process.stdin.write(script)
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, shell: str, script: bytes) -> HostCapture:
        process = self.popen(shell, script)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert list(self.tmp.iterdir()) == [], "a temporary file stayed"
        return decode(out)

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def script(*ids: str, timeout_s: int = 2, sudo: bool = False) -> bytes:
    commands: Sequence[Command] = [replace(BY_ID[id], timeout_s=timeout_s) for id in ids]
    return build_script(new_nonce(), sudo=sudo, commands=commands)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("mapping", "targets"),
    [
        (A2_MAPPING, [Target(0, 0, 0), Target(1, 0, 1)]),
        (A3_MAPPING, [Target(6, 0, 12), Target(6, 1, 13)]),
        (
            "echo 'DrvMngGetConsoleLogLevel failed. (ret=4)'\n" + A2_MAPPING,
            [Target(0, 0, 0), Target(1, 0, 1)],
        ),
        ("printf '\\tNPU ID  Chip ID  Chip Logic ID  Chip Name\\n\\t0 0 0 x'", [Target(0, 0, 0)]),
        ("echo dcmi module initialize failed. ret is -8005; exit 187", []),
        ("echo '9 $(touch /tmp/x) ;reboot 4'; echo '1 -1 2 3'; echo '12345678901 0 0 0 x'", []),
    ],
)
def test_devices_come_from_the_hosts_own_mapping(
    bench: Bench, shell: str, mapping: str, targets: list[Target]
) -> None:
    bench.tool("npu-smi", mapping)
    bench.tool("hccn_tool", 'printf "link status: UP\\n"')
    capture = bench.run(shell, script("mapping", "link"))
    assert capture.complete
    assert [t for id, t in capture.answers if id == "link"] == targets
    assert [c for c in bench.calls() if c.startswith("hccn")] == [
        f"hccn_tool -i {t.phy} -link -g" for t in targets
    ]


@pytest.mark.parametrize("shell", SHELLS)
def test_streams_and_exit_code_are_kept_apart_byte_for_byte(bench: Bench, shell: str) -> None:
    bench.tool("npu-smi", r"printf 'a\000b\n\303\n@x end\n no newline'; printf 'err\377' >&2; exit 13")
    answer = bench.run(shell, script("mapping")).answers["mapping", Target()]
    assert answer.stdout == b"a\x00b\n\xc3\n@x end\n no newline"
    assert answer.stderr == b"err\xff"
    assert (answer.exit_code, answer.killed) == (13, False)


HANGS = {
    "ignores-term": "trap '' TERM; while :; do sleep 1; done",
    "grandchild-holds-output": "(trap '' TERM; exec sleep 300) & exit 0",
    "hangs-with-grandchild": "trap '' TERM; (trap '' TERM; exec sleep 300) & wait",
    # Out of reach of the group's KILL, like a process in uninterruptible sleep; ends by itself.
    "cannot-be-killed": "setsid sh -c 'sleep 6' & wait",
    # What a timeout looks like that waits for such a process: it never returns. Let go by KILL alone.
    "timeout-never-returns": "trap '' TERM; kill -STOP $PPID; exec sleep 300",
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("form", HANGS)
def test_a_hanging_tool_costs_its_timeout_and_is_not_called_again(
    bench: Bench, shell: str, form: str
) -> None:
    bench.tool("npu-smi", A2_MAPPING)
    bench.tool("hccn_tool", f'case "$*" in *-link*) {HANGS[form]};; esac; echo "dev_id:$2, tls switch[0]"')
    capture = bench.run(shell, script("mapping", "health", "link", "tls", timeout_s=1))
    assert capture.complete
    hccn_calls = [c for c in bench.calls() if c.startswith("hccn")]
    if form == "grandchild-holds-output":  # it answered; only what it left behind had to go
        assert not capture.answers["link", Target(0, 0, 0)].killed
        assert len(hccn_calls) == 4
    else:
        assert capture.answers["link", Target(0, 0, 0)].killed
        assert hccn_calls == ["hccn_tool -i 0 -link -g"]
        for key in (("tls", Target(0, 0, 0)), ("link", Target(1, 0, 1)), ("tls", Target(1, 0, 1))):
            skip = capture.skips[key]
            assert (skip.reason, skip.hung_command_id, skip.hung_phy) == ("hung", "link", 0)
        assert ("health", Target(1, 0, 1)) in capture.answers, "the other tool is still called"
    if form != "cannot-be-killed":
        wait_until(lambda: processes_with(bench) == [], 30)


def test_busy_is_asked_again_and_a_passing_state_once_more(bench: Bench, tmp_path: Path) -> None:
    count = tmp_path / "count"
    bench.tool("npu-smi", A2_MAPPING)
    bench.tool(
        "hccn_tool",
        f"""echo x >>{count}
case "$(wc -l <{count}) $*" in
  [12]\\ *) echo 'hccn_tool is busy, please try again.'; exit 11;;
  *-net_health*) echo 'net health status: Detect ip set';;
  *) echo 'link status: UP';;
esac""",
    )
    capture = bench.run("dash" if "dash" in SHELLS else SHELLS[0], script("mapping", "link", "net-health"))
    link = capture.answers["link", Target(0, 0, 0)]
    assert (link.tries, link.stdout, link.exit_code) == (3, b"link status: UP\n", 0)
    assert capture.answers["net-health", Target(0, 0, 0)].tries == 2


def test_a_tool_that_stays_busy_is_given_up(bench: Bench) -> None:
    bench.tool("npu-smi", A2_MAPPING)
    bench.tool("hccn_tool", "echo 'hccn_tool is busy, please try again.'; exit 11")
    capture = bench.run(SHELLS[0], script("mapping", "link"))
    answer = capture.answers["link", Target(1, 0, 1)]
    assert (answer.tries, answer.exit_code) == (5, 11)


def test_a_missing_tool_is_said_not_run(bench: Bench) -> None:
    bench.tool("npu-smi", A2_MAPPING)
    capture = bench.run(SHELLS[0], script("mapping", "link"))
    assert capture.tools["hccn_tool"] is None
    assert capture.tools["npu-smi"] == str(bench.bin / "npu-smi")
    assert capture.skips["link", Target(1, 0, 1)].reason == "missing"


def test_a_tool_may_append_to_a_long_log_of_its_own(bench: Bench, tmp_path: Path) -> None:
    log = tmp_path / "vendor.log"
    with log.open("wb") as stream:
        stream.truncate(20 * 1024 * 1024)
    bench.tool("npu-smi", f"echo used >>{log} || exit 1\n{A2_MAPPING}")
    answer = bench.run(SHELLS[0], script("mapping")).answers["mapping", Target()]
    assert (answer.exit_code, answer.stderr) == (0, b"")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_slow_answer_outlives_the_guards_signals(bench: Bench, shell: str) -> None:
    bench.tool("npu-smi", f"sleep 7\n{A2_MAPPING}\nexit 3")
    answer = bench.run(shell, script("mapping", timeout_s=20)).answers["mapping", Target()]
    assert answer.exit_code == 3
    assert answer.stdout.count(b"Ascend") == 2


@pytest.mark.parametrize("shell", SHELLS)
def test_one_signal_of_the_guard_behind_the_other_ends_nothing(bench: Bench, shell: str) -> None:
    """In dash a trap that is interrupted by another gets the status of what was before both."""
    bench.tool("npu-smi", f"sleep 6\n{A2_MAPPING}")
    process = bench.popen(shell, script("mapping", timeout_s=20))
    wait_until(lambda: bench.calls() != [])
    for number in range(800):
        os.kill(process.pid, signal.SIGUSR2)
        later = time.perf_counter() + number % 80 * 3e-6
        while time.perf_counter() < later:
            pass
        os.kill(process.pid, signal.SIGUSR1)
        time.sleep(0.004)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert decode(out).answers["mapping", Target()].stdout.count(b"Ascend") == 2


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small file system needs root")
def test_a_full_temporary_folder_is_said(bench: Bench) -> None:
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(bench.tmp)], check=False
    ).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        bench.tool("npu-smi", A2_MAPPING + "head -c 300000 /dev/zero")
        bench.tool("hccn_tool", "echo 'link status: UP'")
        process = bench.popen(SHELLS[0], script("mapping", "link"))
        out, _ = process.communicate(timeout=60)
        assert decode(out).fatal == "temporary-folder-full"
        assert list(bench.tmp.iterdir()) == []
    finally:
        subprocess.run(["umount", str(bench.tmp)], check=True)


def test_an_endless_answer_is_cut_by_the_host_itself(bench: Bench) -> None:
    bench.tool("npu-smi", "exec yes")
    capture = bench.run(SHELLS[0], script("mapping", timeout_s=20))
    assert len(capture.answers["mapping", Target()].stdout) <= 1024 * 1024


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("ended_by", ["lost-connection", signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_nothing_of_ours_outlives_the_connection(
    bench: Bench, shell: str, ended_by: str | signal.Signals
) -> None:
    bench.tool("npu-smi", A2_MAPPING)
    bench.tool("hccn_tool", "sleep 20; echo 'link status: UP'")
    process = bench.popen(shell, script("mapping", "link", "tls", timeout_s=25))
    assert process.stdout
    wait_until(lambda: any(c.startswith("hccn") for c in bench.calls()))
    if ended_by == "lost-connection":
        process.stdout.close()
    else:
        os.kill(process.pid, ended_by)
    assert process.wait(timeout=60) != 0
    assert list(bench.tmp.iterdir()) == []
    wait_until(lambda: processes_with(bench) == [], 30)
    # Not even the next command is started.
    assert len([c for c in bench.calls() if c.startswith("hccn")]) == 1


@pytest.mark.parametrize("shell", SHELLS)
def test_even_killed_outright_it_leaves_no_folder(bench: Bench, shell: str) -> None:
    bench.tool("npu-smi", "sleep 2")
    process = bench.popen(shell, script("mapping", timeout_s=5))
    wait_until(lambda: bench.calls() != [])
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: list(bench.tmp.iterdir()) == [], 30)
    wait_until(lambda: processes_with(bench) == [], 30)


def test_sudo_that_never_returns_is_left_behind(bench: Bench) -> None:
    bench.tool("npu-smi", A2_MAPPING)
    bench.tool("sudo", "exec sleep 300")
    capture = bench.run(SHELLS[0], script("mapping", "link", sudo=True, timeout_s=1))
    assert capture.complete
    assert capture.answers["mapping", Target()].killed


def test_sudo_runs_absolute_tools_for_root_commands_only(bench: Bench) -> None:
    bench.tool("npu-smi", A2_MAPPING)
    bench.tool("hccn_tool", "echo 'link status: UP'")
    bench.tool("sudo", 'shift; exec "$@"')
    capture = bench.run(SHELLS[0], script("kernel", "mapping", "link", sudo=True))
    assert capture.complete
    assert len(capture.answers) == 4
    sudo_calls = [c for c in bench.calls() if c.startswith("sudo")]
    assert len(sudo_calls) == 3
    for call in sudo_calls:
        assert call.startswith("sudo -n env LD_LIBRARY_PATH= LC_ALL=C timeout -k 2 2 " + str(bench.bin))


@pytest.mark.parametrize("profile", Profile)
def test_the_script_is_one_group_and_says_each_commands_impact(profile: Profile) -> None:
    commands = commands_of(profile)
    text = build_script("0" * 32, sudo=False, commands=commands).decode()
    assert text.startswith("{ ")
    assert text.rstrip().endswith("exit\n}")
    asks = [line for line in text.splitlines() if line.lstrip().startswith(("ask ", "if ask "))]
    assert len(asks) == len(commands)
    assert all(line.endswith("# read-only") for line in asks)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_answer_says_the_profile_and_a_tool_of_the_deep_one_may_be_missing(
    bench: Bench, shell: str
) -> None:
    bench.tool("npu-smi", A2_MAPPING)
    bench.tool("hccn_tool", "echo 'mtu:4200'")
    standard = bench.run(shell, script("hostname", "mapping"))
    assert (standard.profile, "timedatectl" in standard.tools) == (Profile.STANDARD, False)
    commands = [replace(BY_ID["time-service"], argv=("no-such-tool", "show")), BY_ID["mapping"], BY_ID["mtu"]]
    deep = bench.run(shell, build_script(new_nonce(), sudo=False, commands=commands))
    assert deep.complete and deep.profile is Profile.DEEP
    assert deep.tools["no-such-tool"] is None
    assert [(skip.command_id, skip.reason) for skip in deep.skips.values()] == [("time-service", "missing")]
    assert [t.phy for id, t in deep.answers if id == "mtu"] == [0, 1]


def test_an_optical_module_whose_bus_was_in_use_is_asked_once_more(bench: Bench) -> None:
    bench.tool("npu-smi", A3_MAPPING)
    bench.tool(
        "hccn_tool",
        f"if [ -e {bench.bin}/asked ]; then echo 'optical info:'; exit; fi\n"
        f": >{bench.bin}/asked; echo 'I2c is busy. Please try again.'\n",
    )
    capture = bench.run(SHELLS[0], script("mapping", "optical"))
    answers = [answer for (id, _), answer in sorted(capture.answers.items(), key=str) if id == "optical"]
    assert [answer.tries for answer in answers] == [2, 1]
    assert all(answer.stdout == b"optical info:\n" for answer in answers)


def processes_with(bench: Bench) -> list[str]:
    """Processes that still run a stand-in, or hold the script's folder open."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            cwd = str((entry / "cwd").readlink())
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(bench.tmp) in cwd or str(bench.bin).encode() in command:
            found.append(f"{entry.name} {command!r} in {cwd}")
    return found


def wait_until(condition: object, limit_s: float = 60) -> None:
    assert callable(condition)
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)

"""The simulated cluster behind SSH, seen by paramiko's client and by OpenSSH's."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paramiko
import pytest
import yaml

from ascendctl.sim.cluster import SimCluster
from ascendctl.sim.demo import DEMO_FAULTS, DEMO_SPEC
from ascendctl.sim.kinds import BY_NAME
from ascendctl.sim.render import render_cluster
from ascendctl.sim.server import highest_open_files_limit
from ascendctl.sim.spec import make_spec
from tests import openssh

PATIENCE_S = 60
SCRIPT = b"hostname\nhccn_tool -i 3 -ip -g\nhccn_tool -i 9 -ip -g >&2\necho end\nexit 7\n"
needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="OpenSSH's client is not installed")


def sim(*faults: dict[str, Any], hosts: int = 2, **options: Any) -> SimCluster:
    return SimCluster(make_spec(generation="a2", hosts=hosts, faults=list(faults)), **options)


@contextmanager
def client(cluster: SimCluster, number: int = 0) -> Iterator[paramiko.SSHClient]:
    where = cluster.listening[number]
    connection = paramiko.SSHClient()
    connection.load_host_keys(str(cluster.known_hosts_path))
    try:
        connection.connect(
            where.address,
            where.port,
            "sim",
            key_filename=str(cluster.identity_path),
            look_for_keys=False,
            allow_agent=False,
            banner_timeout=PATIENCE_S,
            auth_timeout=PATIENCE_S,
        )
        yield connection
    finally:
        connection.close()


def ask(connection: paramiko.SSHClient, command: str, script: bytes = b"") -> tuple[int, bytes, bytes]:
    stdin, stdout, stderr = connection.exec_command(command, timeout=PATIENCE_S)
    stdin.write(script)
    stdin.channel.shutdown_write()
    out, err = stdout.read(), stderr.read()
    return stdout.channel.recv_exit_status(), out, err


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_login_has_the_hosts_own_limit_of_open_files() -> None:
    """The limit holds for what the login starts too; a host without the fault has as much as can be had."""
    highest = highest_open_files_limit()
    with sim({"host": "node01", "kind": "open-files", "value": 200}) as cluster:
        for number, limit in enumerate((200, min(1_048_576, highest))):
            with client(cluster, number) as connection:
                asked = ask(connection, "exec /bin/sh -s", b"ulimit -S -n; sh -c 'ulimit -S -n'; exit 5\n")
                assert asked == (5, b"%d\n%d\n" % (limit, limit), b"")
        thresholds = yaml.safe_load(cluster.inventory_path.read_text())["defaults"].get("thresholds")
        assert thresholds == ({"open-files-min": highest} if highest < 65_535 else None)


def test_a_script_on_standard_input_runs_on_the_host() -> None:
    with sim() as cluster, client(cluster, 1) as connection:
        code, out, err = ask(connection, "/bin/sh -s", SCRIPT)
        assert code == 7
        assert out == b"node02\nipaddr:10.20.2.14\nnetmask:255.255.255.0\nend\n"
        assert err == b"Get invalid device id.\n"
        assert (cluster.counts["node02"].connections, cluster.counts["node02"].execs) == (1, 1)
        assert (cluster.counts["node01"].connections, cluster.counts["node01"].execs) == (0, 0)
        assert ask(connection, "exit 0") == (0, b"", b"")
        assert cluster.counts["node02"].commands == ["/bin/sh -s", "exit 0"]


@needs_ssh
@pytest.mark.parametrize("one_address", [False, True])
def test_openssh_client_gets_the_same(one_address: bool) -> None:
    with sim(one_address=one_address) as cluster:
        inventory = yaml.safe_load(cluster.inventory_path.read_text())
        ssh = {**inventory["defaults"]["ssh"], **inventory["hosts"][1].get("ssh", {})}
        options = [
            f"UserKnownHostsFile={ssh['known_hosts']}",
            "StrictHostKeyChecking=yes",
            "BatchMode=yes",
            "IdentitiesOnly=yes",
        ]
        command = ["ssh", "-F", "none", "-i", ssh["identity"], "-p", str(ssh["port"])]
        command += [word for option in options for word in ("-o", option)]
        ran = subprocess.run(
            [*command, f"{ssh['user']}@{inventory['hosts'][1]['address']}", "/bin/sh -s"],
            input=SCRIPT,
            capture_output=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert ran.stdout == b"node02\nipaddr:10.20.2.14\nnetmask:255.255.255.0\nend\n"
        assert ran.stderr == b"Get invalid device id.\n"
        assert ran.returncode == 7


def test_much_output_arrives_whole_on_both_streams() -> None:
    amount = 3_000_000
    script = f"head -c {amount} /dev/zero; head -c {amount} /dev/zero >&2\n".encode()
    with sim() as cluster, client(cluster) as connection:
        _, stdout, stderr = connection.exec_command("/bin/sh -c " + repr(script.decode().strip()))
        sizes: dict[str, int] = {}
        reader = threading.Thread(target=lambda: sizes.update(err=len(stderr.read())))
        reader.start()
        sizes["out"] = len(stdout.read())
        reader.join(PATIENCE_S)
        assert sizes == {"out": amount, "err": amount}


def test_output_arrives_while_the_script_runs() -> None:
    with sim() as cluster, client(cluster) as connection:
        stdin, stdout, _ = connection.exec_command("echo first; read answer; echo $answer")
        assert stdout.readline() == "first\n"
        stdin.write("second\n")
        stdin.flush()
        assert stdout.readline() == "second\n"


@needs_ssh
def test_openssh_client_sees_a_killed_child_as_255() -> None:
    with sim() as cluster:
        where = cluster.listening[0]
        command = ["ssh", "-v", "-F", "none", "-i", str(cluster.identity_path), "-p", str(where.port)]
        command += ["-o", f"UserKnownHostsFile={cluster.known_hosts_path}", "-o", "BatchMode=yes"]
        ran = subprocess.run(
            [*command, f"sim@{where.address}", "kill -KILL $$"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert ran.returncode == 255
        assert b"exit-signal" in ran.stderr


def test_the_inventory_names_every_host(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    with sim({"kind": "ssh-refused", "host": "node02"}, hosts=3, inventory_path=path) as cluster:
        assert path == cluster.inventory_path
        data = yaml.safe_load(path.read_text())
        data["defaults"].pop("thresholds", None)  # there on machines that allow few open files only
        port = cluster.listening[0].port
        assert data == {
            "version": 1,
            "defaults": {
                "ssh": {
                    "user": "sim",
                    "port": port,
                    "identity": str(cluster.identity_path),
                    "known_hosts": str(cluster.known_hosts_path),
                    "config": False,
                },
                "privilege": "root",
                "generation": "a2",
            },
            "hosts": [{"name": f"node0{number}", "address": f"127.0.1.{number}"} for number in (1, 2, 3)],
        }


def test_one_address_gives_every_host_a_port() -> None:
    with sim(one_address=True, hosts=3) as cluster:
        data = yaml.safe_load(cluster.inventory_path.read_text())
        assert "port" not in data["defaults"]["ssh"]
        assert {host["address"] for host in data["hosts"]} == {"127.0.0.1"}
        assert len({host["ssh"]["port"] for host in data["hosts"]}) == 3
        with client(cluster, 2) as connection:
            assert ask(connection, "hostname") == (0, b"node03\n", b"")


def test_keys_and_folders_are_private() -> None:
    with sim() as cluster:
        assert stat.S_IMODE(cluster.directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(cluster.identity_path.stat().st_mode) == 0o600


# --- ssh faults -----------------------------------------------------------------------------------


def test_refused() -> None:
    with sim({"kind": "ssh-refused", "host": "node02"}) as cluster:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((cluster.listening[1].address, cluster.listening[1].port), PATIENCE_S)
        with client(cluster, 0) as connection:
            assert ask(connection, "hostname")[1] == b"node01\n"


def test_auth() -> None:
    with sim({"kind": "ssh-auth", "host": "node02"}) as cluster:
        with pytest.raises(paramiko.AuthenticationException), client(cluster, 1):
            pass
        assert (cluster.counts["node02"].connections, cluster.counts["node02"].execs) == (1, 0)


def test_a_stranger_s_key_is_refused_by_a_healthy_host_too() -> None:
    with sim() as cluster:
        connection = paramiko.SSHClient()
        connection.load_host_keys(str(cluster.known_hosts_path))
        where = cluster.listening[0]
        with pytest.raises(paramiko.AuthenticationException):
            connection.connect(
                where.address,
                where.port,
                "sim",
                pkey=paramiko.ECDSAKey.generate(),
                look_for_keys=False,
                allow_agent=False,
            )
        connection.close()


def test_hang() -> None:
    with sim({"kind": "ssh-hang", "host": "node02"}) as cluster:
        where = cluster.listening[1]
        with socket.create_connection((where.address, where.port), PATIENCE_S) as connection:
            eventually(lambda: cluster.counts["node02"].connections == 1)
            connection.settimeout(1)
            with pytest.raises(TimeoutError):
                connection.recv(1)
        other = cluster.listening[0]
        with socket.create_connection((other.address, other.port), PATIENCE_S) as connection:
            connection.settimeout(PATIENCE_S)
            assert connection.recv(4) == b"SSH-"


def test_every_host_has_a_key_of_its_own() -> None:
    with sim(hosts=3) as cluster:
        lines = cluster.known_hosts_path.read_text().splitlines()
        assert len({line.split()[2] for line in lines}) == 3


# --- connections that end -------------------------------------------------------------------------


def test_a_dropped_connection_closes_the_childs_pipes_and_does_not_kill_it(tmp_path: Path) -> None:
    """The child sees the end of its input, then a broken pipe when it writes, and lives to say so."""
    note, pid_file = tmp_path / "note", tmp_path / "pid"
    script = (
        f"echo $$ >{pid_file}; trap '' PIPE; echo ready; read line; echo input ended >>{note}; "
        f"while echo more 2>/dev/null; do sleep 0.05; done; echo output ended >>{note}"
    )
    with sim() as cluster:
        with client(cluster) as connection:
            stdin, stdout, _ = connection.exec_command(script)  # stdin let go would be its end
            assert stdout.readline() == "ready\n"
            assert not note.exists() and not stdin.closed
            transport = connection.get_transport()
            assert transport is not None
            transport.sock.close()  # no goodbye
        eventually(lambda: note.exists() and note.read_text() == "input ended\noutput ended\n")
        eventually(lambda: not alive(int(pid_file.read_text())))


def test_a_silent_child_outlives_its_connection_with_its_pipes_closed(tmp_path: Path) -> None:
    """The server lets go of the pipes while the child is silent: its very first write then fails."""
    note, go, pid_file = tmp_path / "note", tmp_path / "go", tmp_path / "pid"
    script = (
        f"echo $$ >{pid_file}; trap '' PIPE; echo ready; until [ -e {go} ]; do sleep 0.05; done; "
        f"echo once 2>/dev/null || echo broken >{note}; echo done >>{note}"
    )
    with sim() as cluster:
        before = own_pipes()
        with client(cluster) as connection:
            stdin, stdout, _ = connection.exec_command(script)
            assert stdout.readline() == "ready\n"
            for_child = own_pipes() - before
            assert len(for_child) == 3 and not stdin.closed
        eventually(lambda: not for_child & own_pipes())
        assert alive(int(pid_file.read_text()))
        go.touch()
        eventually(lambda: note.exists() and note.read_text() == "broken\ndone\n")
        eventually(lambda: not alive(int(pid_file.read_text())))


def own_pipes() -> set[str]:
    """The pipes this process holds an end of; the server runs in it."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(entry.readlink()))
        except OSError:
            continue
    return {name for name in found if name.startswith("pipe:")}


def test_a_channel_stays_open_while_a_grandchild_holds_the_output() -> None:
    fault = {"kind": "command-hang", "host": "node01", "device": 2, "value": "grandchild"}
    with sim(fault) as cluster, client(cluster) as connection:
        _, stdout, _ = connection.exec_command("timeout -k 1 1 hccn_tool -i 2 -link -g; echo end; exit 5")
        assert stdout.readline() == "end\n"
        assert stdout.channel.recv_exit_status() == 5
        stdout.channel.settimeout(1)
        with pytest.raises(TimeoutError):
            stdout.channel.recv(1)


# --- clean shutdown -------------------------------------------------------------------------------


def marked(text: bytes) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if text in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("form", ["ignores-term", "grandchild", "unkillable"])
def test_shutdown_leaves_no_process_and_no_folder(form: str) -> None:
    fault = {"kind": "command-hang", "host": "node01", "device": 2, "value": form}
    before = threading.active_count()
    with sim(fault) as cluster:
        directory = cluster.directory
        with client(cluster) as connection:
            _, stdout, _ = connection.exec_command(
                "echo ready; setsid sleep 100 & timeout -k 1 100 hccn_tool -i 2 -link -g; true"
            )
            assert stdout.readline() == "ready\n"
            # The shell, its sleep, timeout, and the stand-in with what it left.
            eventually(lambda: len(marked(str(directory).encode())) >= 4)
    assert marked(str(directory).encode()) == []
    assert not directory.exists()
    eventually(lambda: threading.active_count() <= before)


def test_a_failed_start_leaves_nothing(tmp_path: Path) -> None:
    with sim() as running:
        taken = running.listening[0].port
        second = sim(port=taken)
        with pytest.raises(OSError, match=r"in use"):
            second.__enter__()
        with pytest.raises(RuntimeError):
            _ = second.directory


# --- many at once ---------------------------------------------------------------------------------


def test_64_hosts_at_once() -> None:
    with sim(hosts=64) as cluster, ThreadPoolExecutor(64) as pool:

        def visit(number: int) -> tuple[int, bytes, bytes]:
            with client(cluster, number) as connection:
                return ask(connection, "/bin/sh -s", b"hostname; hccn_tool -i 0 -link -g; exit 3\n")

        answers = list(pool.map(visit, range(64)))
        assert answers == [
            (3, f"node{number:02d}\nlink status: UP\n".encode(), b"") for number in range(1, 65)
        ]
        assert all((each.connections, each.execs) == (1, 1) for each in cluster.counts.values())


# --- a real OpenSSH server before the same stand-ins -------------------------------------------------


@pytest.mark.openssh
@pytest.mark.skipif(openssh.why_not() is not None, reason=openssh.why_not() or "")
def test_a_real_openssh_server_serves_rendered_hosts(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    hosts = render_cluster(make_spec(generation="a3", hosts=2), tmp_path / "hosts")
    paths = [(host.name, f"{host.bin}:/usr/bin:/bin") for host in hosts]
    script = b"hostname\nhccn_tool -i 15 -ip -g\nnpu-smi info -t spod-info -i 7 -c 1\nexit 7\n"
    with openssh.OpenSSHFarm(paths) as farm:
        where = farm.endpoint("node02")
        connection = paramiko.SSHClient()
        connection.load_host_keys(str(where.known_hosts))
        keys = [str(path) for path in where.identity_files]
        connection.connect(where.address, where.port or 22, where.user or "", key_filename=keys)
        code, out, err = ask(connection, "/bin/sh -s", script)
        connection.close()
    assert (code, err) == (7, b"")
    assert out.startswith(b"node02\nipaddr:10.31.2.18\nnetmask:255.255.255.0\n\tSDID")


# --- the demo -------------------------------------------------------------------------------------


def test_the_demo_spec_has_six_faults_of_different_kinds() -> None:
    kinds = [each.fault.kind for each in DEMO_FAULTS]
    assert len(set(kinds)) == 6
    assert DEMO_SPEC.hosts == 8
    assert len({each.fault.host for each in DEMO_FAULTS}) == 6
    own_check = [each for each in DEMO_FAULTS if each.fault.kind != "command-hang"]
    assert all(BY_NAME[each.fault.kind].check == each.check for each in own_check)


def test_children_are_in_sessions_of_their_own() -> None:
    """So that what a terminal sends on Ctrl-C does not reach them."""
    with sim() as cluster, client(cluster) as connection:
        _, out, _ = ask(connection, "cut -d' ' -f6 /proc/self/stat")
        assert int(out) != os.getsid(0)

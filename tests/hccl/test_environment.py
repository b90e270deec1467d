"""Environments derived from facts: which NIC, what is refused, what differs by role and generation."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ascendctl import facts as f
from ascendctl.hccl import render
from ascendctl.hccl.buffer_size import Kernel, MoeModel, Parallel
from ascendctl.hccl.environment import Environment, Moe, Role, Setting, environments
from ascendctl.hccl.files import EnvironmentFileError, write_environments, write_files
from ascendctl.hccl.lint import lint
from ascendctl.hccl.nic import NicChoice, choose_nics
from tests.checks.hosts import NO_DATA, TIMED_OUT, a2, a3, every, expect, made, ok, set_host, unreached


def on(host: f.HostFacts, *addresses: str, nic: str | None = None) -> f.HostFacts:
    """The host with these addresses, ``eth0 10.0.0.1/24`` each, loopback and a container bridge besides."""
    entries = ["lo 127.0.0.1/8", "docker0 172.17.0.1/16", "lo ::1/128", *addresses]
    parts = [text.replace("/", " ").split() for text in entries]
    found = tuple(f.HostAddress(name, address, int(prefix)) for name, address, prefix in parts)
    system = replace(host.system, addresses=ok(found), hostname=ok(host.host))
    return replace(made(host, expect(nic=nic)), system=system)


def site(*addresses: tuple[str, ...], nic: str | None = None) -> f.ClusterFacts:
    return f.ClusterFacts(
        tuple(on(a2(f"n{i}"), *given, nic=nic) for i, given in enumerate(addresses, start=1))
    )


def chosen(cluster: f.ClusterFacts, ssh: dict[str, str] | None = None, routed: bool = False) -> list[str]:
    return [_short(choice) for choice in choose_nics(cluster, ssh, routed=routed)]


def _short(choice: NicChoice) -> str:
    return choice.problem or f"{choice.interface} {choice.address}"


THREE = (("eth0 10.0.0.1/24",), ("eth0 10.0.0.2/24",), ("eth0 10.0.0.3/24",))


def test_the_only_nic_is_taken() -> None:
    assert chosen(site(*THREE)) == ["eth0 10.0.0.1", "eth0 10.0.0.2", "eth0 10.0.0.3"]


def test_the_inventorys_nic_goes_first() -> None:
    cluster = site(*((f"eth0 10.0.0.{i}/24", f"eth1 10.1.0.{i}/24") for i in (1, 2, 3)), nic="eth1")
    assert chosen(cluster, {"n1": "10.0.0.1"}) == ["eth1 10.1.0.1", "eth1 10.1.0.2", "eth1 10.1.0.3"]


def test_else_the_nic_of_the_ssh_address() -> None:
    cluster = site(*((f"eth0 10.0.0.{i}/24", f"eth1 10.1.0.{i}/24") for i in (1, 2)))
    assert chosen(cluster, {"n1": "10.1.0.1", "n2": "10.1.0.2"}) == ["eth1 10.1.0.1", "eth1 10.1.0.2"]


def test_else_the_subnet_of_most_peers() -> None:
    cluster = site(
        ("eth0 10.0.0.1/24", "eth1 10.1.0.1/24"),
        ("eth1 10.1.0.2/24", "eth5 10.9.0.2/24"),
        ("eth1 10.1.0.3/24",),
    )
    assert chosen(cluster, {"n1": "floating.example"}) == ["eth1 10.1.0.1", "eth1 10.1.0.2", "eth1 10.1.0.3"]


def test_two_nics_of_equal_standing_are_not_guessed_between() -> None:
    found = chosen(site(*((f"eth0 10.0.0.{i}/24", f"eth1 10.1.0.{i}/24") for i in (1, 2))))
    assert all("several NICs could be meant (eth0 10.0.0." in text and "nic:" in text for text in found)


def test_a_second_address_of_the_same_subnet_is_a_floating_one() -> None:
    cluster = site(("eth0 10.0.0.1/24", "eth0 10.0.0.99/24"), ("eth0 10.0.0.2/24",))
    assert chosen(cluster) == ["eth0 10.0.0.1", "eth0 10.0.0.2"]


@pytest.mark.parametrize("nic", ["lo", "docker0", "br-0123456789ab", "eth7", "eth"])
def test_a_nic_that_no_peer_reaches_is_refused(nic: str) -> None:
    cluster = f.ClusterFacts(
        (on(a2("n1"), "eth0 10.0.0.1/24", "eth1 10.1.0.1/24", nic=nic), on(a2("n2"), "eth0 10.0.0.2/24"))
    )
    first, second = environments(cluster, Role.SERVE)
    assert first.learned
    assert first.settings == ()
    assert len(first.refusals) == 1
    assert nic in first.refusals[0]
    if nic == "eth":  # a prefix that hits two
        assert "eth0 and eth1" in first.refusals[0]
    assert second.settings


def test_link_local_loopback_and_the_drivers_own_addresses_do_not_count() -> None:
    cluster = site(("eth0 169.254.3.4/16", "end0v0 192.168.1.199/24"), ("eth0 10.0.0.2/24",))
    first, second = chosen(cluster)
    assert "no IPv4 address" in first
    assert "169.254.3.4" in first
    assert second == "eth0 10.0.0.2"


def test_another_subnet_than_the_peers_is_refused_and_a_tie_accuses_all() -> None:
    odd = site(*THREE, ("eth0 10.5.0.4/24",))
    found = chosen(odd)
    assert found[:3] == chosen(site(*THREE))
    assert "10.5.0.0/24" in found[3]
    assert "most peers are in 10.0.0.0/24" in found[3]
    last = choose_nics(odd, routed=True)[3]
    assert last.chosen
    assert "--routed" in last.warning
    tie = chosen(site(("eth0 10.0.0.1/24",), ("eth0 10.5.0.4/24",)))
    assert all("all are refused" in text for text in tie)


def test_another_netmask_in_the_same_subnet_is_a_warning() -> None:
    choice = choose_nics(site(*THREE, ("eth0 10.0.0.4/16",)))[3]
    assert choice.chosen
    assert "netmask" in choice.warning


def test_hosts_with_ipv6_alone() -> None:
    first, second = environments(site(("eth0 fd00::1/64",), ("eth0 fd00::2/64",)), Role.SERVE)
    assert first.values["HCCL_IF_IP"] == "fd00::1"
    assert first.values["HCCL_SOCKET_FAMILY"] == "AF_INET6"
    assert lint(render.as_sh(second)).findings == ()
    # One host with IPv4: HCCL negotiates over one family, so the others are refused.
    assert "no IPv4" in chosen(site(("eth0 fd00::1/64",), ("eth0 10.0.0.2/24",)))[0]


def test_a_host_that_was_not_asked_is_not_accused() -> None:
    silent = unreached("n9", f.ReachStatus.TIMEOUT, detail="no answer within 10 s")
    unread = replace(a2("n8"), system=replace(a2("n8").system, addresses=TIMED_OUT))
    cluster = f.ClusterFacts((on(a2("n1"), "eth0 10.0.0.1/24"), silent, unread))
    good, missing, unlearned = environments(cluster, Role.SERVE)
    assert good.settings
    assert not missing.learned
    assert missing.refusals == ("timeout: no answer within 10 s",)
    assert not unlearned.learned
    assert "addresses could not be read" in unlearned.refusals[0]


def test_the_silent_host_does_not_change_what_the_others_get() -> None:
    hosts = [on(a3(f"n{i}", server=i), f"eth0 10.0.0.{i}/24") for i in (1, 2)]
    with_it = environments(f.ClusterFacts((*hosts, unreached("n3"))), Role.DECODE)[:2]
    assert with_it == environments(f.ClusterFacts(tuple(hosts)), Role.DECODE)


def test_every_line_has_a_reason_and_lints_clean() -> None:
    clusters = [
        site(*THREE),
        f.ClusterFacts(tuple(on(a3(f"n{i}", server=i), f"eth0 10.0.0.{i}/24") for i in (1, 2))),
        f.ClusterFacts(tuple(on(a3(f"n{i}", server=None), f"eth0 10.0.0.{i}/24") for i in (1, 2))),
    ]
    for cluster in clusters:
        for role in Role:
            for one in environments(cluster, role):
                assert one.refusals == one.warnings == ()
                assert all(setting.reason for setting in one.settings)
                judged = lint(render.as_sh(one), generation=cluster.hosts[0].generation)
                assert judged.findings == ()
                assert judged.judged == len(one.settings)


def one_of(cluster: f.ClusterFacts, role: Role = Role.SERVE, moe: Moe | None = None) -> Environment:
    return environments(cluster, role, moe=moe)[0]


def pods(*servers_and_pods: tuple[int | None, int], role: Role = Role.SERVE) -> Environment:
    hosts = []
    for number, (server, pod) in enumerate(servers_and_pods, start=1):
        host = on(a3(f"n{number}", server=server), f"eth0 10.0.0.{number}/24")
        if server is not None:
            devices = tuple(
                replace(d, spod=ok(replace(d.spod.value, super_pod_id=pod)))
                for d in host.devices
                if d.spod.value
            )
            host = replace(host, devices=devices)
        hosts.append(host)
    return one_of(f.ClusterFacts(tuple(hosts)), role)


def test_the_nics_name_is_exact_for_hccl_and_bare_for_the_others() -> None:
    values = one_of(site(*THREE)).values
    assert values["HCCL_SOCKET_IFNAME"] == "=eth0"
    assert values["GLOO_SOCKET_IFNAME"] == values["TP_SOCKET_IFNAME"] == "eth0"


def test_a2_by_role() -> None:
    cluster = site(*THREE)
    assert one_of(cluster, Role.PREFILL).values["HCCL_INTRA_ROCE_ENABLE"] == "1"
    assert "HCCL_INTRA_ROCE_ENABLE" not in one_of(cluster, Role.SERVE).values
    assert one_of(cluster, Role.NETLOADER).values["VLLM_SLEEP_WHEN_IDLE"] == "1"
    assert "ASCEND_TRANSFER_TIMEOUT" not in one_of(cluster, Role.NETLOADER).values
    assert "HCCL_INTER_HCCS_DISABLE" not in one_of(cluster).values


def test_aiv_stays_within_one_super_pod() -> None:
    assert pods((1, 0), (2, 0)).values["HCCL_OP_EXPANSION_MODE"] == "AIV"
    across = pods((1, 0), (1, 1))
    assert across.values["HCCL_OP_EXPANSION_MODE"] == "AI_CPU"
    (reason,) = [s.reason for s in across.settings if s.name == "HCCL_OP_EXPANSION_MODE"]
    assert "super pods seen: 0, 1" in reason


def test_a3_outside_a_super_pod_uses_roce() -> None:
    alone = pods((None, 0), (None, 0), role=Role.DECODE)
    assert alone.values["HCCL_INTER_HCCS_DISABLE"] == "TRUE"
    assert alone.values["HCCL_INTRA_ROCE_ENABLE"] == "1"
    mixed = pods((None, 0), (2, 0))
    assert "HCCL_INTER_HCCS_DISABLE" not in mixed.values
    assert any("RoCE only" in text for text in mixed.warnings)
    assert "HCCL_INTER_HCCS_DISABLE" not in pods((1, 0), (2, 0)).values
    bare = [made(on(a3(f"n{i}", server=None), f"eth0 10.0.0.{i}/24"), every(ip=NO_DATA)) for i in (1, 2)]
    assert any("no address could be read" in text for text in one_of(f.ClusterFacts(tuple(bare))).warnings)


def test_what_is_not_known_is_said() -> None:
    unknown = made(on(a2("n1"), "eth0 10.0.0.1/24"), set_host(generation=None))
    found = one_of(f.ClusterFacts((unknown,)))
    assert "HCCL_OP_EXPANSION_MODE" not in found.values
    assert "generation" in found.warnings[0]
    other = made(on(a2("n1"), "eth0 10.0.0.1/24"), set_host(accelerator=f.Accelerator.NVIDIA))
    assert "no Ascend host" in one_of(f.ClusterFacts((other,))).refusals[0]


R1 = MoeModel(7168, 256, 8)


def size(cluster: f.ClusterFacts, role: Role, moe: Moe | None = None) -> tuple[str, str]:
    (found,) = [s for s in one_of(cluster, role, moe).settings if s.name == "HCCL_BUFFSIZE"]
    return found.value, found.reason


def test_the_buffer_by_the_guides_or_by_the_formula() -> None:
    cluster = f.ClusterFacts((on(a3("n1"), "eth0 10.0.0.1/24"),))
    for role, mb in ((Role.PREFILL, "256"), (Role.DECODE, "1024")):
        value, reason = size(cluster, role)
        assert value == mb
        assert "guides" in reason
        assert "not computed" in reason
    value, reason = size(cluster, Role.DECODE, Moe(R1, Parallel(32, 1, 40, 1)))
    assert value == "598"
    assert "tokens per rank 80" in reason
    assert size(cluster, Role.DECODE, Moe(R1, Parallel(32, 1, 1)))[0] == "200"  # never below the default


def test_the_buffer_on_a2() -> None:
    cluster = site(*THREE)
    small = Moe(R1, Parallel(16, 1, 32))
    serving = one_of(cluster, Role.SERVE, small).values
    assert serving["HCCL_BUFFSIZE"] == "518"
    assert (serving["HCCL_INTRA_PCIE_ENABLE"], serving["HCCL_INTRA_ROCE_ENABLE"]) == ("1", "0")
    # Decode runs the full mesh, and the older check of A2 may hold: the larger of both.
    assert size(cluster, Role.DECODE, small)[0] == "518"
    assert size(cluster, Role.DECODE, Moe(R1, Parallel(16, 1, 32), Kernel.FULL_MESH))[0] != "518"
    allgather = one_of(cluster, Role.DECODE, Moe(R1, Parallel(8, 1, 32)))
    assert allgather.values["HCCL_BUFFSIZE"] == "1024"
    assert any("ALLGATHER" in text for text in allgather.warnings)
    ruled_out = one_of(cluster, Role.DECODE, Moe(R1, Parallel(16, 1, 32), Kernel.HIERARCHY))
    assert any("rules it out" in text for text in ruled_out.warnings)


# --- as text --------------------------------------------------------------------------------------

ODD = Environment(
    "n1",
    Role.SERVE,
    (Setting("A", "it's $HOME `id` \\", "why\nnot"), Setting("HCCL_SOCKET_IFNAME", "=eth0", "exact")),
    warnings=("one\nline",),
)


def sourced(text: str, tmp_path: Path, hostname: str = "n1") -> subprocess.CompletedProcess[str]:
    """What a POSIX shell has in its environment after sourcing the text on a host of this name."""
    (tmp_path / "env.sh").write_text(text)
    stand_in = tmp_path / "bin" / "hostname"
    stand_in.parent.mkdir(exist_ok=True)
    stand_in.write_text(f"#!/bin/sh\necho {hostname}\n")
    stand_in.chmod(0o755)
    command = f". {shlex.quote(str(tmp_path / 'env.sh'))} && env"
    path = f"{stand_in.parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["/bin/sh", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": path, "HOME": "/h"},
    )


def test_a_shell_gets_exactly_the_values(tmp_path: Path) -> None:
    lines = sourced(render.as_sh(ODD), tmp_path).stdout.splitlines()
    assert "A=it's $HOME `id` \\" in lines
    assert "HCCL_SOCKET_IFNAME==eth0" in lines
    assert "export HCCL_SOCKET_IFNAME='=eth0'" in render.as_sh(ODD)  # zsh expands a bare =eth0


def test_one_file_for_many_hosts(tmp_path: Path) -> None:
    found = environments(site(*THREE), Role.SERVE)
    text = render.as_sh_of_many(found)
    for number in (1, 2, 3):
        assert f"HCCL_IF_IP=10.0.0.{number}\n" in sourced(text, tmp_path, f"n{number}").stdout
    other = sourced(text, tmp_path, "n4")
    assert other.returncode != 0
    assert "HCCL_" not in other.stdout
    assert "no environment for host n4" in other.stderr


def test_docker_takes_each_as_one_argument() -> None:
    command = f"printf '%s\\n' run \\\n{render.as_docker(ODD)} image"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:-1] == ["-e", "A=it's $HOME `id` \\", "-e", "HCCL_SOCKET_IFNAME==eth0"]


def test_dotenv_needs_no_quotes_or_refuses() -> None:
    text = render.as_dotenv(environments(site(*THREE), Role.SERVE)[0])
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert "HCCL_SOCKET_IFNAME==eth0" in lines
    assert all("'" not in line and '"' not in line for line in lines)
    with pytest.raises(ValueError, match="A:"):
        render.as_dotenv(ODD)


def test_files(tmp_path: Path) -> None:
    folder = tmp_path / "env"
    folder.mkdir()
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (folder / "n1.sh").symlink_to(outside)
    (folder / "n9.sh").write_text("stale")
    cluster = f.ClusterFacts((*site(*THREE).hosts, unreached("n9")))
    written = write_environments(cluster, folder)
    assert [path.name for path in written] == ["n1.sh", "n2.sh", "n3.sh"]
    assert sorted(path.name for path in folder.iterdir()) == ["n1.sh", "n2.sh", "n3.sh"]
    assert outside.read_text() == "mine"
    assert not (folder / "n1.sh").is_symlink()
    assert stat.S_IMODE((folder / "n1.sh").stat().st_mode) == 0o644
    assert "HCCL_IF_IP='10.0.0.2'" in (folder / "n2.sh").read_text()
    with pytest.raises(EnvironmentFileError, match="name of a file"):
        write_files([replace(ODD, host="../n1")], folder)
    with pytest.raises(EnvironmentFileError, match="outside"):
        write_environments(cluster, outside)

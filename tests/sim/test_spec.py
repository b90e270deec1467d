"""Spec files: what is read, and what is said about those that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from ascendctl.sim.kinds import KINDS
from ascendctl.sim.spec import SpecError, load_spec, make_spec, parse_fault, parse_spec

HEAD = "generation: a2\nhosts: 4\n"


def test_a_full_spec() -> None:
    text = HEAD + (
        "seed: 3\nlatency: 0.5\nfaults:\n"
        "  - {host: 'node[02-03]', device: 5, kind: link-down}\n"
        "  - {host: node01, kind: busy, value: 3, command: hccn_tool -tls}\n"
    )
    spec = parse_spec(text, "spec.yaml")
    assert (spec.generation, spec.hosts, spec.seed, spec.latency) == ("a2", 4, 3, 0.5)
    assert spec.faults[0].hosts == ("node02", "node03")
    assert (spec.faults[1].value, spec.faults[1].command) == ("3", "hccn_tool -tls")


@pytest.mark.parametrize(("hosts", "last"), [(1, "node01"), (48, "node48"), (100, "node100")])
def test_host_names_sort_as_they_count(hosts: int, last: str) -> None:
    names = make_spec(generation="a2", hosts=hosts).host_names
    assert names[-1] == last
    assert list(names) == sorted(names)


def fault(fields: str) -> str:
    return HEAD + "faults:\n  - {host: node01, device: 1, kind: link-down}\n  - {" + fields + "}\n"


PROBLEMS = [
    ("generation: a2\nhosts: 0\n", "spec.yaml:2: hosts: "),
    ("generation: a4\nhosts: 2\n", "spec.yaml:1: generation: "),
    ("hosts: 2\n", "'generation' is missing"),
    (HEAD + "latancy: 1\n", "spec.yaml:3: unknown key 'latancy'; did you mean 'latency'?"),
    (
        fault("host: node01, kind: link-donw"),
        "spec.yaml:5: faults.1.kind: 'link-donw' is no kind of fault; did you mean",
    ),
    (
        fault("host: node01, kind: link-down, divice: 2"),
        "spec.yaml:5: unknown key 'faults.1.divice'; did you mean 'device'?",
    ),
    (
        fault("host: node09, kind: link-down"),
        "spec.yaml:5: fault link-down: no host node09; the hosts are node01 to node04",
    ),
    (fault("host: 'node[01-', kind: link-down"), "'node[01-' is no node set"),
    (fault("host: node01, kind: link-down, device: 8"), "no device 8; physical ids on A2 are 0 to 7"),
    (fault("host: node01, kind: link-down, device: -1"), "faults.1.device"),
    (fault("host: node01, kind: link-down, value: x"), "'link-down' cannot take value 'x': takes no value"),
    (
        fault("host: node01, kind: net-health, value: Healthy"),
        "'net-health' cannot take value 'Healthy': one of Success",
    ),
    (fault("host: node01, kind: command-hang, value: hard"), "one of ignores-term, grandchild, unkillable"),
    (fault("host: node01, kind: busy, value: 0"), "a count from 1, or permanent"),
    (fault("host: node01, kind: busy, command: npu-smi info"), "only hccn_tool says that it is busy"),
    (fault("host: node01, kind: link-down, command: hccn_tool -ip"), "'link-down' takes no command"),
    (
        fault("host: node01, kind: command-hang, command: rm -rf"),
        "the command must start with one of hccn_tool, npu-smi",
    ),
    (fault("host: node01, kind: ssh-refused, device: 1"), "is about the host and takes no device"),
    (fault("host: node01, kind: spod-invalid"), "only A3 servers have super pods"),
    (fault("host: node01, kind: pod-split"), "only A3 servers have super pods"),
    (fault("host: node01, kind: port-loss, value: 0"), "a percentage above 0"),
    (fault("host: node01, kind: port-loss, value: 101"), "a percentage above 0"),
    (fault("host: node01, kind: port-loss, value: 30-up"), "with -out or -in"),
    (fault("host: node01, kind: switch-loss, value: 30-out"), "with -uplinks"),
    (fault("host: node01, kind: leaf-switch-down, value: leaf-01"), "uplinks, or nothing"),
    (fault("host: node01, kind: clock-skew, value: 5 minutes"), "seconds, as 300"),
    (fault("host: node01, kind: driver-version, value: ''"), "a version: letters"),
    (fault("host: node01, kind: cable-swap, value: 'node02:3'"), "'device' is missing"),
    (fault("host: node01, device: 1, kind: cable-swap"), "'cable-swap' needs a value: another device"),
    (fault("host: node01, device: 1, kind: cable-swap, value: node02"), "as HOST:DEVICE"),
    (fault("host: node01, device: 1, kind: cable-swap, value: 'node09:1'"), "no device 'node09:1'"),
    (fault("host: node01, device: 1, kind: cable-swap, value: 'node02:8'"), "no device 'node02:8'"),
    (
        fault("host: node01, device: 1, kind: cable-swap, value: 'node01:1'"),
        "expected one device and another",
    ),
    (
        fault("host: 'node[01-02]', device: 1, kind: ip-duplicate, value: 'node03:1'"),
        "expected one device and another",
    ),
    (HEAD + "roce: none\n", "spec.yaml:3: 'roce: none' is for A3"),
    (HEAD + "background_loss: 2\n", "spec.yaml:3: background_loss"),
    ("[]", "expected a mapping"),
    ("a: [", "not valid YAML"),
]


@pytest.mark.parametrize(("text", "problem"), PROBLEMS, ids=[problem for _, problem in PROBLEMS])
def test_what_is_wrong_is_said_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "spec.yaml")
    assert len(caught.value.problems) == 1
    assert problem in caught.value.problems[0]


def test_an_unreadable_file_is_a_spec_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot read the spec"):
        load_spec(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("link-down@node03:5", {"kind": "link-down", "host": "node03", "device": 5}),
        ("no-tool@node[01-02]=npu-smi", {"kind": "no-tool", "host": "node[01-02]", "value": "npu-smi"}),
        ("hccn-conf-missing@node01", {"kind": "hccn-conf-missing", "host": "node01"}),
        (
            "command-hang@node01:2=grandchild,hccn_tool -tls",
            {
                "kind": "command-hang",
                "host": "node01",
                "device": 2,
                "value": "grandchild",
                "command": "hccn_tool -tls",
            },
        ),
        (
            "garbage-output@node01=npu-smi info -m",
            {"kind": "garbage-output", "host": "node01", "command": "npu-smi info -m"},
        ),
    ],
)
def test_a_fault_of_the_command_line(text: str, fields: dict[str, object]) -> None:
    assert parse_fault(text) == fields


@pytest.mark.parametrize("text", ["link-down", "@node01", "link-down@", "link-down@node01:x"])
def test_a_malformed_fault_of_the_command_line(text: str) -> None:
    with pytest.raises(SpecError, match=r"expected KIND@HOST"):
        parse_fault(text)


def test_kinds_are_those_promised() -> None:
    promised = (
        "link-down net-health no-lldp tls-unreadable ip-missing wrong-netmask gateway-outside "
        "hccn-conf-stale hccn-conf-missing npu-missing npu-health hccs-lanes spod-invalid "
        "ssh-refused ssh-auth ssh-hang command-hang garbage-output truncated-output no-tool "
        "no-permission busy "
        "optical-absent optical-rx-low link-flaps port-errors half-speed half-duplex mtu fec ecc-errors "
        "hccs-errors npu-process hbm-in-use open-files no-huge-pages time-unsynchronized"
    )
    between_hosts = (
        "port-loss hccs-port-down hccs-loss hccs-ping-denied npu-silent host-isolated leaf-switch-down "
        "switch-loss cable-swap ip-duplicate sdid-duplicate other-super-pod pod-split tls-switch npu-model "
        "driver-version firmware-version cann-version clock-skew hostname hostname-loopback "
        "hostname-unresolved host-nic-loss host-mtu host-route-missing host-firewall"
    )
    assert [kind.name for kind in KINDS] == promised.split() + between_hosts.split()


def test_a_cluster_that_uses_no_roce_has_no_fault_of_it() -> None:
    fields = {"generation": "a3", "hosts": 2, "roce": "none"}
    with pytest.raises(SpecError, match="this cluster uses no RoCE"):
        make_spec(**fields, faults=[{"kind": "port-loss", "host": "node01", "device": 3}])
    assert make_spec(**fields, faults=[{"kind": "hccs-loss", "host": "node01", "device": 3}]).faults


def test_the_other_device_of_a_fault() -> None:
    fields = parse_fault("cable-swap@node01:5=node02:3")
    (swap,) = make_spec(generation="a2", hosts=2, faults=[fields]).faults
    assert (swap.hosts, swap.device, swap.peer) == (("node01",), 5, ("node02", 3))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_default_value_of_a_kind_is_one_it_accepts(kind: object) -> None:
    default, accepts = kind.default, kind.accepts  # type: ignore[attr-defined]
    assert default is None or accepts(default)

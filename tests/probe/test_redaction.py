"""Redacted bundles: the same verdicts, and nothing left that names a customer."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import re
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from ascendctl.cli import run
from ascendctl.facts import Cable, Expectation, Reach, ReachStatus
from ascendctl.inventory import Waiver
from ascendctl.parsers import parse
from ascendctl.probe import redaction
from ascendctl.probe.archive import recording_folder, write_archive, write_private
from ascendctl.probe.bundle import HostRecord, Recorder, RecordingError, load
from ascendctl.probe.capture import CaptureSink, decode
from ascendctl.probe.catalogue import COMMANDS
from ascendctl.probe.frames import MAX_STREAM_BYTES
from ascendctl.probe.pseudonyms import KEPT_IPV4, AddressMap, Kind, Pseudonyms
from ascendctl.probe.redaction import Redactor, Survey, new_redactor
from ascendctl.probe.script import build_script
from ascendctl.results import Result, Run
from ascendctl.sim.faults import cluster_of
from ascendctl.sim.kinds import STANDARD_KINDS
from ascendctl.sim.model import Host
from ascendctl.sim.render import RenderedHost, render_cluster
from ascendctl.sim.spec import make_spec
from ascendctl.verify import replay
from tests.fault_recordings import fault_recording
from tests.probe.test_frames import NONCE, STREAM
from tests.test_faults import ROWS

STARTED = dt.datetime(2026, 11, 20, 8, 30, tzinfo=dt.timezone.utc)
NETMASKS = [f"{IPv4Network((0, length)).netmask}" for length in range(1, 33)]
KEY = bytes(range(32))

# --- addresses ------------------------------------------------------------------------------------


def pseudonyms(*segments: str, key: bytes = KEY) -> Pseudonyms:
    return Pseudonyms(key, segments=[IPv4Network(text) for text in segments])


def shared_bits(one: str, other: str) -> int:
    return 32 - (int(IPv4Address(one)) ^ int(IPv4Address(other))).bit_length()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("10.20.1.11", "10.20.1.12"),
        ("10.20.1.11", "10.20.2.11"),
        ("10.20.1.11", "172.16.3.4"),
        ("33.215.118.8", "33.215.118.9"),
        ("192.168.1.5", "192.168.9.5"),
        ("10.20.1.11", "11.20.1.11"),
    ],
)
def test_two_addresses_share_as_many_bits_as_before(one: str, other: str) -> None:
    for number in range(50):
        names = pseudonyms("10.20.1.0/24", key=bytes([number]) * 32)
        assert shared_bits(names.ipv4(one), names.ipv4(other)) == shared_bits(one, other)


def test_the_first_and_last_address_of_a_segment_stay_so_and_no_other_becomes_it() -> None:
    for number in range(30):
        names = pseudonyms("10.20.1.64/26", key=bytes([number]) * 32)
        first, last, *others = (names.ipv4(f"10.20.1.{host}") for host in (64, 127, 65, 66, 96, 126))
        segment = IPv4Network(f"{first}/26")  # refuses host bits
        assert last == str(segment.broadcast_address)
        assert all(IPv4Address(other) in segment and other not in (first, last) for other in others)


@pytest.mark.parametrize(
    "text",
    [
        *NETMASKS,
        "0.0.0.0",
        "127.0.0.1",
        "169.254.7.9",
        "224.0.0.18",
        "255.255.255.255",
        "192.168.2.199",
        "192.168.3.184",
        "192.40.2.199",
        "192.0.3.184",
    ],
)
def test_what_means_something_by_itself_stays(text: str) -> None:
    assert all(pseudonyms(key=bytes([number]) * 32).ipv4(text) == text for number in range(20))


@pytest.mark.parametrize(
    "text",
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/21", "192.168.1.0/24", "192.168.2.0/24", "192.0.0.0/8"],
)
def test_a_reserved_range_maps_into_itself(text: str) -> None:
    network = IPv4Network(text)
    inside = [str(network[5]), str(network[network.num_addresses // 3]), str(network[-2])]
    outside = [str(network.network_address - 3), str(network.broadcast_address + 3)]
    for number in range(20):
        names = pseudonyms(key=bytes([number]) * 32)
        assert all(IPv4Address(names.ipv4(address)) in network for address in inside)
        assert not any(IPv4Address(names.ipv4(address)) in network for address in outside)


def test_the_map_is_one_to_one() -> None:
    mapped = AddressMap(KEY, bits=32, kept=KEPT_IPV4, into_themselves=[])
    start = int(IPv4Address("192.168.0.0"))
    assert len({mapped(number) for number in range(start, start + 4096)}) == 4096


def test_other_addresses() -> None:
    names = pseudonyms()
    assert [names.ipv6(text) for text in ("::1", "ff02::1")] == ["::1", "ff02::1"]
    assert names.ipv6("fe80::5a:1ff:fe02:3") != "fe80::5a:1ff:fe02:3"
    assert names.ipv6("fe80::5a:1ff:fe02:3").startswith("fe80::")
    mac = names.mac("34:0a:98:11:22:33")
    assert re.fullmatch("02(:[0-9a-f]{2}){5}", mac)
    assert (
        names.mac("340A-9811-2233")
        == f"{mac[0:2]}{mac[3:5]}-{mac[6:8]}{mac[9:11]}-{mac[12:14]}{mac[15:]}".upper()
    )
    assert names.mac("ff:ff:ff:ff:ff:ff") == "ff:ff:ff:ff:ff:ff"


# --- single answers -------------------------------------------------------------------------------

PROCESSES = """\
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| 0       0                 | 20002         | acme-secret-llm          | 115                     |
| 0       0                 | 20003         |                          | 115                     |
| 0       0                 | 20004         | acme-secret-llm          | 116                     |
+===========================+===============+====================================================+
| No running processes found in NPU 1                                                            |
+===========================+===============+====================================================+
"""
CERTIFICATE = """\
dev_id:0, tls switch[1](0:disable, 1:enable), tls preconfigured[0](0:non-preset, 1:preset)
dev_id:0, [pub cert] info:
  issuer[CN=ca.acme.example, O=Acme]
"""
NEIGHBOUR = """\
Chassis ID TLV
\tMAC: 34:0a:98:11:22:33
Port ID TLV
\tIfname: 400GE1/1/3
Port Description TLV
\tto node-7 of Acme
System Name TLV
\tacme-leaf-3.dc.acme.example
System Description TLV
\tHuawei Versatile Routing Platform
\tacme hall 4
Management Address TLV
\tIPv4: 10.20.1.253
End of LLDPDU TLV
"""

# Command, what it printed, what must be gone, and what must still be there.
ANSWERS = [
    ("hostname", "node-7.dc.acme.example\n", ["node-7", "acme"], ["host-1.domain-1\n"]),
    ("hostname-addresses", "10.20.1.11 127.0.1.1\n", ["10.20.1"], ["127.0.1.1\n"]),
    (
        "lldp",
        NEIGHBOUR,
        ["acme", "Acme", "34:0a", "10.20.1", "node-7", "Huawei"],
        ["400GE1/1/3", "switch-1.domain-1"],
    ),
    (
        "tls",
        CERTIFICATE,
        ["acme", "Acme"],
        ["tls switch[1](0:disable, 1:enable)", "dev_id:0, [pub cert] info:"],
    ),
    ("npu-smi", PROCESSES, ["acme"], ["| process-1                |", "20003", "found in NPU 1"]),
    (
        "npu-smi",
        "| npu-smi 24.1.0.3                   Version: 24.1.0.3              |\n",
        [],
        ["npu-smi 24.1.0.3 ", "Version: 24.1.0.3 "],
    ),
    (
        "kernel",
        "Linux 5.10.0-216.0.0.115.oe2203sp4.aarch64 aarch64\n",
        [],
        ["5.10.0-216.0.0.115.oe2203sp4.aarch64"],
    ),
    (
        "driver-version",
        "Version=24.1.0.3\ncustomer=Acme\n",
        ["Acme"],
        ["Version=24.1.0.3\n", "customer=redacted"],
    ),
    (
        "os-release",
        'NAME="openEuler"\nPRETTY_NAME="openEuler 22.03"\nHOME_URL="https://acme"\n',
        ["acme"],
        ["openEuler 22.03"],
    ),
    (
        "hccn-conf",
        "# rack of Acme\naddress_0=10.20.1.11\nnetmask_0=255.255.255.0\nowner_0=acme\n",
        ["Acme", "acme", "10.20.1"],
        ["netmask_0=255.255.255.0", "address_0=10."],
    ),
    (
        "host-addresses",
        "2: enp67s0f0    inet 10.20.1.7/24 brd 10.20.1.255 scope global enp67s0f0\\ valid_lft forever\n"
        "3: acme0    inet 10.20.1.9/24 scope global secondary acme0:x\\ valid_lft forever\n"
        "3: acme0    inet6 fe80::360a:98ff:fe11:2233/64 scope link \\ valid_lft forever\n",
        ["10.20.1", "acme", "fe11:2233"],
        ["2: enp67s0f0    inet 10.", "/24 brd 10.", "secondary interface-1"],
    ),
    (
        "optical",
        "vendor serial number : V8BD6H25033\nvendor name : X\n",
        ["V8BD6H25033"],
        ["serial number : serial-1\n"],
    ),
    (
        "board",
        "\tVDie ID    : 42C711D4 20B03704\n\tPCIe Bus Info : 0000:61:00.0\n",
        ["42C711D4", "20B03704"],
        ["0000:61:00.0"],
    ),
    (
        "vnic",
        "vnic ipaddr: 192.40.2.199\nvnic netmask: 255.255.255.0\n",
        [],
        ["192.40.2.199", "255.255.255.0"],
    ),
    ("ip", "ipaddr:10.20.1", ["10.20.1"], ["ipaddr:10."]),
    ("spod-info", "SDID : 4194307\nServer Index : 1\n", [], ["SDID : 4194307\nServer Index : 1\n"]),
    (
        "new-command",
        "password=hunter2 at /home/ops/run on node-7\n",
        ["hunter2", "ops", "node-7"],
        ["password=redacted"],
    ),
]


def stream_of(command: str, stdout: str, stderr: str = "", code: int = 0) -> bytes:
    mark = f"\n@{NONCE}"
    head = f"welcome to acme\n{mark} hello 1\n{mark} begin {command} 0 0 0 {code} 1\n"
    return f"{head}{stdout}{mark} stderr\n{stderr}{mark} end\n{mark} done\n".encode()


def redacted_answer(command: str, stdout: str, stderr: str = "") -> tuple[str, str, Redactor]:
    """With one key for all runs: under a random one a pseudonym may begin as the original does."""
    stream = stream_of(command, stdout, stderr)
    survey = Survey(["node-7"])
    survey.learn_stream(stream)
    redactor = Redactor(survey, KEY)
    redacted = redactor.stream(stream)
    assert b"welcome" not in redacted
    (answer,) = decode(redacted).answers.values()
    return answer.stdout.decode(), answer.stderr.decode(), redactor


@pytest.mark.parametrize(
    ("command", "stdout", "gone", "kept"), ANSWERS, ids=lambda v: v[:20] if isinstance(v, str) else ""
)
def test_an_answer_loses_what_names_its_owner_and_nothing_else(
    command: str, stdout: str, gone: list[str], kept: list[str]
) -> None:
    text, _, redactor = redacted_answer(command, stdout)
    for word in gone:
        assert word not in text
    for word in kept:
        assert word in text
    assert text.count("\n") == stdout.count("\n")
    assert not redactor.left_over(text.encode())


def test_a_process_table_keeps_its_width() -> None:
    text, _, _ = redacted_answer("npu-smi", PROCESSES.replace("acme-secret-llm ", "模型-acme|x   "))
    assert "acme" not in text
    widths = {len(line.encode()) for line in PROCESSES.splitlines()}
    assert {len(line) for line in text.splitlines()} == widths


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        (
            "ops is not in the sudoers file.  This incident will be reported.\n",
            "user-1 is not in the sudoers file",
        ),
        (
            "Sorry, user ops is not allowed to execute 'x' as root on node-7.\n",
            "Sorry, user user-1 is not allowed",
        ),
        ("[sudo] password for ops: \n", "password for user-1"),
        (
            "/home/ops/bin/cat: /etc/hccn.conf: No such file or directory\n",
            "/cat: /etc/hccn.conf: No such file",
        ),
    ],
)
def test_complaints_keep_their_meaning(stderr: str, said: str) -> None:
    _, text, _ = redacted_answer("hccn-conf", "", stderr)
    assert said in text
    assert "ops" not in text
    assert "node-7" not in text
    line = "cat /etc/hccn.conf"
    assert parse(line, b"", stderr.encode(), 1).status is parse(line, b"", text.encode(), 1).status


def test_an_lldp_text_that_was_cut_still_counts_as_cut() -> None:
    head, name, _ = NEIGHBOUR.partition("System Name TLV\n")
    description = "System Description TLV\n\t" + "acme " * 600
    whole = (head + description)[:1970] + "\n" + name + "\tacme-leaf-3.dc.acme.example\n"
    cut = whole.encode()[:1999] + b"\n"
    line = "hccn_tool -i 0 -lldp -g"
    text, _, _ = redacted_answer("lldp", cut.decode())
    for answer in (cut, text.encode()):
        facts = parse(line, answer).facts
        assert (facts.port_id, facts.system_name) == ("400GE1/1/3", None)
    assert "acme" not in text


# --- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stream",
    [
        STREAM,
        STREAM[: len(STREAM) // 2],
        STREAM.replace(b"\n", b"\r\n"),
        STREAM.replace(b"hello 1", b"hello 9"),
        STREAM + STREAM,
        STREAM + STREAM.replace(NONCE.encode(), b"f" * 32),
        b"no output of the probe",
        b"",
        b"x" * (MAX_STREAM_BYTES + 1),
    ],
    ids=["whole", "lost", "crlf", "version", "twice", "two runs", "foreign", "empty", "flood"],
)
def test_a_stream_is_as_complete_and_as_trusted_as_before(stream: bytes) -> None:
    before = decode(stream)
    after = decode(new_redactor(Survey(["node01"])).stream(stream))
    for field in ("hello", "complete", "overflow", "problem", "fatal", "skips"):
        assert getattr(after, field) == getattr(before, field), field
    assert list(after.answers) == list(before.answers)
    assert [a.exit_code for a in after.answers.values()] == [a.exit_code for a in before.answers.values()]
    assert set(after.tools) == set(before.tools)


def test_names_are_found_inside_tokens_and_keywords_are_left_alone() -> None:
    redactor = Redactor(Survey(["gpu-01.acme.example", "link", "h1"]), KEY)
    text = b"link status: UP gpu-01-bmc GPU-01 gpu-01.acme.example h1x h1\n"
    said = redactor.answer("link", text).decode()
    assert said == "link status: UP host-1-bmc host-1 host-1.domain-1 h1x host-3\n"
    assert redactor.name("link") == "host-2"


def test_a_pseudonym_is_never_the_name_of_another_host() -> None:
    redactor = Redactor(Survey(["host-2", "host-1"]), KEY)
    assert [redactor.name(name) for name in ("host-2", "host-1")] == ["xhost-1", "xhost-2"]


def test_left_over_names_what_is_left() -> None:
    survey = Survey(["node-7"])
    survey.learn_stream(stream_of("ip", "ipaddr:10.20.1.11\nnetmask:255.255.255.0\n"))
    redactor = new_redactor(survey)
    redactor.stream(stream_of("ip", "ipaddr:10.20.1.11\nnetmask:255.255.255.0\n"))
    left = redactor.left_over(b"NODE-7 has 10.20.1.11\n-----BEGIN OPENSSH PRIVATE KEY-----")
    assert left == {"node-7", "10.20.1.11", "a private key"}


def test_the_index_keeps_numbers_and_loses_words() -> None:
    index = {
        "format": 1,
        "hosts": [
            {
                "name": "node-7",
                "expectation": {
                    "group": "acme",
                    "tags": ["t"],
                    "nic": "acme0",
                    "npus": 8,
                    "limits": {"x": 0.5},
                },
                "reach": {
                    "status": "authentication",
                    "detail": "gw.acme port 22 refused user ops: tried publickey id_acme; "
                    "jump host hop1: 'acme'",
                    "via": "hop1",
                },
            }
        ],
        "waivers": [{"check": "link", "hosts": ["node-7"], "reason": "Acme", "until": "2026-12-01"}],
    }
    survey = Survey(["node-7"])
    survey.learn_index(index)
    redacted = new_redactor(survey).index(index)
    text = json.dumps(redacted)
    for word in ("acme", "Acme", "ops", "hop1", "node-7", '"t"'):
        assert word not in text
    (host,) = redacted["hosts"]
    assert host["expectation"]["npus"] == 8
    assert host["expectation"]["limits"] == {"x": 0.5}
    assert host["reach"]["status"] == "authentication"
    assert "port 22 refused user user-1: tried publickey" in host["reach"]["detail"]
    assert redacted["waivers"] == [
        {"check": "link", "hosts": ["host-1"], "reason": "redacted", "until": "2026-12-01"}
    ]


# --- every kind of fault --------------------------------------------------------------------------

ASK = tuple(replace(command, timeout_s=4) for command in COMMANDS)
NOT_REACHED = {
    "ssh-refused": Reach(ReachStatus.REFUSED, "{address} port 22 refused the connection"),
    "ssh-auth": Reach(
        ReachStatus.AUTHENTICATION, "{address} port 22 refused user ops: tried publickey id_acme"
    ),
    "ssh-hang": Reach(
        ReachStatus.TIMEOUT, "no answer at TCP connect to {address} port 22 from jump host hop-a1"
    ),
}


@dataclass
class Bundled:
    """A recording with one fault per host, its archive, and what is in both.

    ``simulated_in``: the folder of the hosts' tools, whose paths the hosts name.
    """

    recording: Path
    simulated_in: Path
    archive: Path
    key: dict[str, dict[str, str]]
    hosts: dict[str, Host]
    files: dict[str, bytes]


@pytest.fixture(scope="module", params=["a2", "a3"])
def bundled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundled:
    rows = [row for row in ROWS if row.only in ("", request.param)]
    recorded = fault_recording(request.param, [row.fault for row in rows], tmp_path_factory)
    states = {host.name: host for host in cluster_of(recorded.spec).hosts}
    kinds = {name: row.fault["kind"] for name, row in zip(states, rows, strict=False)}
    folder = tmp_path_factory.mktemp("bundle")
    recorder = new_recorder(folder / "recording")
    records = []
    for host in load(recorded.recording).hosts:
        stream = recorded.recording / f"{host.name}.probe"
        if stream.exists():
            recorder.writer(host.name)(b"welcome to acme\n" + stream.read_bytes())
        reach = not_reached(states[host.name], kinds.get(host.name, "")) or host.reach
        records.append(replace(host, expectation=expectation(states[host.name]), reach=reach))
    recorder.finish(records)
    archive, key = folder / "out.tar.gz", folder / "key.json"
    assert run(["bundle", str(folder / "recording"), "-o", str(archive), "--key", str(key)]) == 0
    with tarfile.open(archive) as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
    given = json.loads(key.read_text())["originals"]
    return Bundled(folder / "recording", recorded.simulated_in, archive, given, states, files)


def new_recorder(folder: Path) -> Recorder:
    waivers = [Waiver("link", frozenset({"node01"}), 3, dt.date(2099, 1, 1), "Acme ordered a module")]
    return Recorder(folder, waivers, STARTED)


def expectation(host: Host) -> Expectation:
    cabling = {
        die.phy_id: Cable(die.port.neighbour.system_name, die.port.neighbour.port)
        for die in host.dies
        if die.port.neighbour is not None
    }
    return Expectation(nic=host.nic, group="acme-hall", tags=frozenset({"acme"}), cabling=cabling)


def not_reached(host: Host, kind: str) -> Reach | None:
    """How reaching a host with such a fault goes, in words that name its owner; None where it is reached."""
    reach = NOT_REACHED.get(kind)
    if reach is None:
        return None
    via = "hop-a1" if "hop" in reach.detail else None
    return replace(reach, detail=reach.detail.format(address=host.nic_address), via=via)


def record(folder: Path, rendered: tuple[RenderedHost, ...]) -> None:
    """What verify records, asked of the hosts' stand-ins without SSH."""
    recorder = new_recorder(folder)
    script = build_script(NONCE, sudo=False, commands=ASK)

    def ask(host: RenderedHost) -> HostRecord:
        sent_at = time.time()
        answered = subprocess.run(
            ["/bin/sh", "-s"],
            input=script,
            stdout=subprocess.PIPE,
            env={"PATH": f"{host.bin}:/usr/bin:/bin", "TMPDIR": str(host.tmp)},
            check=False,
        ).stdout
        recorder.writer(host.name)(b"welcome to acme\n" + answered)
        sink = CaptureSink(None)
        sink.feed(answered, time.time())
        reached = Reach(ReachStatus.REACHED)
        return HostRecord(host.name, expectation(host.state), reached, sink.capture(), sent_at, 1.0)

    recorder.finish([ask(host) for host in rendered])


def test_every_kind_of_fault_is_in_the_recordings() -> None:
    assert {row.fault["kind"] for row in ROWS} == {kind.name for kind in STANDARD_KINDS}


def test_replaying_the_bundle_gives_the_same_cells(bundled: Bundled) -> None:
    before = replay(load(bundled.recording))
    with recording_folder(bundled.archive) as folder:
        after = replay(load(folder))
    assert len(before.results) == len(after.results) > 1000
    original = bundled.key["host"]
    for one, other in zip(before.results, after.results, strict=True):
        assert cell(one, {}) == cell(other, original)
    assert {result.status.value for result in before.results} >= {
        "fail",
        "warn",
        "unknown",
        "skipped",
        "waived",
    }
    assert notes(before) == notes(after)


def cell(result: Result, original: dict[str, str]) -> tuple[Any, ...]:
    """A cell with its host's original name and what a host prints taken out of its message."""

    def key(of: Any) -> tuple[Any, ...]:
        subject = of.subject
        return (of.check, original.get(subject.host, subject.host), subject.npu, subject.chip, subject.device)

    message = re.sub(r"\d+(\.\d+){3}(/\d+)?", "ADDRESS", result.message)
    message = re.sub(r"it reads .*", "it reads TEXT", message)
    message = re.sub(r"(waived until [\d-]+): .*", r"\1: REASON", message)
    return key(result), result.status, message, result.root_fails, result.caused_by and key(result.caused_by)


def notes(run: Run) -> list[tuple[Any, ...]]:
    parts = ("os", "kernel", "driver", "firmware", "cann", "clock offset")
    return [(n.generation, n.devices, n.answered, *(n.details.get(p) for p in parts)) for n in run.hosts]


def originals(host: Host) -> Iterator[str]:
    """Everything of a simulated host that names it."""
    yield from (host.name, host.nic_address)
    for die in host.dies:
        port, neighbour = die.port, die.port.neighbour
        yield from filter(None, (port.address, port.gateway, port.netdetect, port.mac))
        if neighbour:
            yield from (neighbour.chassis_mac, neighbour.system_name, neighbour.management_address)
            yield neighbour.description.splitlines()[0]


def test_no_original_is_left_in_the_archive(bundled: Bundled) -> None:
    recorded = b"".join(path.read_bytes() for path in bundled.recording.iterdir())
    packed = gzip.decompress(bundled.archive.read_bytes())
    words = {word for host in bundled.hosts.values() for word in originals(host)}
    words |= {
        "acme",
        "Acme",
        "ops",
        "hop-a1",
        "id_acme",
        str(bundled.simulated_in),
        bundled.simulated_in.name,
        str(bundled.recording.parent),
    }
    seen = [word for word in words if word.encode() in recorded]
    assert len(seen) > 200  # the search can find something
    assert str(bundled.simulated_in) in seen
    left = {
        word
        for word in words
        if word.encode() in packed
        and re.search(rb"(?<![\d.])" + re.escape(word.encode()) + rb"(?!\d|\.\d)", packed)
    }
    assert left == set()


def test_the_listing_counts_and_names_no_original(bundled: Bundled) -> None:
    listing = json.loads(bundled.files["recording/redaction.json"])
    assert listing["replaced"]["host"] == len(bundled.hosts) + 1  # and the jump host
    assert len(listing["pseudonyms"]["ipv4"]) == listing["replaced"]["ipv4"] > 100
    assert listing["replaced"]["mac"] > 0
    assert set(bundled.key["host"].values()) == {*bundled.hosts, "hop-a1"}


def test_the_archive_tells_nothing_of_its_writer(bundled: Bundled) -> None:
    assert stat.S_IMODE(bundled.archive.stat().st_mode) == 0o600
    assert stat.S_IMODE(bundled.archive.with_name("key.json").stat().st_mode) == 0o600
    with tarfile.open(bundled.archive) as tar:
        for member in tar:
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            assert (member.mode, member.mtime) == (0o600, STARTED.timestamp())
    assert bundled.archive.read_bytes()[3:8] == b"\0" * 5  # gzip: no name, no time


def test_verify_reads_the_archive(bundled: Bundled, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "--replay", str(bundled.archive), "--format", "json", "--quiet"]) == 1
    assert {c["subject"]["host"] for c in json.loads(capsys.readouterr().out)["results"]} >= {"host-01"}


# --- the command ----------------------------------------------------------------------------------


def small_recording(folder: Path) -> Path:
    recorder = Recorder(folder, [], STARTED)
    recorder.writer("node-7")(stream_of("ip", "ipaddr:10.20.1.11\nnetmask:255.255.255.0\n"))
    recorder.finish([HostRecord("node-7", Expectation(), Reach(ReachStatus.REACHED))])
    return folder


def test_hand_carried_outputs_are_bundled_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "outputs"
    folder.mkdir()
    (folder / "node-7.txt").write_bytes(stream_of("hostname", "node-7\n"))
    (folder / "node-8.txt").write_bytes(b"nothing of the probe")
    (folder / "secrets.yaml").write_text("password: hunter2")
    assert run(["bundle", str(folder), "-o", str(tmp_path / "out.tar.gz")]) == 0
    assert "2 host" in capsys.readouterr().out
    with recording_folder(tmp_path / "out.tar.gz") as extracted:
        assert sorted(p.name for p in extracted.iterdir()) == ["host-1.txt", "host-2.txt", "redaction.json"]
        assert [host.reach.status.value for host in load(extracted).hosts] == ["reached", "bad-output"]


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, there = small_recording(tmp_path / "run"), tmp_path / "there"
    there.write_text("mine")
    for arguments in (["-o", str(there)], ["-o", str(tmp_path / "new"), "--key", str(there)]):
        assert run(["bundle", str(folder), *arguments]) == 2
        assert "already there" in capsys.readouterr().err
    assert run(["bundle", str(folder), "-o", str(tmp_path / "new"), "--key", str(tmp_path / "new")]) == 2
    assert run(["bundle", str(tmp_path / "none"), "-o", str(tmp_path / "new")]) == 2
    assert there.read_text() == "mine"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("method", "broken", "said"),
    [
        ("answer", lambda self, command, stdout: stdout, "originals would still be in it"),
        ("answer", lambda self, command, stdout: b"", "judged differently"),
    ],
)
def test_a_bundle_that_tells_or_judges_otherwise_is_not_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
    broken: Any,
    said: str,
) -> None:
    bin_path = render_cluster(make_spec(generation="a2", hosts=1), tmp_path / "hosts", cheap=True)
    record(tmp_path / "run", bin_path)
    # The survey's addresses count as left only once they were given a pseudonym.
    monkeypatch.setattr(redaction.Redactor, method, broken)
    assert run(["bundle", str(tmp_path / "run"), "-o", str(tmp_path / "new")]) == 4
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("/etc/passwd", tarfile.REGTYPE),
        ("recording/../x", tarfile.REGTYPE),
        ("recording/a/b", tarfile.REGTYPE),
        ("recording/.hidden", tarfile.REGTYPE),
        ("recording/link", tarfile.SYMTYPE),
        ("recording/hard", tarfile.LNKTYPE),
        ("recording/pipe", tarfile.FIFOTYPE),
        ("other/x", tarfile.REGTYPE),
    ],
)
def test_an_archive_with_anything_else_in_it_is_refused(tmp_path: Path, name: str, kind: bytes) -> None:
    path = tmp_path / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member, io.BytesIO())
    with pytest.raises(RecordingError, match=re.escape(repr(name))), recording_folder(path):
        pass


@pytest.mark.parametrize(
    "data", [b"", b"no archive", gzip.compress(b"no tar", mtime=0)], ids=["empty", "no gzip", "no tar"]
)
def test_a_damaged_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "damaged.tar.gz"
    path.write_bytes(data)
    with pytest.raises(RecordingError, match="damaged"), recording_folder(path):
        pass


def test_a_file_that_appeared_in_between_is_not_overwritten(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    for write in (lambda: write_private(there, b"x"), lambda: write_archive(there, {}, modified_at=0)):
        with pytest.raises(RecordingError, match="already there"):
            write()
    assert there.read_text() == "mine"


def test_equal_contents_give_equal_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    for name in ("one", "two"):
        write_archive(tmp_path / name, {"a": tmp_path / "a"}, modified_at=7)
        time.sleep(0.01)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_no_two_bundles_share_their_pseudonyms() -> None:
    survey = Survey([])
    survey.learn_stream(stream_of("ip", "ipaddr:10.20.1.11\nnetmask:255.255.255.0\n"))
    images = set()
    for _ in range(5):
        redactor = new_redactor(survey)
        redactor.stream(stream_of("ip", "ipaddr:10.20.1.11\nnetmask:255.255.255.0\n"))
        images |= set(redactor.given[Kind.IPV4].values())
    assert len(images) > 1

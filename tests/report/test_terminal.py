"""The summary on a terminal: what it says, that it fits, and that a host's text cannot act."""

from __future__ import annotations

import io
import random
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from ascendctl.report.terminal import percent_text, render_summary
from ascendctl.results import (
    Coverage,
    ExitCode,
    HostNote,
    Result,
    Run,
    Status,
    Subject,
    SubjectKind,
    exit_code,
    host_subject,
)
from tests.report import runs


def rendered(
    run: Run, *, width: int = 100, strict: bool = False, code: int | None = None, **console: bool
) -> str:
    stream = io.StringIO()
    code = exit_code(run.results, strict=strict, interrupted=run.interrupted) if code is None else code
    render_summary(run, Console(file=stream, width=width, **console), strict=strict, exit_code=code)
    return stream.getvalue()


def some_faults() -> Run:
    """Eight hosts: one port down on two, one host silent, one warning, one waived."""
    names = [f"node{number:02d}" for number in range(1, 9)]
    cells = [*runs.silent_host("node07")]
    for name in names:
        faulty = name in ("node02", "node03")
        cells += runs.link_down(name, 3) if faulty else []
        if name != "node07":
            cells += runs.passes(name, [phy_id for phy_id in range(8) if not (faulty and phy_id == 3)])
    cells += [
        Result("net-health", runs.device("node05", 0), Status.WARN, "never measured"),
        Result("clock", host_subject("node06"), Status.WAIVED, "waived until 2026-12-31: ticket 7"),
    ]
    notes = [HostNote(name) if name == "node07" else runs.note(name) for name in names]
    return runs.run_of(cells, notes)


def reachable_only(*statuses: Status) -> Run:
    cells = [
        Result("reachable", host_subject(f"a{number}"), status, "said")
        for number, status in enumerate(statuses)
    ]
    return runs.run_of(cells, [runs.note(f"a{number}") for number in range(len(statuses))])


OFF_HOST = runs.run_of(
    [Result("mesh", Subject(SubjectKind.SWITCH, switch="leaf-1"), Status.FAIL, "lost")], [runs.note("a")]
)


@pytest.mark.parametrize(
    ("run", "options", "first_line"),
    [
        pytest.param(runs.clean(3), {}, "FIT: 3 hosts", id="fit"),
        pytest.param(runs.clean(1), {}, "FIT: 1 host", id="one host"),
        pytest.param(
            reachable_only(Status.PASS, Status.WARN),
            {},
            "FIT: 2 hosts; 1 of 2 hosts has warnings",
            id="warned",
        ),
        pytest.param(
            reachable_only(Status.PASS, Status.WARN),
            {"strict": True},
            "NOT FIT: 1 of 2 hosts has findings",
            id="strict",
        ),
        pytest.param(
            some_faults(),
            {},
            "NOT FIT: 2 of 8 hosts have findings; 1 of 8 hosts did not answer",
            id="not fit",
        ),
        pytest.param(OFF_HOST, {}, "NOT FIT: 1 finding between or beyond hosts", id="on a switch"),
        pytest.param(
            reachable_only(Status.PASS, Status.UNKNOWN),
            {},
            "NOT PROVEN: nothing wrong was found, but 1 of 2 hosts was looked at only in part",
            id="partly",
        ),
        pytest.param(
            reachable_only(Status.PASS, Status.UNKNOWN),
            {"code": ExitCode.OK},
            "FIT as far as was looked: 1 of 2 hosts was looked at only in part",
            id="low --min-coverage",
        ),
        pytest.param(runs.run_of([]), {}, "NOT PROVEN: nothing was looked at", id="nothing"),
        pytest.param(
            reachable_only(Status.FAIL, Status.ERROR),
            {},
            "NOT PROVEN: ascendctl itself failed on some cells; 2 of 2 hosts have findings",
            id="internal",
        ),
        pytest.param(
            runs.run_of(runs.silent_host("a"), [HostNote("a")], interrupted=True),
            {},
            "INTERRUPTED after 12 s: nothing wrong was found until then; 1 of 1 host did not answer",
            id="interrupted",
        ),
    ],
)
def test_first_line_is_the_verdict(run: Run, options: dict[str, object], first_line: str) -> None:
    assert rendered(run, **options).splitlines()[0] == first_line  # type: ignore[arg-type]


def test_figures() -> None:
    text = rendered(some_faults())
    assert "8 hosts, 56 devices, 12.5 s, 2026-03-04 05:06:07 UTC" in text
    assert "coverage 98.6 %: 226 of 229 cells looked at" in text
    assert "✔ 216 pass  ▲ 1 warn  ✖ 2 fail  » 8 skipped  ? 1 unknown  ~ 1 waived" in text


@pytest.mark.parametrize(
    ("covered", "text"),
    [
        (Coverage(100_000, 99_999), "99.9 %"),
        (Coverage(3, 3), "100.0 %"),
        (Coverage(0, 0), "0.0 %"),
    ],
)
def test_only_the_whole_is_a_hundred_percent(covered: Coverage, text: str) -> None:
    assert percent_text(covered) == text


def test_map_shows_states_by_shape_and_folds_equal_hosts() -> None:
    lines = rendered(some_faults()).splitlines()
    assert "  ✖  ✔✔✔✖✔✔✔✔   a2  node[02-03]" in lines
    assert "  ?  no answer      node07" in lines
    assert "  ▲  ▲✔✔✔✔✔✔✔   a2  node05" in lines
    assert "  ~  ✔✔✔✔✔✔✔✔   a2  node06" in lines
    assert "  ✔  ✔✔✔✔✔✔✔✔   a2  node[01,04,08]" in lines
    assert "  ✖ fail   ? not looked at   ▲ warning   ~ waived   ✔ pass" in lines


def test_a_part_explained_by_another_finding_is_not_shown_as_passed() -> None:
    _, *hidden = runs.link_down("a", 0)
    cells = [*hidden, *runs.passes("a", [0, 1], ["tls"])]
    assert "  »  »✔  " in rendered(runs.run_of(cells, [runs.note("a", 2)]), code=1)


def test_a_device_that_nobody_could_look_at_is_a_question() -> None:
    mapping = Result("npu-mapping", host_subject("a"), Status.UNKNOWN, "no answer")
    dark = [Result("tls", runs.device("a", n), Status.SKIPPED, "", caused_by=mapping.key) for n in range(3)]
    assert "  ?  ???  " in rendered(runs.run_of([mapping, *dark], [runs.note("a", 3)]))


def test_a_hole_in_the_physical_ids_shows() -> None:
    assert "✔✔-✔" in rendered(runs.run_of(runs.passes("a", [0, 1, 3]), [runs.note("a", 3)]))


def test_a_finding_tells_all_of_it() -> None:
    text = rendered(some_faults())
    finding = text[text.index("Findings\n") : text.index("  ▲ net-health")]
    assert finding.splitlines() == [
        "Findings",
        "  ✖ link  node[02-03] device 3: link is DOWN",
        "      seen      DOWN (expected UP)",
        "      leads to  HCCL cannot connect over this port (EI0006).",
        "      to do     Check the optical module and the cable.",
        "      read from hccn_tool -i 3 -link -g",
        "      cells     2",
        "      explains  6 more cells (gateway 2, lldp 2, net-health 2)",
    ]


def test_consequences_are_not_listed_on_their_own() -> None:
    headlines = re.findall(r"^  [✖▲?~!»] ([a-z-]+)  \S", rendered(some_faults()), re.MULTILINE)
    assert headlines == ["link", "net-health", "reachable", "clock"]


def test_what_could_not_be_looked_at_stands_apart() -> None:
    text = rendered(some_faults())
    dark = text[text.index("Could not be looked at\n") : text.index("Waived by the inventory")]
    assert "? reachable  node07: no answer: the connection timed out after 10 s" in dark
    assert "to do     Check that the host is up." in dark
    assert "hides     2 more cells (npu-count 1, tools 1), not looked at because of it" in dark


def test_waived_are_listed_with_their_date() -> None:
    text = rendered(some_faults())
    assert (
        "~ clock  node06: waived until 2026-12-31: ticket 7" in text[text.index("Waived by the inventory") :]
    )


def test_next_steps() -> None:
    last = rendered(some_faults())
    last = last[last.index("\nNext\n") :]
    assert "ascendctl explain link " in last
    assert "ascendctl verify … --hosts 'node[02-03,05,07]' " in last
    assert "--format json" in last
    assert "Next" not in rendered(runs.clean())


def test_strict_is_said() -> None:
    assert "Findings (--strict: warnings count as wrong)" in rendered(some_faults(), strict=True)


def test_an_absurd_physical_id_does_not_blow_the_map_up() -> None:
    text = rendered(runs.run_of(runs.passes("a", [0, 10**9]), [runs.note("a", 2)]))
    assert "  ✔  ✔✔  a2  a" in text


def test_a_host_lost_half_way_shows_the_half_it_gave() -> None:
    cells = [*runs.silent_host("a"), *runs.passes("a", [0, 1])]
    assert "  ?  ✔✔  " in rendered(runs.run_of(cells, [HostNote("a", devices=2, answered=False)]))


def wide_texts() -> Run:
    chinese = "链路状态为断开，请检查光模块和光纤是否插好，然后检查交换机端口" * 3
    cells = [
        Result(
            "tls", runs.device(f"节点{n:02d}", n % 8), Status.FAIL, chinese, "开", "关", chinese, "x" * 300
        )
        for n in range(40)
    ]
    return runs.run_of(cells, [runs.note(f"节点{n:02d}") for n in range(40)])


@pytest.mark.parametrize("width", [40, 57, 80, 120, 200])
@pytest.mark.parametrize(
    "run",
    [
        pytest.param(some_faults(), id="plain"),
        pytest.param(wide_texts(), id="CJK"),
        pytest.param(runs.one_of_everything(), id="everything"),
    ],
)
def test_no_line_is_wider_than_the_terminal(run: Run, width: int) -> None:
    for line in rendered(run, width=width).splitlines():
        # A command that a reader copies is not broken.
        assert cell_len(line) <= width or line.startswith("  ascendctl ")
        assert line == line.rstrip()


def test_nothing_is_lost_in_a_narrow_terminal() -> None:
    assert "".join(rendered(wide_texts(), width=40).split()).count("请检查光模块和光纤是否插好") >= 2


HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\n[bold red]gone[/] \u202egnp\u2066 \udcb9 :smile: \x00"


@pytest.mark.parametrize("width", [40, 200])
def test_text_of_a_host_cannot_act_on_the_terminal(width: int) -> None:
    fields = ("message", "expected", "actual", "consequence", "remedy", "command")
    cell = Result(
        HOSTILE,
        Subject(SubjectKind.LINK, host=HOSTILE, device=1, switch=HOSTILE, group=HOSTILE),
        Status.FAIL,
        **{field: f"{HOSTILE}[red]{field}[/red]" for field in fields},
        evidence=HOSTILE,
    )
    notes = [HostNote(HOSTILE, HOSTILE, HOSTILE, HOSTILE, 1, True, {HOSTILE: HOSTILE})]
    text = rendered(runs.run_of([cell], notes), width=width, force_terminal=False)
    assert all(char.isprintable() or char == "\n" for char in text)
    text.encode("utf-8")
    joined = "".join(text.split())
    assert "\\x1b[2J" in joined
    for field in fields:
        assert f"[boldred]gone[/]\\u202egnp\\u2066\\xb9:smile:\\x00[red]{field}[/red]" in joined
    assert ":smile:" in joined


def test_on_a_terminal_only_colours_are_sent() -> None:
    cell = Result("link", host_subject("a"), Status.FAIL, HOSTILE)
    text = rendered(runs.run_of([cell], [runs.note("a")]), force_terminal=True)
    assert "\x1b[1;31m" in text
    assert set(re.findall(r"\x1b(?!\[[0-9;]*m)", text)) == set()
    assert "\x07" not in text


def test_no_colour_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    codes = re.findall(r"\x1b\[([0-9;]*)m", rendered(some_faults(), force_terminal=True))
    numbers = {int(code) for group in codes for code in group.split(";") if code}
    assert not [number for number in numbers if 30 <= number <= 49 or 90 <= number <= 107]


def test_not_a_terminal_no_control_codes() -> None:
    assert "\x1b" not in rendered(some_faults())


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "latin-1"])
def test_a_terminal_without_unicode_gets_plain_shapes(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    cell = Result("tls", host_subject("node01"), Status.FAIL, "开关不一致")
    run = runs.run_of([*some_faults().results, cell], some_faults().hosts)
    render_summary(run, Console(file=stream, width=100), strict=False, exit_code=1)
    stream.flush()
    text = raw.getvalue().decode(encoding)
    assert "  x  +++x++++   a2  node[02-03]" in text
    assert ("开关不一致" if encoding == "gbk" else "\\u5f00") in text


def many_hosts(count: int, *, different: bool) -> Run:
    chance = random.Random(7)
    cells: list[Result] = []
    notes = []
    for number in range(count):
        name = f"node{number:04d}"
        notes.append(runs.note(name, 8))
        for phy_id in range(8):
            if chance.random() < 0.05:
                message = f"code 0x{chance.randrange(2**32):08x}" if different else f"lost {phy_id} packets"
                cells.append(Result("link", runs.device(name, phy_id), Status.FAIL, message))
            else:
                cells += runs.passes(name, [phy_id], ["link"])
        if number % 100 == 0:
            cells += runs.silent_host(name)
    return runs.run_of(cells, notes)


@pytest.mark.parametrize("different", [False, True], ids=["alike", "all different"])
def test_five_thousand_hosts_do_not_flood(different: bool) -> None:
    run = many_hosts(5_000, different=different)
    lines = rendered(run, width=80).splitlines()
    assert len(lines) <= 120
    assert max(map(cell_len, lines)) <= 80
    text = "\n".join(lines)
    fails = sum(cell.status is Status.FAIL for cell in run.results)
    assert f"✖ {fails:,} fail" in text
    if different:
        assert f"… and {fails - 25:,} more findings ({fails - 25:,} fail; {fails - 25:,} cells)" in text
        assert "all with --format json" in text.replace("\n    ", " ").replace("\n  ", " ")
    else:
        assert re.search(rf"link  {fails:,} devices on [\d,]+ hosts: lost 0…7 packets", text)
    rows = text[text.index("\nHosts and") : text.index("\nFindings")].splitlines()
    assert sum(line.startswith(("  ✖  ", "  ?  ", "  ✔  ")) for line in rows) <= 17
    assert any(re.match(r"  ✔  ✔{8} +a2  node\[", line) for line in rows), (
        "also the good hosts have their row"
    )


def test_every_host_is_in_the_map_or_counted_below_it() -> None:
    run = many_hosts(2_000, different=False)
    text = rendered(run, width=10_000)
    told = 0
    for line in text[text.index("Hosts and") : text.index("Findings")].splitlines():
        if more := re.search(r"and ([\d,]+) more host", line):
            told += int(more[1].replace(",", ""))
        elif names := re.search(r"node(\[.*\])?", line):
            from ClusterShell.NodeSet import NodeSet

            told += len(NodeSet(line[names.start() :]))
    assert told == 2_000

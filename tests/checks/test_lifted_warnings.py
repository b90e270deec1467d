"""A warning of the address plan that pings lift: both dies of an A3 NPU in one segment."""

from __future__ import annotations

from pathlib import Path

from ascendctl import facts as f
from ascendctl.results import Result, Run, Status
from ascendctl.topology.fabric import PortId
from tests.checks.hosts import a3, address, device, made, ok
from tests.checks.test_cabling import judged

NPUS = 2
ONE_SEGMENT = [
    made(
        a3(f"node{number:02}", npus=NPUS, server=number),
        *(address(phy, f"10.30.{number}.{20 + phy}") for phy in range(2 * NPUS)),
        *(device(phy, gateway=ok(f.GatewayFacts("10.30.0.1", "eth0"))) for phy in range(2 * NPUS)),
    )
    for number in range(1, 4)
]


def addresses(run: Run) -> dict[tuple[str | None, int | None], Result]:
    return {(cell.subject.host, cell.subject.device): cell for cell in run.results if cell.check == "address"}


def test_without_pings_it_stays(tmp_path: Path) -> None:
    cells = addresses(judged(tmp_path, ONE_SEGMENT))
    assert {cell.status for cell in cells.values()} == {Status.WARN} and len(cells) == 12


def test_pings_that_come_back_lift_it_and_are_named(tmp_path: Path) -> None:
    cells = addresses(judged(tmp_path, ONE_SEGMENT, loses=lambda port: False))
    assert {cell.status for cell in cells.values()} == {Status.PASS} and len(cells) == 12
    message = cells["node02", 3].message
    assert "both dies of the NPU lie in one segment, which pings show to work: device 2: " in message
    assert "device 3: " in message and " pings from and " in message and "0 of " in message


def test_where_one_die_is_not_reached_both_keep_it_and_other_npus_do_not(tmp_path: Path) -> None:
    cells = addresses(judged(tmp_path, ONE_SEGMENT, loses=lambda port: port == PortId("node02", 3)))
    warned = {place for place, cell in cells.items() if cell.status is Status.WARN}
    # The pings of other hosts to the lost die are lost as well, and are its doing.
    assert warned == {("node02", 2), ("node02", 3)}

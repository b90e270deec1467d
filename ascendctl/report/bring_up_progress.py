"""How far a bring-up is, on standard error: every step with the display of its own command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console

from ascendctl.bring_up import Step
from ascendctl.deploy import Prepared
from ascendctl.report.consistency_progress import AskingProgress
from ascendctl.report.netloader_progress import BringUpProgress
from ascendctl.report.netloader_text import render_join_plan
from ascendctl.report.progress import Progress


class StepProgress:
    """An `Audience`; with ``quiet`` nothing is shown."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def begins(self, step: Step) -> None:
        if not self._quiet:
            sys.stderr.write(f"ascendctl: {step.value}\n")
            sys.stderr.flush()

    def verifying(self, hosts: Sequence[str]) -> Progress:
        return Progress(hosts, quiet=self._quiet)

    def starting(self, prepared: Prepared) -> BringUpProgress:
        if prepared.plan is not None and not self._quiet:
            render_join_plan(prepared.plan, prepared.deployment.instances, Console(stderr=True), goes_on=True)
        return BringUpProgress(quiet=self._quiet)

    def comparing(self) -> AskingProgress:
        return AskingProgress(quiet=self._quiet)

"""What the evidence of an instance's ranks proves of the instance. Pure."""

from __future__ import annotations

from enum import Enum

from ascendctl.netloader.evidence import Came, Evidence
from ascendctl.netloader.plan import Instance, Role


class Proof(str, Enum):
    """What is proven of all weights of one instance. ``NOT_WANTED``: a seed, which is meant to read its
    disk; ``TRANSFERRED``: came by P2P, and not of every rank is it known that all bytes were compared."""

    VERIFIED = "verified"
    TRANSFERRED = "transferred, not verified"
    DISK = "fell back to disk"
    UNPROVEN = "not proven"
    NOT_WANTED = "not wanted"


PROVEN = (Proof.VERIFIED, Proof.TRANSFERRED, Proof.NOT_WANTED)


def proof_of(instance: Instance, found: Evidence | None) -> Proof:
    """The worst that holds of any rank; a rank that the evidence leaves out is not proven."""
    if instance.role is Role.SEED:
        return Proof.NOT_WANTED
    ranks = found.ranks if found else ()
    if any(one.came is Came.DISK for one in ranks):
        return Proof.DISK
    if any(one.came is not Came.P2P for one in ranks) or untold(instance, found):
        return Proof.UNPROVEN
    return Proof.VERIFIED if all(one.verified is True for one in ranks) else Proof.TRANSFERRED


def untold(instance: Instance, found: Evidence | None) -> tuple[int, ...]:
    """Ranks of the plan that the evidence says nothing of; a draft model without evidence leaves out all."""
    ranks = found.ranks if found else ()
    if instance.serving.speculative and not any(one.draft for one in ranks):
        return tuple(range(instance.ranks))
    return tuple(sorted(set(range(instance.ranks)) - {one.rank for one in ranks if not one.draft}))

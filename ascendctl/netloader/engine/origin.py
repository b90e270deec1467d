"""Whose weights an engine holds: one digest over the parts of all its ranks, its *origin*.

Each rank proves its own part by the digests of its manifest. Nothing in that tells whether the parts of two
ranks belong together: two engines of equal identity may hold different fine-tunes, and a joiner whose rank 0
asks one of them and rank 1 the other would hold a model that nobody trained. So a source tells, beside its
manifest, the digest over the content ids of all ranks of its engine; and before a joiner uses what its ranks
got, they tell each other what they were told and what they hold, and make the same digest anew.

Why this digest and no other:

- It is sound: equal only where every byte of every rank is. Names, sizes and headers of the files are the
  same for every fine-tune, and samples of their content miss one that changed little (a merged adapter). And
  a joiner need not believe it: from the parts that its ranks verified it makes the origin itself.
- It costs nothing: every rank digests its part anyway. A hash of the files would read them once more.
- Two engines started from the same files with the same CHUNK_MIB have the same one, so the sources of one
  rank may be of one engine and those of another rank of the other. A random number per start would forbid it.
- It needs no handing on: a joiner that holds the same parts makes the same origin. (The manifest that it
  received keeps its cuts, so CHUNK_MIB of joiners does not matter.) Only a relay, which passes on before its
  own load is over, repeats what it was told, and those behind it prove it.

An engine that could not prove the origin of what it took (VERIFY if-offered) tells none.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_DIGEST_BYTES = 16
_ORIGIN = re.compile(rf"[0-9a-f]{{{2 * _DIGEST_BYTES}}}")
_TOLD = 4

TELLS_NONE = "tells no origin of its weights: nothing proves that all ranks get parts of the same ones"
REMEDY = "Run this release of ascendctl there, or write VERIFY: if-offered to take them unproven"
NO_SOURCE = "it has no SOURCE and reads its disk"


class OriginError(ValueError):
    """What a source tells is no origin."""


@dataclass(frozen=True)
class Part:
    """What one rank tells the others of its engine when its own load is over.

    ``reason``: why it has no weights from a source, None where it has all. ``source`` brought them and told
    ``origin`` (None: it told none); ``content_id`` is that of the manifest against which every byte was
    verified, None without one.
    """

    rank: int
    reason: str | None = None
    source: str | None = None
    origin: str | None = None
    content_id: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What follows for one rank. ``reason``: why the received weights may not be used, None where they may;
    then ``origin`` is theirs, proven, or None, and ``unproven`` says why."""

    reason: str | None = None
    origin: str | None = None
    unproven: str | None = None


def origin_of(content_ids: Mapping[int, str]) -> str:
    """32 hex digits for the parts of all ranks that load one model together, by global rank."""
    parts = json.dumps(sorted(content_ids.items()), separators=(",", ":"))
    return hashlib.blake2b(parts.encode("ascii"), digest_size=_DIGEST_BYTES).hexdigest()


def read_origin(told: object) -> str | None:
    """The origin in a MANIFEST frame; None where there is none (an older release). Raises OriginError."""
    if told is None:
        return None
    if not isinstance(told, str) or not _ORIGIN.fullmatch(told):
        raise OriginError(f"the origin that it tells is not {2 * _DIGEST_BYTES} hex digits")
    return told


def judged(own: Part, parts: Sequence[Part], *, required: bool) -> Verdict:
    """The verdict for the rank of ``own`` from the ``parts`` of all ranks, its own included.

    Either every rank may use its weights or none; only the words differ. ``required``: VERIFY is, so the
    origin must be proven. One rank alone proves it by its own digests, whatever it was told.
    """
    if own.reason is not None:
        return Verdict(reason=own.reason)
    for part in parts:
        if part.reason is not None:
            return Verdict(reason=f"rank {part.rank} of this engine has none: {part.reason}")
    first_of = {part.origin: part for part in reversed(parts) if part.origin is not None}
    if len(first_of) > 1:
        return Verdict(
            reason=f"the sources of this engine's ranks hold different weights: {_listed(first_of.values())}"
        )
    undigested = next((part for part in parts if part.content_id is None), None)
    if undigested is not None:
        return _unproven(undigested, "sends no digests: nothing proves what it sent", required)
    made = origin_of({part.rank: part.content_id for part in parts if part.content_id is not None})
    if first_of and made not in first_of:
        return Verdict(
            reason=f"what this engine's ranks received is together of origin {made}, which none of their "
            f"sources has: {_listed(first_of.values())}"
        )
    # A rank whose source told none has the right part all the same where the parts make what others told.
    if not first_of and len(parts) > 1:
        return _unproven(parts[0], TELLS_NONE, required)
    return Verdict(origin=made)


def _unproven(part: Part, why: str, required: bool) -> Verdict:
    words = f"{part.source}, the source of rank {part.rank}, {why}"
    return Verdict(reason=f"{words}. {REMEDY}") if required else Verdict(unproven=words)


def _listed(parts: Iterable[Part]) -> str:
    told = sorted(parts, key=lambda part: part.rank)
    shown = [f"rank {part.rank} has origin {part.origin} from {part.source}" for part in told[:_TOLD]]
    more = [f"and {len(told) - _TOLD} more"] if len(told) > _TOLD else []
    return "; ".join([*shown, *more])

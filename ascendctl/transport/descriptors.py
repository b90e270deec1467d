"""How many hosts can be asked at a time with the file descriptors that this process may open."""

from __future__ import annotations

import contextlib
import resource

from ascendctl.transport.slots import Room

PER_HOST = 3
FOR_THE_REST = 40


def room_within_limit(wanted: Room) -> tuple[Room, str | None]:
    """``wanted``, or less where the limit wants it; with a sentence that says so if the width is less.

    The soft limit is first raised as far as is needed and the hard limit lets it.
    """
    needed = (wanted.width + wanted.spare) * PER_HOST + FOR_THE_REST
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _reaches(soft, needed):
        return wanted, None
    raised = needed if _reaches(hard, needed) else hard
    # No further than needed: what we start inherits the limit, and old programs choke on a high one.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = raised
    hosts = max(1, (soft - FOR_THE_REST) // PER_HOST)
    possible = Room(min(wanted.width, hosts), min(wanted.spare, max(0, hosts - wanted.width)))
    if possible.width == wanted.width:
        return possible, None
    return possible, (
        f"hosts are asked {possible.width} at a time instead of {wanted.width}: this process may open no "
        f"more than {soft} files; raise ulimit -n or lower --width"
    )


def _reaches(limit: int, needed: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= needed

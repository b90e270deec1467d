"""How many hosts can be asked at a time with the file descriptors that this process may open."""

from __future__ import annotations

import contextlib
import resource

PER_HOST = 3
FOR_THE_REST = 40


def width_within_limit(width: int) -> tuple[int, str | None]:
    """``width``, or less where the limit wants it, and then a sentence that says so.

    The soft limit is first raised as far as the width needs and the hard limit lets it.
    """
    needed = width * PER_HOST + FOR_THE_REST
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _reaches(soft, needed):
        return width, None
    wanted = needed if _reaches(hard, needed) else hard
    # No further than needed: what we start inherits the limit, and old programs choke on a high one.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    possible = max(1, (soft - FOR_THE_REST) // PER_HOST)
    if possible >= width:
        return width, None
    return possible, (
        f"hosts are asked {possible} at a time instead of {width}: this process may open no more than "
        f"{soft} files; raise ulimit -n or lower --width"
    )


def _reaches(limit: int, needed: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= needed

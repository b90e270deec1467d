"""What went wrong with ascendctl itself, as a host's failure."""

from __future__ import annotations

import errno

from ascendctl.transport.contract import Failure
from ascendctl.transport.remote_text import one_line

TOO_FEW_DESCRIPTORS = (
    "too few file descriptors on the machine that ascendctl runs on: raise ulimit -n or lower --width"
)


def is_descriptor_shortage(error: BaseException) -> bool:
    """Whether the process (EMFILE) or the machine (ENFILE) had no file descriptor left."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def own_fault(error: BaseException) -> Failure:
    """The failure of a host that ended by an exception of ours.

    A shortage of descriptors is the user's to mend and no internal error.
    """
    if is_descriptor_shortage(error):
        return Failure("not-attempted", TOO_FEW_DESCRIPTORS)
    told = one_line(f"{type(error).__name__}: {error}")
    return Failure("lost", f"ascendctl itself failed on this host ({told})", internal=True)

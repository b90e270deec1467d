"""``python -m ascendctl.sim.tool SPEC HOST TOOL [ARGUMENT...]``: a call that no rendered answer holds.

Run by the rendered stand-ins of hccn_tool and npu-smi, for example for a ping of some address. Prints
what the tool would and leaves with its exit code.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ascendctl.sim.faults import cluster_of
from ascendctl.sim.spec import load_spec
from ascendctl.sim.tools import answer


def main(arguments: list[str]) -> int:
    """Answer one call on standard output and standard error; gives the exit code."""
    spec_path, name, *argv = arguments
    cluster = cluster_of(load_spec(Path(spec_path)))
    given = answer(cluster.host(name), argv, cluster)
    sys.stdout.buffer.write(given.stdout)
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(given.stderr)
    return given.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

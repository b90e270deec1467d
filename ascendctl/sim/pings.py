"""How the rendered hccn_tool makes pings: a shell those that lose nothing, an interpreter the others.

Pings have too many targets to be answered beforehand. What is written once for the cluster is a table of
its devices, and the addresses between which nothing is lost, one file per network; a host's own part names
the devices that are in them. A ping between two of those costs a sh and a grep; every other one is made by
`ascendctl.sim.ping_tool` from the table.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import ascendctl
from ascendctl.sim.hccn_tool import PING_PACKETS, refusal
from ascendctl.sim.model import Cluster, Host
from ascendctl.sim.ways import HCCS_NS, ROCE_US, End

OPTIONS = ("-ping", "-hccs_ping")

_TABLE = "network"
_FOLDER = "lossless"
# Up to here the 95th percentile of the round trips is the longest of them.
_MAX_PACKETS_IN_SHELL = 20
_PACKAGE = Path(ascendctl.__file__).resolve().parent.parent
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from ascendctl.sim.ping_tool import main; "
    "sys.exit(main(sys.argv[2:]))"
)


def write_table(cluster: Cluster, directory: Path) -> None:
    """Write what the pings of all hosts share, into the cluster's folder. Raises OSError."""
    ends = cluster.network.ends
    header = f"{cluster.seed} {cluster.background_loss!r}\n"
    (directory / _TABLE).write_text(header + "".join(f"{end.line()}\n" for end in ends), encoding="ascii")
    groups: dict[str, list[str]] = {}
    for end in ends:
        for option in OPTIONS:
            file, address = _lossless(cluster, end, option)
            if file:
                groups.setdefault(file, []).append(address)
    (directory / _FOLDER).mkdir()
    for file, addresses in groups.items():
        text = "".join(f"{address}\n" for address in addresses)
        (directory / _FOLDER / file).write_text(text, encoding="ascii")


def script(cluster: Cluster, host: Host, others: Collection[tuple[int, str]], *, wait_s: float) -> str:
    """Shell lines that make the host's pings, for the stand-in to read in; they fall through if they cannot.

    ``others``: device and option of pings that are answered in another way. ``wait_s``: how long a lost
    packet takes.
    """
    failed = refusal("device-failed")
    return _SCRIPT.format(
        cases="\n".join(_cases(cluster, host, others)),
        packets=PING_PACKETS,
        most=_MAX_PACKETS_IN_SHELL,
        folder=_FOLDER,
        roce_shortest=ROCE_US[0],
        roce_different=ROCE_US[1],
        hccs_shortest=HCCS_NS[0],
        hccs_different=HCCS_NS[1],
        python=shlex.quote(sys.executable),
        program=shlex.quote(_PROGRAM),
        package=shlex.quote(str(_PACKAGE)),
        table=_TABLE,
        host=next((number for number, each in enumerate(cluster.hosts) if each.name == host.name), 0),
        wait=f"{wait_s:g}",
        failure=shlex.quote(failed.stderr.decode()),
        code=failed.exit_code,
    )


def _cases(cluster: Cluster, host: Host, others: Collection[tuple[int, str]]) -> Iterator[str]:
    """Per device and option the file with the addresses to which it loses nothing; ``-``: it may lose."""
    groups: dict[str, list[str]] = {}
    for die in host.dies:
        for option in OPTIONS:
            served = option == "-ping" or host.generation == "a3"
            if served and (die.phy_id, option) not in others and option not in die.refusals:
                file, _ = _lossless(cluster, cluster.network.end(die), option)
                groups.setdefault(file or "-", []).append(f"'{option} {die.phy_id}'")
    for file, calls in groups.items():
        yield f"{' | '.join(calls)}) file={file} ;;"


def _lossless(cluster: Cluster, end: End, option: str) -> tuple[str, str]:
    """The file of a device between which and the others in it no ping loses anything, and its address there.

    Both are empty where it has none, as one whose address another holds, too.
    """
    roce_holders, hccs_holders = cluster.network.ways.holders(end)
    if cluster.background_loss:
        return "", ""
    if option == "-ping" and end.loses_no_roce and roce_holders == 1 and end.address is not None:
        return "roce", str(IPv4Address(end.address))
    if option == "-hccs_ping" and end.loses_no_hccs and hccs_holders == 1 and end.vnic is not None:
        return f"hccs-{end.pod}-{end.side}", str(IPv4Address(end.vnic))
    return "", ""


# The times are those of `ascendctl.sim.ways`.
_SCRIPT = """case "$3 $2" in
{cases}
*) file= ;;
esac
count={packets}
case "$# $3 $4 $5 $7" in
"6 $3 -g address ") ;;
"8 -hccs_ping -g address cnt") count=$8 ;;
*) file= ;;
esac
case $count in '' | 0* | *[!0-9]* | ????*) file= ;; esac
case $6 in *.*.*.*) ;; *) file= ;; esac
d=${{6##*.}} c=${{6%.*}} b=${{c%.*}} a=${{b%%.*}} c=${{c##*.}} b=${{b#*.}}
for octet in "$a" "$b" "$c" "$d"; do
  case $octet in '' | *[!0-9]* | ????* | 0?*) file= ;; *) [ "$octet" -le 255 ] || file= ;; esac
done
in_shell=
if [ -n "$file" ] && [ "$file" != - ] && [ "$count" -le {most} ]; then
  if grep -qxF -e "$6" "$here/../{folder}/$file"; then in_shell=$3; fi
fi
if [ -n "$in_shell" ]; then offset=$(($2 * 37 + d * 11 + c * 7)) n=0; fi
case $in_shell in
-ping)
  printf 'device %d PING %s\\n' "$2" "$6"
  while [ $n -lt $count ]; do
    printf 'recv seq=%d,time=0.%03d000ms\\n' $n $(({roce_shortest} + (offset + 29 * n) % {roce_different}))
    n=$((n + 1))
  done
  printf '%d packets transmitted, %d received, 0.00%% packet loss\\n' $count $count
  exit 0 ;;
-hccs_ping)
  printf 'device %d PING %s\\n\\n' "$2" "$6"
  most=0 least=999999 sum=0
  while [ $n -lt $count ]; do
    t=$(({hccs_shortest} + (offset + 29 * n) % {hccs_different}))
    printf 'This pkt ping success!\\nrecv seq %d, time = %d.%03dus, L1 plane check result = 0x0\\n\\n' \\
      $n $((t / 1000)) $((t % 1000))
    if [ $t -gt $most ]; then most=$t; fi
    if [ $t -lt $least ]; then least=$t; fi
    n=$((n + 1)) sum=$((sum + t))
  done
  printf '%d packets transmitted, %d received, 0.00%% packets loss\\n' $count $count
  mean=$((sum / count))
  printf 'max time %d.%03dus\\nmin time %d.%03dus\\naverage time %d.%03dus\\nTP95 time %d.%03dus\\n' \\
    $((most / 1000)) $((most % 1000)) $((least / 1000)) $((least % 1000)) \\
    $((mean / 1000)) $((mean % 1000)) $((most / 1000)) $((most % 1000))
  exit 0 ;;
esac
if [ -n "$file" ]; then
  exec {python} -I -S -c {program} {package} "$here/../{table}" "$here/busy/ping$3-$2-$6" {host} "$2" "$3" \\
    "$6" "$count" {wait} {failure} {code}
fi
"""

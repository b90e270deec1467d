"""The network between the hosts' own interfaces: stand-ins for ip, ping, and bash where it opens TCP ports.

All hosts lie in one segment. What a host cannot know of the one it asks (its losses, path MTU, firewall)
is in a table of the cluster's folder. Formats: iproute2, iputils, and bash of ``/dev/tcp/ADDRESS/PORT``.
Addresses that are no host's of the cluster are out of reach; those of loopback are the machine's own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from pathlib import Path

from ascendctl.sim.model import Host

TABLE = "host-network"
_LOST_OF = 10_000  # losses are written in parts of this
_SSH_PORT = 22
_HANG_LIMIT_S = 240  # a connection that is waited for ends by itself after this long


def write_table(hosts: Sequence[Host], directory: Path) -> None:
    """Write what hosts meet at each other, a line per host, into the cluster's folder. Raises OSError."""
    (directory / TABLE).write_text("".join(map(_line, hosts)), encoding="ascii")


def _line(host: Host) -> str:
    filtered = host.filtered_ports
    filtering = "reject" if host.rejects_filtered else "drop"
    loss = _LOST_OF if host.no_route else _lost(host)  # without a way back no reply comes
    return f"{host.nic_address} {loss} {host.path_mtu} {filtered.start} {filtered.stop} {filtering}\n"


def stand_ins(host: Host) -> Iterator[tuple[str, str]]:
    """Name and text of every stand-in, without what all of them begin with."""
    yield "ip", _ip(host)
    own = f"own={host.nic_address} routes={'' if host.no_route else 'yes'}\n"
    yield "ping", own + _PING.format(look_up=_LOOK_UP, of=_LOST_OF, nic=host.nic, **_own(host))
    yield (
        "bash",
        own
        + _BASH.format(
            look_up=_LOOK_UP, ssh_port=_SSH_PORT, limit=_HANG_LIMIT_S, of=_LOST_OF, loss=_lost(host)
        ),
    )


def _own(host: Host) -> dict[str, int]:
    return {"loss": _lost(host), "path_mtu": host.path_mtu, "mtu": host.nic_mtu}


def _lost(host: Host) -> int:
    return round(host.nic_loss * _LOST_OF)


def _ip(host: Host) -> str:
    address = f"{host.nic_address}/{host.nic_prefix_length}"
    segment = ipaddress.IPv4Interface(address).network
    mac = "02:5b:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(host.nic_address).packed)
    forever = "       valid_lft forever preferred_lft forever"
    addresses = [
        f"1: lo    inet 127.0.0.1/8 scope host lo\\{forever}",
        f"1: lo    inet6 ::1/128 scope host \\{forever}",
        f"2: {host.nic}    inet {address} scope global {host.nic}\\{forever}",
    ]
    common = "mode DEFAULT group default qlen 1000\\    link"
    links = [
        f"1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN {common}/loopback "
        "00:00:00:00:00:00 brd 00:00:00:00:00:00",
        f"2: {host.nic}: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu {host.nic_mtu} qdisc mq state UP "
        f"{common}/ether {mac} brd ff:ff:ff:ff:ff:ff",
    ]
    return _IP.format(
        addresses="\n".join(addresses),
        links="\n".join(links),
        nic=host.nic,
        own=host.nic_address,
        first=int(segment.network_address),
        last=int(segment.broadcast_address),
        routes="" if host.no_route else "yes",
    )


_IP = """case "$*" in
'-o addr show') cat <<'END'
{addresses}
END
  exit ;;
'-o link show') cat <<'END'
{links}
END
  exit ;;
'route get '*)
  case $3 in
  127.* | *[!0-9.]* | *.*.*.*.* | .* | *. | *..*) ;;
  {own}) printf 'local %s dev lo src %s uid 0 \\n    cache <local> \\n' {own} {own}; exit ;;
  *.*.*.*)
    a=${{3%%.*}} d=${{3##*.}} m=${{3#*.}} m=${{m%.*}}
    number=$((a << 24 | ${{m%.*}} << 16 | ${{m#*.}} << 8 | d))
    if [ -n "{routes}" ] && [ $number -ge {first} ] && [ $number -le {last} ]; then
      printf '%s dev %s src %s uid 0 \\n    cache \\n' "$3" {nic} {own}
      exit
    fi
    echo 'RTNETLINK answers: Network is unreachable' >&2
    exit 2 ;;
  esac ;;
esac
exec ip "$@"
"""

# Sets what the table says of the address $1; fails where it is no host's.
_LOOK_UP = f"""look_up() {{
  case $1 in *[!0-9.]*) return 1 ;; esac
  line=$(grep -m 1 -e "^$1 " "$here/../{TABLE}") || return 1
  set -- $line
  its_loss=$2 its_mtu=$3 first_port=$4 past_port=$5 filtering=$6
}}"""

# A packet is lost by its number and by who sends it to whom. What is larger than the path takes is lost
# without a word, as in one segment, where no router is there to tell.
_PING = """{look_up}
count= nic= size=56 whole= address= foreign=
read_options() {{
  while [ $# -gt 0 ]; do
    case $1 in
    -n) ;;
    -c) count=$2; shift ;;
    -i | -W) shift ;;
    -I) nic=$2; shift ;;
    -s) size=$2; shift ;;
    -M) whole=$2; shift ;;
    -*) foreign=yes ;;
    *) address=$1 ;;
    esac
    shift
  done
}}
read_options "$@"
case $address in '' | 127.* | *[!0-9.]*) foreign=yes ;; esac
for number in "$count" "$size"; do case $number in '' | *[!0-9]*) foreign=yes ;; esac; done
[ -z "$foreign" ] || exec ping "$@"
if [ -n "$nic" ] && [ "$nic" != {nic} ]; then
  echo "ping: unknown iface: $nic" >&2
  exit 2
fi
if [ -z "$routes" ]; then
  echo 'ping: connect: Network is unreachable' >&2
  exit 2
fi
via=; [ -z "$nic" ] || via=" from $own $nic:"
echo "PING $address ($address)$via $size($((size + 28))) bytes of data."
if look_up "$address"; then
  passing=$((({of} - {loss}) * ({of} - its_loss) / {of}))
  path_mtu={path_mtu}; if [ "$its_mtu" -lt $path_mtu ]; then path_mtu=$its_mtu; fi
  [ -z "$whole" ] || [ $((size + 28)) -le $path_mtu ] || passing=0
else
  passing=0
fi
received=0 errors=0 n=1
from=${{own##*.}} to=${{address##*.}}
while [ $n -le "$count" ]; do
  if [ -n "$whole" ] && [ $((size + 28)) -gt {mtu} ]; then
    echo 'ping: local error: message too long, mtu={mtu}' >&2
    errors=$((errors + 1))
  else
    draw=$(((from * 7919 + to * 104729 + n * 1299709 + 17) * 2654435761 % 4294967296 >> 8))
    if [ $((draw % {of})) -lt $passing ]; then
      printf '%d bytes from %s: icmp_seq=%d ttl=64 time=0.%03d ms\\n' \\
        $((size + 8)) "$address" $n $((90 + draw % 60))
      received=$((received + 1))
    fi
  fi
  n=$((n + 1))
done
extra=; [ $errors = 0 ] || extra=" +$errors errors,"
lost=$((count - received))
percent=$((100 * lost / count)) rest=$(((100 * lost % count * 10000 + count / 2) / count))
if [ $rest -gt 0 ]; then percent=$percent.$(printf %04d $rest); fi
printf '\\n--- %s ping statistics ---\\n%d packets transmitted, %d received,' "$address" "$count" $received
printf '%s %s%% packet loss, time %dms\\n' "$extra" $percent $(((count - 1) * 1023))
if [ $received = 0 ]; then echo; exit 1; fi
echo 'rtt min/avg/max/mdev = 0.090/0.118/0.149/0.020 ms'
"""

# Only what opens a port and nothing else is answered here; what a script starts as "$BASH" comes here, too.
_BASH = """{look_up}
real=$(command -v bash) || exit 127
PATH=$here/bin:$PATH
case "$1 $2" in
'-c exec '*'<>'*/dev/tcp/*)
  place=${{2##*/dev/tcp/}} place=${{place%%[\\"\\'\\ ]*}}
  address=${{place%%/*}} port=${{place##*/}}
  if [ "$address" = '$1' ]; then address=$4; fi
  if [ "$port" = '$2' ]; then port=$5; fi
  case $address in 127.* | *[!0-9.]*) exec "$real" "$@" ;; esac
  error='Connection refused'
  if [ -z "$routes" ]; then
    error='Network is unreachable'
  elif ! look_up "$address"; then
    error='No route to host'
  elif [ "$its_loss" = {of} ] || [ {loss} = {of} ]; then
    exec sleep {limit}
  elif [ "$port" -ge "$first_port" ] && [ "$port" -lt "$past_port" ]; then
    [ $filtering = reject ] || exec sleep {limit}
    error='No route to host'
  elif [ "$port" = {ssh_port} ]; then
    exit 0
  fi
  printf 'bash: connect: %s\\nbash: line 1: /dev/tcp/%s/%s: %s\\n' "$error" "$address" "$port" "$error" >&2
  exit 1 ;;
'-c '*)
  script=$2
  shift 2
  exec "$real" -c "BASH='$here/bin/bash'; $script" "$@" ;;
esac
exec "$real" "$@"
"""

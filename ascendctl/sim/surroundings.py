"""The host around its tools: its own files, and stand-ins for the programs that speak of it.

cat, hostname, uname, timedatectl, date where the clock is off, and those of `host_network`. What is not
asked of the host goes to the real program of that name.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from ascendctl.sim import host_network
from ascendctl.sim.model import Host

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What every stand-in begins with: where its host lies, and a PATH without the stand-ins.
HEAD = f"""#!/bin/sh
here=${{0%/*}}/..
PATH={SYSTEM_PATH}
"""

HUGE_PAGE_KIB = 2048


def stand_ins(host: Host) -> Iterator[tuple[str, str]]:
    """Name and text of every stand-in but those of the two tools."""
    yield "cat", HEAD + _CAT
    yield "hostname", HEAD + _hostname(host)
    yield "uname", HEAD + _uname(host)
    for name, text in host_network.stand_ins(host):
        yield name, HEAD + text
    yield "timedatectl", HEAD + _timedatectl(host)
    if host.clock_offset_s:
        yield "date", f'{HEAD}exec {_date(host)} "$@"\n'


_OWNED = "/etc/hccn.conf | /etc/os-release | /proc/meminfo | /usr/local/Ascend/*"

_CAT = f"""owned=
for file do
  case $file in {_OWNED}) owned=yes ;; esac
done
if [ -z "$owned" ]; then exec cat "$@"; fi
code=0
for file do
  case $file in
    {_OWNED})
      if [ -f "$here/root$file" ]; then
        cat "$here/root$file"
      else
        echo "$0: $file: No such file or directory" >&2
        code=1
      fi ;;
    *) cat "$file" || code=1 ;;
  esac
done
exit $code
"""


def files(host: Host) -> Iterator[tuple[str, str]]:
    """The files that the host has of its own; of the owned ones, all others do not exist."""
    if host.hccn_conf is not None:
        yield "/etc/hccn.conf", host.hccn_conf
    yield (
        "/etc/os-release",
        'NAME="openEuler"\nVERSION="22.03 (LTS-SP4)"\nID="openEuler"\nVERSION_ID="22.03"\n'
        'PRETTY_NAME="openEuler 22.03 (LTS-SP4)"\n',
    )
    yield (
        "/usr/local/Ascend/driver/version.info",
        f"Version={host.driver_version}\nascendhal_version=7.35.23\naicpu_version=1.0\n"
        f"package_version={host.driver_version}\n",
    )
    yield (
        "/usr/local/Ascend/firmware/version.info",
        f"Version={host.firmware_version}\nfirmware_version=1.0\npackage_version={host.driver_version}\n",
    )
    toolkit = "/usr/local/Ascend/ascend-toolkit"
    yield (
        f"{toolkit}/latest/{host.architecture}-linux/ascend_toolkit_install.info",
        f"package_name=Ascend-cann-toolkit\nversion={host.cann_version}\narch={host.architecture}\n"
        f"os=linux\npath={toolkit}/{host.cann_version}/{host.architecture}-linux\n",
    )
    yield "/proc/meminfo", meminfo_text(_memory(host), _huge_pages(host))


def _hostname(host: Host) -> str:
    name, addresses = shlex.quote(host.hostname or host.name), " ".join(host.hostname_addresses)
    unknown = "echo 'hostname: Name or service not known' >&2; exit 1"
    by_name = f"echo {addresses}" if addresses else unknown
    return f"""case "$*" in
  '' | -s | -f) echo {name} ;;
  -i) {by_name} ;;
  -I) echo {host.nic_address} ;;
  *) exec hostname "$@" ;;
esac
"""


def _uname(host: Host) -> str:
    kernel, machine = shlex.quote(host.kernel), shlex.quote(host.architecture)
    return f"""case "$*" in
  '' | -s) echo Linux ;;
  -n) echo {shlex.quote(host.name)} ;;
  -r) echo {kernel} ;;
  -m) echo {machine} ;;
  -sr) echo Linux {kernel} ;;
  -srm) echo Linux {kernel} {machine} ;;
  -a) echo Linux {shlex.quote(host.name)} {kernel} '#1 SMP' {machine} GNU/Linux ;;
  *) exec uname "$@" ;;
esac
"""


def _date(host: Host) -> str:
    """The call that tells the host's time."""
    return f'date -d "{host.clock_offset_s:+f} seconds"' if host.clock_offset_s else "date"


def _timedatectl(host: Host) -> str:
    """``timedatectl show`` as of systemd 239 and newer: the properties of its service, one a line."""
    time = f"$({_date(host)} -u '+%a %Y-%m-%d %H:%M:%S UTC')"
    return f"""case "$*" in
  show) cat <<END
Timezone=Etc/UTC
LocalRTC=no
CanNTP=yes
NTP={_yes(host.time_service_on)}
NTPSynchronized={_yes(host.clock_synchronized)}
TimeUSec={time}
RTCTimeUSec={time}
END
  ;;
  *) exec timedatectl "$@" ;;
esac
"""


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


# --- /proc/meminfo --------------------------------------------------------------------------------


def meminfo_text(memory_kib: Mapping[str, int], huge_pages: Mapping[str, int]) -> str:
    """``/proc/meminfo`` as the kernel prints it (fs/proc/meminfo.c, mm/hugetlb.c): labels in 16 columns.

    Amounts of memory take eight more and a unit, numbers of huge pages eight without one; longer ones
    push on. Size and sum of the huge pages follow from their number.
    """
    pages = {**dict.fromkeys(("Total", "Free", "Rsvd", "Surp"), 0), **huge_pages}
    sizes = {"Hugepagesize": HUGE_PAGE_KIB, "Hugetlb": HUGE_PAGE_KIB * pages["Total"]}
    lines = [_amount(label, kib) for label, kib in memory_kib.items()]
    lines += [f"{f'HugePages_{what}:':<16}{number:>8}" for what, number in pages.items()]
    lines += [_amount(label, kib) for label, kib in sizes.items()]
    return "".join(f"{line}\n" for line in lines)


def _amount(label: str, kib: int) -> str:
    return f"{f'{label}:':<16}{kib:>8} kB"


def _memory(host: Host) -> Mapping[str, int]:
    """What a server that does nothing uses, besides its huge pages: a twentieth and what it has cached."""
    total_kib = host.memory_kib
    used_kib, cached_kib = total_kib // 20, total_kib // 50
    free_kib = total_kib - host.huge_pages * HUGE_PAGE_KIB - used_kib - cached_kib
    return {
        "MemTotal": total_kib,
        "MemFree": free_kib,
        "MemAvailable": free_kib + cached_kib,
        "Buffers": cached_kib // 100,
        "Cached": cached_kib,
        "SwapCached": 0,
        "Active": used_kib // 3,
        "Inactive": used_kib // 2,
        "SwapTotal": 0,
        "SwapFree": 0,
        "Dirty": 1024,
        "Writeback": 0,
        "AnonPages": used_kib // 2,
        "Mapped": used_kib // 100,
        "Shmem": used_kib // 200,
        "Slab": used_kib // 10,
        "CommitLimit": total_kib // 2,
        "Committed_AS": used_kib,
    }


def _huge_pages(host: Host) -> Mapping[str, int]:
    return {"Total": host.huge_pages, "Free": host.huge_pages}

"""The probe: one POSIX-sh script that asks a host everything and frames every answer.

The script is a single ``{ …; exit; }`` group, so a shell that reads it from standard input has read
all of it before the first command runs. It starts, per command, only ``timeout`` and the tool
(through ``sudo`` where configured); answers go to files, never through a pipe, because a grandchild
holding a pipe defeats ``timeout``. Files are named by counters and written out per device by one
``cat``. Frames are described in `ascendctl.probe.frames`.

Three forms of hanging are survived: a tool that ignores TERM (``timeout -k``), one that leaves a
grandchild (the process group of ``timeout`` is killed after every command), and one that cannot be
killed, or whose ``sudo`` or ``timeout`` never returns (a guard, one subshell per host that wakes once a
second, interrupts the waiting). A tool that had to be killed is not called again on that host.

SIGPIPE is ignored so that a lost connection is seen as a failed write. Every other second the guard has
the script write an empty line between frames; when that fails, the script kills the command that is
running, removes its folder and ends.

The same guard counts the seconds of a script that has only so many: when they are over, what has not been
asked yet is not asked (``time-up``).
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Iterable, Sequence

from ascendctl.probe.catalogue import Command, Impact, Scope, profile_of
from ascendctl.probe.frames import PROTOCOL_VERSION, Target, ids_text

# After TERM a tool gets this long before KILL.
KILL_GRACE_S = 2
# Tools of the driver that a non-login shell's PATH may lack, and where its installer puts them.
_TOOL_FOLDERS = ("/usr/local/Ascend/driver/tools", "/usr/local/sbin", "/usr/local/bin")
# Looked for besides the catalogue's own: tells a host with another accelerator.
_ALSO_LOOKED_FOR = ("nvidia-smi",)
_DRIVER_ENVIRONMENT = "/usr/local/Ascend/driver/bin/setenv.bash"
# What is sent of one answer; the longest real one is some 20 KiB.
_ANSWER_LIMIT_BYTES = 512 * 1024
# What a flooding tool may put on the host's disk, in 512-byte blocks for ``ulimit -f``: 256 MiB. The
# limit holds for whatever the tool writes, so it must leave room for a grown log file of its own.
_FILE_LIMIT_BLOCKS = 512 * 1024
_MAX_DEVICES = 64
# Answers of a follow-up are sent on this many at a time.
_FLUSH_EVERY = 8


def new_nonce() -> str:
    """128 random bits in hex: frames of one run cannot be forged by a tool's output."""
    return secrets.token_hex(16)


def allowed(commands: Iterable[Command], *, disturbing: bool = False) -> tuple[Command, ...]:
    """The commands that may run: those that disturb only when asked for."""
    return tuple(c for c in commands if disturbing or c.impact is not Impact.DISTURBS)


def build_script(nonce: str, *, sudo: bool, commands: Sequence[Command]) -> bytes:
    """The script's bytes. ``sudo``: commands that need root go through ``sudo -n``.

    ``nonce`` is `new_nonce`'s text. The commands run in their order: those of the host, then those of
    every device that ``npu-smi info -m`` lists. The answer says of which profile they are.
    """
    host = [c for c in commands if c.scope is Scope.HOST]
    device = [c for c in commands if c.scope is Scope.DEVICE]
    tools = tuple(dict.fromkeys([*(c.tool for c in commands), *_ALSO_LOOKED_FOR]))
    parts = [_preamble(nonce, sudo=sudo, note=f"profile {profile_of(commands).value}")]
    parts += _finding(tools)
    for command in host:
        line = _ask_line(command, tools.index(command.tool), "- - -")
        if command.id == "mapping":
            line = f"if {line}\n{_READ_MAPPING.format(limit=_MAX_DEVICES)}"
        parts.append(line)
        if command.id == "clock":
            parts.append("flush")
    parts.append("flush")
    if device:
        parts.append("for x in $ids; do npu=${x%%:*} phy=${x##*:} chip=${x#*:} chip=${chip%:*}")
        ids = '"$npu" "$chip" "$phy"'
        parts.extend("  " + _ask_line(command, tools.index(command.tool), ids) for command in device)
        parts.append("  flush\ndone")
    parts.append(_END)
    return "\n".join(parts).encode()


def build_follow_up(
    nonce: str, *, sudo: bool, asked: Sequence[tuple[Command, Target]], time_limit_s: int
) -> bytes:
    """A script that asks what was planned from the first one's answers, in the given order.

    Each command is asked once, and answered under its target; its words hold no placeholders.
    ``time_limit_s``: what has not been begun by then is not asked.
    """
    tools = tuple(dict.fromkeys(command.tool for command, _ in asked))
    parts = [_preamble(nonce, sudo=sudo, note="phase mesh", time_limit_s=time_limit_s), *_finding(tools)]
    for number, (command, target) in enumerate(asked, 1):
        parts.append(_ask_line(command, tools.index(command.tool), ids_text(target)))
        if number % _FLUSH_EVERY == 0:
            parts.append("flush")
    parts += ["flush", _END]
    return "\n".join(parts).encode()


def _preamble(nonce: str, *, sudo: bool, note: str, time_limit_s: int = 0) -> str:
    """What every script begins with. ``note``: what it asks. ``time_limit_s`` 0: no limit of its own."""
    if not nonce.isalnum():
        raise ValueError("a nonce is letters and digits only")
    return _PREAMBLE.format(
        nonce=nonce,
        note=note,
        time_limit=time_limit_s,
        version=PROTOCOL_VERSION,
        sudo="1" if sudo else "",
        blocks=_FILE_LIMIT_BLOCKS,
        bytes=_ANSWER_LIMIT_BYTES,
        grace=KILL_GRACE_S,
        folders=" ".join(_TOOL_FOLDERS),
        environment=_DRIVER_ENVIRONMENT,
    )


def _finding(tools: Sequence[str]) -> list[str]:
    return [
        f'find_tool {shlex.quote(tool)}; t{number}=$t; say tool {shlex.quote(tool)} "$t"'
        for number, tool in enumerate(tools)
    ]


def _ask_line(command: Command, tool_number: int, ids: str) -> str:
    words = {"{npu}": '"$npu"', "{chip}": '"$chip"', "{phy}": '"$phy"'}
    tool = f'{shlex.quote(command.tool)} "$t{tool_number}"'
    argv = " ".join([tool, *(words.get(word) or shlex.quote(word) for word in command.argv[1:])])
    root = "root" if command.needs_root else "user"
    retry = shlex.quote(command.retry_text or "")
    command_id = shlex.quote(command.id)
    return f"ask {command_id} {ids} {command.timeout_s} {root} {retry} {argv}  # {command.impact.value}"


_PREAMBLE = r"""{{ # ascendctl probe: asks this host's NPUs and ports, changes nothing, leaves no file.
n={nonce} sudo='{sudo}' LC_ALL=C; export LC_ALL
unset LANGUAGE npu chip phy ids q hung; d='' p='' g='' stuck='' k=0
exec </dev/null
umask 077
ulimit -f {blocks}
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH
trap '' PIPE
quit() {{
  trap '' HUP INT TERM
  [ -z "$g" ] || kill -s KILL "$g" 2>/dev/null
  [ -z "$p" ] || {{ kill -s TERM "$p"; kill -s KILL -- "-$p"; }} 2>/dev/null
  [ -z "$d" ] || {{ cd /; command -p rm -rf -- "$d"; }}
  exit "$1"
}}
trap 'quit 129' HUP; trap 'quit 130' INT; trap 'quit 143' TERM
trap 'stuck=1' USR1
# Twice: where both signals are due at once, dash gives the first echo the status from before the traps.
trap 'echo 2>/dev/null || echo 2>/dev/null || quit 1' USR2
say() {{ printf '\n@%s %s\n' "$n" "$*" 2>/dev/null || quit 1; }}
full() {{ say fatal temporary-folder-full; quit 1; }}
say hello {version}
command -v timeout >/dev/null || {{ say fatal no-timeout; quit 1; }}
d=$(command -p mktemp -d "${{TMPDIR:-/tmp}}/ascendctl.XXXXXXXX" 2>/dev/null) && cd "$d" \
  || {{ d=''; say fatal no-temporary-folder; quit 1; }}
guard() {{ # wakes the script when a command is not over although timeout should have ended it
  exec </dev/null >/dev/null 2>&1; trap - HUP INT TERM USR1 USR2; cd /; last='' age=0 beat=''
  left={time_limit}
  while command -p sleep 1; do
    kill -0 $$ || {{ command -p rm -rf -- "$d"; exit; }}
    left=$((left-1)); [ "$left" -ne 0 ] || echo >"$d/over"
    if [ -n "$beat" ]; then beat=''; kill -s USR2 $$; else beat=1; fi
    end=''; read -r c l end <"$d/w"
    [ "$end" = . ] || continue # caught while it is being rewritten
    [ "$c" = "$last" ] || {{ last=$c age=0; }}
    age=$((age+1)); [ "$age" -le $((l+{grace}+2)) ] || {{ age=0; echo "$c" >"$d/u"; kill -s USR1 $$; }}
  done
}}
{{ echo start 9999 . >w && printf '\n@%s stderr\n' "$n" >s && printf '\n@%s end\n' "$n" >z; }} 2>/dev/null \
  || full
guard &
g=$!
libs=$( . {environment} >/dev/null 2>&1; printf %s "${{LD_LIBRARY_PATH-}}" )
[ ! -r {environment} ] || {{ LD_LIBRARY_PATH=$libs; export LD_LIBRARY_PATH; }}
find_tool() {{ # sets t to the absolute path of tool $1, or to nothing
  t=$(command -v "$1") || t=''
  case $t in /*) return;; esac
  for f in {folders}; do t=$f/$1; [ -x "$t" ] && return; done
  t=''
}}
say note open-files-limit "$(ulimit -n)"
say note user-id "$(command -p id -u)"
say note {note}
# w is written over, never emptied first: what is emptied and written again ext4 puts on the disk at once.
run() {{ # root|user, limit in seconds, absolute tool, arguments
  r=$1 l=$2; shift 2; stuck=''; echo "$k.$tries $l ." 1<>w 2>/dev/null || full
  if [ -n "$sudo" ] && [ "$r" = root ]; then
    sudo -n env "LD_LIBRARY_PATH=${{LD_LIBRARY_PATH-}}" LC_ALL=C timeout -k {grace} "$l" "$@" \
      </dev/null >"o$k" 2>"e$k" &
  else
    timeout -k {grace} "$l" "$@" </dev/null >"o$k" 2>"e$k" &
  fi
  p=$!
  while wait "$p" 2>/dev/null; rc=$?; [ $rc = 138 ] || [ $rc = 140 ]; do # a signal of the guard's
    [ -n "$stuck" ] || continue
    stuck='' u=''; IFS= read -r u <u # which command the guard meant; it may just have ended
    [ "$u" != "$k.$tries" ] || {{ rc=137; kill -s KILL "$p" 2>/dev/null; break; }}
  done
  kill -s KILL -- "-$p" 2>/dev/null; p=''; echo idle 9999 . 1<>w 2>/dev/null || full
}}
ask() {{ # id npu chip phy limit root|user retry-text tool path arguments
  at="$1 $2 $3 $4" id=$1 ph=$4 limit=$5 root=$6 again=$7 tool=$8; shift 8
  case " $hung" in *" $tool="*) by=${{hung##*" $tool="}}; say skip "$at" hung "${{by%%;*}}"; return 1;; esac
  [ -n "$1" ] || {{ say skip "$at" missing; return 1; }}
  [ ! -e over ] || {{ say skip "$at" time-up; return 1; }}
  k=$((k+1)) tries=0
  while :; do
    tries=$((tries+1)); run "$root" "$limit" "$@"
    if [ $rc = 11 ]; then # hccn_tool: another call holds its lock
      [ $tries -lt 5 ] || break
      command -p sleep 0.$((tries*2))
    else
      [ -n "$again" ] && [ $tries = 1 ] || break
      case $(command -p head -c 200 "o$k" 2>/dev/null) in *"$again"*) command -p sleep 2;; *) break;; esac
    fi
  done
  printf '\n@%s begin %s %s %s\n' "$n" "$at" "$rc" "$tries" >"h$k" 2>/dev/null || full
  q="$q h$k o$k s e$k z"
  case $rc in 124|137|143) hung="$hung $tool=$id $ph;"; flush;; esac
  return 0
}}
flush() {{
  [ -z "$q" ] || command -p head -q -c {bytes} $q 2>/dev/null || quit 1
  for f in $q; do case $f in [oe]*) printf '' >"$f";; esac; done
  q=''
}}
q='' hung='' ids=''
"""

# Shells read byte by byte: what is read must be short, whatever the tool printed.
_READ_MAPPING = r"""then command -p head -c 65536 "o$k" >m 2>/dev/null || full
phy_column='' c_ids=0; while read -r a b c e f || [ -n "$a" ]; do
  case "$a $f" in NPU*Phy-ID*) phy_column=1;; esac
  [ -n "$phy_column" ] || e=$c
  for w in "$a" "$b" "$c" "$e"; do case $w in ''|*[!0-9]*|?????*) continue 2;; esac; done
  c_ids=$((c_ids+1)); [ $c_ids -gt {limit} ] || ids="$ids $a:$b:$e"
done <m
fi; flush"""

_END = r"""say done
quit 0
exit
}
"""

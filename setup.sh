#!/usr/bin/env bash
# Makes the environment of this checkout; does nothing when it is already up to date.
#
#   ./setup.sh          .venv: CPU build of torch, the locked packages, innverse (editable)
#   ./setup.sh bench    .venv-bench: the same with the libraries that benchmarks compare to
#
# INNVERSE_PYTHON=/path/to/python     which Python (3.11 or newer) to use
# INNVERSE_INSTALLER=pip              do without uv
# INNVERSE_TORCH_INDEX=https://...    where to look for the CPU build of torch if the configured
#                                     package index has none
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

case "${1:-dev}" in
  dev)   venv=.venv       lock=requirements/dev.lock ;;
  bench) venv=.venv-bench lock=benchmarks/peers.lock ;;
  *)     echo "usage: ./setup.sh [bench]" >&2; exit 2 ;;
esac
torch_index=${INNVERSE_TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
python=$venv/bin/python
stamp=$venv/.innverse

say() { echo "set-up: $*" >&2; }
die() { say "$*"; exit 1; }

# ------------------------------------------------------------------------------ is it up to date?
wanted="$PWD $(cat pyproject.toml setup.sh requirements/torch.txt "$lock" src/innverse/__init__.py | cksum)"
up_to_date() { [ -x "$python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; }
up_to_date && exit 0

mkdir -p "$venv"
if command -v flock >/dev/null; then # two set-ups at once: the second one waits and finds it done
  exec 9>"$venv/.innverse.lock" # not .lock: that one is uv's own
  flock 9
  up_to_date && exit 0
fi
SECONDS=0

# ------------------------------------------------------------------------------ the bare environment
find_python() {
  local candidate
  for candidate in "${INNVERSE_PYTHON:-}" python3.11 python3.12 python3.13 python3 python; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  die "no Python 3.11 or newer found; install one or set INNVERSE_PYTHON to its path"
}

moved() { [ -f "$stamp" ] && [ "$(cut -d' ' -f1 "$stamp")" != "$PWD" ]; }
if moved || ! "$python" -m pip --version >/dev/null 2>&1; then
  found=$(find_python)
  say "$venv with $("$found" --version)"
  "$found" -m venv --clear "$venv" ||
    die "$found cannot make a virtual environment (Debian and Ubuntu: apt-get install python3-venv)"
fi
rm -f "$stamp"

# ------------------------------------------------------------------------------ the installer
# uv is several times faster but does not read pip's configuration: hand it over.
pip_settings_for_uv() {
  "$python" -m pip config list 2>/dev/null | "$python" -c '
import ast, os, shlex, sys

found = {}
for line in sys.stdin:
    key, _, value = line.partition("=")
    scope, _, name = key.strip().partition(".")
    if scope in ("global", "install", ":env:") and (name not in found or scope == ":env:"):
        found[name.replace("_", "-")] = ast.literal_eval(value)
table = [
    ("find-links", "UV_FIND_LINKS", ","),
    ("index-url", "UV_DEFAULT_INDEX", " "),
    ("extra-index-url", "UV_INDEX", " "),
    ("trusted-host", "UV_INSECURE_HOST", " "),
    ("cert", "SSL_CERT_FILE", " "),
    ("no-index", "UV_NO_INDEX", " "),
]
for name, variable, joint in table:
    if name in found and variable not in os.environ:
        print(f"export {variable}={shlex.quote(joint.join(found[name].split()))}")
'
}

with_uv() { "$uv" pip install --quiet --python "$python" "$@"; }
with_pip() { "$python" -m pip install -qq --no-compile --disable-pip-version-check "$@"; }

use_uv() {
  [ "${INNVERSE_INSTALLER:-uv}" = uv ] || return 1
  uv=uv
  if ! uv --version >/dev/null 2>&1; then
    uv=$PWD/$venv/bin/uv
    [ -x "$uv" ] || with_pip uv || return 1
  fi
  eval "$(pip_settings_for_uv)"
  # like pip: the best version of all sources, not the first source that knows the name
  export UV_INDEX_STRATEGY=unsafe-best-match
}

# ------------------------------------------------------------------------------ the packages
# Everything goes in without dependencies: the lock is complete, and torch on its own cannot bring
# CUDA packages. The lock has a hash of every file that may come; torch's builds differ from index to
# index, so torch alone is pinned without.
install_torch() {
  local pinned
  pinned=$(grep -o '^torch==.*' requirements/torch.txt)
  if [ "$(uname)" = Darwin ]; then # its only build is a CPU one
    "$1" --no-deps "$pinned"
    return
  fi
  "$1" --no-deps "$pinned+cpu" 2>/dev/null && return
  say "no CPU build of torch in the configured index; looking at $torch_index"
  "$1" --no-deps --index-url "$torch_index" "$pinned+cpu" ||
    { say "no CPU build of torch there either; INNVERSE_TORCH_INDEX=URL names another index"; return 1; }
}

install_all() {
  say "torch"
  install_torch "$1" || return 1
  say "$(grep -c '==' "$lock") locked packages"
  "$1" --no-deps --require-hashes -r "$lock" || return 1
  say "innverse"
  "$1" --no-deps --no-build-isolation -e .
}

if use_uv && install_all with_uv; then
  how=uv
else
  [ "${INNVERSE_INSTALLER:-uv}" = pip ] || say "uv is not to be had or failed; using pip, which is slower"
  install_all with_pip || die "the installation failed, see above; the same command continues it"
  how=pip
fi

# ------------------------------------------------------------------------------ what must not be there
"$python" - <<'PYTHON' || exit 1
import sys
from importlib.metadata import distributions

names = {(d.metadata["Name"] or "").lower() for d in distributions()}
bad = sorted(
    n for n in names if n.startswith(("nvidia-", "cuda-")) or n in ("torchvision", "torchaudio", "triton")
)
if bad:
    sys.exit(
        f"set-up: {', '.join(bad)} in {sys.prefix}: packages that do not go with the CPU build of torch; "
        "delete the folder and run this again"
    )
import torch

if torch.version.cuda:
    sys.exit(f"set-up: torch {torch.__version__} is a CUDA build; delete {sys.prefix} and run this again")
PYTHON

echo "$wanted" >"$stamp"
say "$venv is ready after $SECONDS s ($how)"

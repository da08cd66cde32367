# Shared by the scripts of this folder (sourced, never run): where things lie, and how a step speaks.
# A step prints one line when it is done (what, how long), one line when there is nothing to do, and on a "no" what was seen, what is
# missing and what to do next; all of it on stderr, so that a script's result can stand alone on stdout.
# shellcheck shell=bash disable=SC2034

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/glm-fleet
VENV=${FLEET_VENV:-$REPO/.venv}
PYTHONS="3.13 3.12 3.11" # the newest first
absolute() { case $1 in /*) printf '%s\n' "$1" ;; *) printf '%s\n' "$PWD/$1" ;; esac; }
STATE=$(absolute "${FLEET_STATE:-$REPO/.pulumi}")
STEP=$(basename "$0" .sh)
STARTED=$SECONDS
# uv trusts what the system trusts, as pip and curl do: many networks have an authority of their own. The second name is that of older releases.
export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true} UV_NATIVE_TLS=${UV_NATIVE_TLS:-true}

# digest: the sha256 of stdin, as macOS has it, too.
digest() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }

# interpreter VERSION: the path of a Python of that version that runs, pyenv's included, whose shims name versions that do not.
interpreter() {
  local found
  for found in "$(command -v "python$1")" "$(command -v python3)" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/"python$1"; do
    if [ -x "$found" ] && [ "$("$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$1" ]; then
      printf '%s\n' "$found"
      return
    fi
  done
  return 1
}

# python_version VENV: which Python the environment gets (python.sh says by which rule).
python_version() {
  local version python
  if [ -n "${PYTHON:-}" ]; then
    case " $PYTHONS " in *" $PYTHON "*) ;; *) no "PYTHON=$PYTHON" "one of: $PYTHONS" ;; esac
    echo "$PYTHON"
    return
  fi
  for python in "$1/bin/python" python3; do
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case " $PYTHONS " in *" $version "*) echo "$version"; return ;; esac
  done
  for version in $PYTHONS; do
    if interpreter "$version" >/dev/null; then echo "$version"; return; fi
  done
  echo 3.11 # uv says that it is missing, or fetches it
}

# One engine for all clones with the same pins: its folder is named by the content of what it is built from.
pulumi_home() {
  printf '%s/pulumi-%s\n' "$CACHE" "$(cat "$REPO"/bootstrap/pulumi/{recipe.sh,go.mod,go.sum,go.txt} "$REPO"/bootstrap/pulumi/language-host/go.{mod,sum} | digest | cut -c1-12)"
}

# environment: env.sh, for a script that runs pulumi; says so where the set-up is not done.
environment() {
  local exports
  exports=$("$REPO/bootstrap/env.sh")
  eval "$exports"
  [ -x "$VENV/bin/fleet" ] || no "there is no .venv" "bootstrap/python.sh" "make setup"
  command -v pulumi >/dev/null || no "there is no Pulumi" "bootstrap/pulumi.sh" "make setup"
}

stack_exists() {
  local listed
  listed=$(pulumi stack ls --json 2>&1) ||
    no "the stacks in $PULUMI_BACKEND_URL cannot be read: ${listed#error: }" "state files that are whole JSON" \
      "make recover STACK=$1 puts the newest whole state that Pulumi kept in its place"
  python3 -c 'import json, sys; sys.exit(sys.argv[1] not in [s["name"].split("/")[-1] for s in json.load(sys.stdin)])' "$1" <<<"$listed"
}

# paste WORD: a word of a line to paste; the checkout's path may have spaces.
paste() { printf '%q' "$1"; }
say() { printf '%-8s %s\n' "$STEP:" "$*" >&2; }
took() { say "$* ($((SECONDS - STARTED)) s)"; }

no() { # SEEN [WANTED [NEXT]]
  say "$1"
  [ $# -lt 2 ] || printf '  wanted: %s\n' "$2" >&2
  [ $# -lt 3 ] || printf '  next:   %s\n' "$3" >&2
  exit 1
}

# packages NAME...: Debian packages that a step cannot do without. False where this is not Debian, or not root.
packages() {
  command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || return 1
  local log
  log=$(mktemp)
  mkdir -p "$CACHE"
  say "installing from the system's archive: $*"
  # Steps run side by side, apt only one at a time; --close, so that a service which a package starts does not keep the lock.
  if ! { flock --close "$CACHE/apt.lock" apt-get -qq update &&
    DEBIAN_FRONTEND=noninteractive flock --close "$CACHE/apt.lock" apt-get -qq install --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
    tail -n 5 "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

# only_one NAME: one run of a step at a time over all clones of this user; the second waits, then finds the work done.
# The lock is open as descriptor $LOCK: what stays in the background must close it.
only_one() {
  mkdir -p "$CACHE"
  exec 9>"$CACHE/$1.lock" # a number: macOS has a bash that chooses none
  LOCK=9
  command -v flock >/dev/null || return 0 # macOS: nothing guards two runs at once
  flock --nonblock "$LOCK" || { say "another run is at the same step: waiting for it"; flock "$LOCK"; }
}

# Shared by the scripts of this folder (sourced, never run): paths and messages.
# A step prints one line when it is done (what, how long) or when there is nothing to do. A failure (`no`) prints what was seen, what was wanted
# and what to do next. Everything goes to stderr, so that stdout holds only a script's result.
# shellcheck shell=bash disable=SC2034

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/glm-fleet
VENV=${FLEET_VENV:-$REPO/.venv}
PYTHONS="3.13 3.12 3.11" # the newest first
absolute() { case $1 in /*) printf '%s\n' "$1" ;; *) printf '%s\n' "$PWD/$1" ;; esac; }
STATE=$(absolute "${FLEET_STATE:-$REPO/.pulumi}")
STEP=$(basename "$0" .sh)
STARTED=$SECONDS
# uv trusts the system's CAs, as pip and curl do: many networks have their own CA. Older releases use the second name.
export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true} UV_NATIVE_TLS=${UV_NATIVE_TLS:-true}

# digest: the sha256 of stdin, on macOS too.
digest() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }

# interpreter VERSION: the path of a working Python of that version, also pyenv's, whose shims may name a version that does not work.
interpreter() {
  local python
  for python in "$(command -v "python$1")" "$(command -v python3)" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/"python$1"; do
    if [ -x "$python" ] && [ "$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$1" ]; then
      printf '%s\n' "$python"
      return
    fi
  done
  return 1
}

# python_version VENV: the version of Python for the environment (python.sh has the rule).
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
  echo 3.11 # uv reports that it is missing, or fetches it
}

# All clones with the same pins share one build of Pulumi: its folder is named by the content of its sources.
pulumi_home() {
  printf '%s/pulumi-%s\n' "$CACHE" "$(cat "$REPO"/bootstrap/pulumi/{recipe.sh,go.mod,go.sum,go.txt} "$REPO"/bootstrap/pulumi/language-host/go.{mod,sum} | digest | cut -c1-12)"
}

# Where go.sh keeps a Go from the package index, for a machine without one.
go_home() { printf '%s/go-%s\n' "$CACHE" "$(digest <"$REPO/bootstrap/pulumi/go.txt" | cut -c1-12)"; }

# environment: the environment of env.sh, for a script that runs pulumi. Fails when the setup is incomplete.
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

# lab_cluster STACK: whether the stack's Kubernetes cluster is the lab's, which lab-cluster.sh makes.
lab_cluster() { grep -qE '^ +context: glm-fleet-lab( |$)' "$REPO/stacks/Pulumi.$1.yaml" 2>/dev/null; }

# lab_plugin STACK: let the stack of the lab's cluster find the stand-in for the vendor's plugin, after one on PATH. No other stack may.
lab_plugin() { if lab_cluster "$1"; then export PATH=$PATH:$REPO/lab/kubernetes/plugin; fi; }

# on_cluster: whether an environment needs the SDK of Kubernetes (190 MB with its bytecode): for each stack on a cluster but the lab's own one, which
# is in every checkout and counts when STACK names it. An environment that has the SDK keeps it.
on_cluster() {
  local file stack
  [ ! -e "$VENV/.kubernetes" ] || return 0
  for file in "$REPO"/stacks/Pulumi.*.yaml; do
    stack=$(basename "$file" .yaml)
    stack=${stack#Pulumi.}
    if [ "$stack" != "${STACK:-}" ] && lab_cluster "$stack"; then continue; fi
    if grep -qE '^[[:space:]]*"?glm-fleet:kubernetes"?:' "$file"; then return 0; fi
  done
  return 1
}

# sdk_locks: the locks of the SDKs that the stack files need: of their sources, and of a cluster.
sdk_locks() {
  local source
  if on_cluster; then echo requirements/kubernetes.txt; fi
  sed -nE 's/^([^#]*[^#[:alnum:]_])?source:[[:space:]]*"?([a-z0-9_]+).*/\2/p' "$REPO"/stacks/*.yaml | sort -u | while read -r source; do
    [ ! -f "$REPO/requirements/$source.txt" ] || echo "requirements/$source.txt"
  done
}

# paste WORD: the word, quoted for a line to paste; the checkout's path may have spaces.
paste() { printf '%q' "$1"; }
say() { printf '%-8s %s\n' "$STEP:" "$*" >&2; }
took() { say "$* ($((SECONDS - STARTED)) s)"; }

no() { # SEEN [WANTED [NEXT]]
  say "$1"
  [ $# -lt 2 ] || printf '  wanted: %s\n' "$2" >&2
  [ $# -lt 3 ] || printf '  next:   %s\n' "$3" >&2
  exit 1
}

# packages NAME...: install Debian packages that a step needs. Fails when this is not Debian, or not root.
packages() {
  command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || return 1
  local log
  log=$(mktemp)
  mkdir -p "$CACHE"
  say "installing from the system's archive: $*"
  # Steps run in parallel, apt one at a time; --close, so that a service that a package starts does not keep the lock.
  if ! { flock --close "$CACHE/apt.lock" apt-get -qq update &&
    DEBIAN_FRONTEND=noninteractive flock --close "$CACHE/apt.lock" apt-get -qq install --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
    tail -n 5 "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

# only_one NAME: one run of a step at a time for all clones of this user. A second run waits, then finds the work done.
# The lock is open as descriptor $LOCK; a background process must close it.
only_one() {
  mkdir -p "$CACHE"
  exec 9>"$CACHE/$1.lock" # a number: macOS's bash cannot choose one
  LOCK=9
  command -v flock >/dev/null || return 0 # macOS: nothing prevents two runs at once
  flock --nonblock "$LOCK" || { say "another run does the same step: waiting for it"; flock "$LOCK"; }
}

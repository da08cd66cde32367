#!/usr/bin/env bash
# The Python environment .venv from the locks, with pip in it and this repository importable (`fleet`, `lab`) from anywhere.
# Usage: [PYTHON=3.13] bootstrap/python.sh [run|dev]. "run" (default) is what `pulumi up` needs, with the SDKs of the clouds that are a `source` in any
# stack file (requirements/SOURCE.txt); "dev" adds what tests and checks need, and every SDK.
# Which Python: PYTHON=3.11, 3.12 or 3.13; else that of .venv; else `python3` where it is one of them; else the newest of them that is here.
# Needs one of them, a package index and uv (uv.sh). Called by the Makefile; with FLEET_VENV=FOLDER by check-pythons.sh.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

level=${1:-run}
[ ! -e "$VENV/.dev" ] || level=dev # what once had the tools keeps them
clouds() { # the locks of those that the stack files name
  local source
  sed -nE 's/^([^#]*[^#[:alnum:]_])?source:[[:space:]]*"?([a-z]+).*/\2/p' "$REPO"/stacks/*.yaml | sort -u | while read -r source; do
    [ ! -f "$REPO/requirements/$source.txt" ] || echo "requirements/$source.txt"
  done
}
PYTHON=$(python_version "$VENV")
case $level in
  run)
    locks=(requirements/base.txt)
    while read -r lock; do locks+=("$lock"); done < <(clouds)
    ;;
  dev) locks=(requirements/dev.txt) ;;
  *) no "unknown level $level" "run or dev" ;;
esac

stamp() { (cd "$REPO" && cat "${locks[@]}" pyproject.toml && echo "$REPO $PYTHON") | digest | cut -c1-16; }
key=$(stamp)
ready() { [ -x "$VENV/bin/python" ] && [ -x "$VENV/bin/fleet" ] && [ "$(cat "$VENV/.key" 2>/dev/null)" = "$1" ]; }

# Ansible reaches the nodes with OpenSSH's client, which a bare system may lack.
command -v ssh >/dev/null || packages openssh-client || no "there is no ssh command" "OpenSSH's client" "install openssh-client"

if ready "$key"; then
  say "ready: .venv ($level)"
  exit 0
fi
only_one python
ready "$key" && exit 0
UV=$("$REPO/bootstrap/uv.sh")

export VIRTUAL_ENV=$VENV
cd "$REPO"
# A folder that moved, or an interpreter that is gone, leaves an environment that only looks like one.
if ! "$VENV/bin/python" -c "import sys; sys.exit(sys.prefix != '$VENV' or sys.version_info[:2] != (${PYTHON/./, }))" 2>/dev/null; then
  rm -rf "$VENV"
  "$UV" venv --quiet --python "$(interpreter "$PYTHON" || echo "$PYTHON")" "$VENV" || no "uv could not make .venv" "Python $PYTHON" "install python$PYTHON"
fi
"$UV" pip sync --quiet --require-hashes "${locks[@]}" ||
  no "the packages of ${locks[*]} could not be installed" "a package index that holds them" "read the message of uv above; UV_INDEX_URL or PIP_INDEX_URL chooses the index"
"$UV" pip install --quiet --no-deps --no-build-isolation --editable . || no "the repository itself could not be installed into .venv"
# Every command here starts Python several times; without bytecode each start would compile for a second.
# A few packages carry files for other versions of Python: those fail, and nobody imports them. Of the largest SDKs, ten thousand files, a
# stack imports twenty, which Python compiles itself.
"$VENV/bin/python" -m compileall -q -j 0 -x 'ansible_collections|/tests?/|mypy|pulumi_(azure_native|oci)/' "$VENV/lib/python$PYTHON/site-packages" >/dev/null || true
[ "$level" = run ] || touch "$VENV/.dev"
echo "$key" >"$VENV/.key"
took "made .venv ($level): $("$VENV/bin/python" -V), $(sort -u <(cd "$REPO" && grep -h '^[a-z].*==' "${locks[@]}") | wc -l) locked packages"

#!/usr/bin/env bash
# Make the Python environment .venv from the locks, with pip and with this repository (`fleet`, `lab`) installed.
# Usage: [PYTHON=3.13] [STACK=lab-kubernetes] bootstrap/python.sh [run|dev]. "run" (default) has what `pulumi up` needs, with the SDK of each cloud that a stack file names
# as a `source` (requirements/SOURCE.txt), and that of Kubernetes where one has `glm-fleet:kubernetes` (lib.sh: sdk_locks). "dev" adds the tools
# for tests and checks, and every SDK.
# Which Python: PYTHON=3.11, 3.12 or 3.13; else that of .venv; else `python3` when it is one of them; else the newest installed one of them.
# Needs one of them, a package index and uv (uv.sh). Called by the Makefile; with FLEET_VENV=FOLDER by check-pythons.sh.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

level=${1:-run}
[ ! -e "$VENV/.dev" ] || level=dev # an environment with the tools keeps them
PYTHON=$(python_version "$VENV")
case $level in
  run)
    locks=(requirements/base.txt)
    while read -r lock; do locks+=("$lock"); done < <(sdk_locks)
    ;;
  dev) locks=(requirements/dev.txt) ;;
  *) no "unknown level $level" "run or dev" ;;
esac

stamp() { (cd "$REPO" && cat "${locks[@]}" pyproject.toml && echo "$REPO $PYTHON") | digest | cut -c1-16; }
key=$(stamp)
ready() { [ -x "$VENV/bin/python" ] && [ -x "$VENV/bin/fleet" ] && [ "$(cat "$VENV/.key" 2>/dev/null)" = "$1" ]; }

# Ansible needs OpenSSH's client, which a bare system may lack.
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
# After its folder has moved, or its interpreter is gone, an environment does not work.
if ! "$VENV/bin/python" -c "import sys; sys.exit(sys.prefix != '$VENV' or sys.version_info[:2] != (${PYTHON/./, }))" 2>/dev/null; then
  rm -rf "$VENV"
  "$UV" venv --quiet --python "$(interpreter "$PYTHON" || echo "$PYTHON")" "$VENV" || no "uv could not make .venv" "Python $PYTHON" "install python$PYTHON"
fi
"$UV" pip sync --quiet --require-hashes "${locks[@]}" ||
  no "the packages of ${locks[*]} could not be installed" "a package index that holds them" "read the message of uv above; UV_INDEX_URL or PIP_INDEX_URL chooses the index"
"$UV" pip install --quiet --no-deps --no-build-isolation --editable . || no "the repository itself could not be installed into .venv"
# Every command here starts Python several times; without bytecode each start would compile for a second.
# A few packages have files for other versions of Python: those fail, and nothing imports them. Of the ten thousand files of the largest SDKs, and
# the three thousand for Kubernetes, a stack imports some dozens, which Python compiles itself.
"$VENV/bin/python" -m compileall -q -j 0 -x 'ansible_collections|/tests?/|mypy|(pulumi_(azure_native|oci)|kubernetes)/' "$VENV/lib/python$PYTHON/site-packages" >/dev/null || true
[ "$level" = run ] || touch "$VENV/.dev"
case " ${locks[*]} " in *" requirements/kubernetes.txt "*) touch "$VENV/.kubernetes" ;; esac
echo "$key" >"$VENV/.key"
took "made .venv ($level): $("$VENV/bin/python" -V), $(sort -u <(cd "$REPO" && grep -h '^[a-z].*==' "${locks[@]}") | wc -l) locked packages"

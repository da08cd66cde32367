#!/usr/bin/env bash
# Run every check that needs no machine, in parallel. Print one line with the time of each, and the output of those that fail.
# Needs the environment of env.sh with .venv at level dev. Called by `make check`. Usage: bootstrap/check.sh [NAME...] runs only those.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$REPO"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cores=$(getconf _NPROCESSORS_ONLN)
unset PYTHONDONTWRITEBYTECODE # or each process of the tests compiles what it imports: more than half of their processor time

shells() { git ls-files --cached --others --exclude-standard -z | xargs -0 grep -lE --null -m 1 '^#!(/usr)?/bin/(env )?(ba|da)?sh|^# shellcheck shell=' -- 2>/dev/null || true; }
run() {
  case $1 in
    format) ruff format --check --output-format concise . ;; # make format writes it
    lint) ruff check --output-format concise . ;;
    types) mypy --strict fleet lab ;;
    policies) mypy --strict policies ;;
    imports) NO_COLOR=1 lint-imports --no-logo ;;
    ansible) ansible-lint --offline --profile production --format pep8 --nocolor -q ;;
    yaml) yamllint --strict . ;;
    shell) shells | xargs -0 shellcheck ;;
    # one more than cores: these tests wait for processes a third of their time
    tests) python -m pytest -q --numprocesses "$((cores + 1))" --no-loadscope-reorder -m 'not docker and not engine and not slow' --no-header --tb short --timeout 30 --durations 3 ;;
    *) echo "unknown check: $1"; return 2 ;;
  esac
}
one() {
  local rc=0 from=$SECONDS # whole seconds: $EPOCHREALTIME has the locale's decimal sign, and an old bash lacks it
  run "$1" >"$out/$1" 2>&1 || rc=$?
  [ $rc = 0 ] || sed "s/^/$1: /" "$out/$1"
  printf '%-4s %-9s %3d s\n' "$([ $rc = 0 ] && echo ok || echo NO)" "$1" "$((SECONDS - from))"
  echo $rc >"$out/$1.rc"
}
export -f one run shells
export out cores

# Longest first, as many at once as there are cores.
[ $# -gt 0 ] || set -- tests ansible types policies imports yaml shell lint format
printf '%s\n' "$@" | xargs -P "$cores" -I{} bash -c 'set -uo pipefail; one {}'
failed=
for rc in "$out"/*.rc; do
  [ "$(cat "$rc")" = 0 ] || failed="$failed$(basename "$rc" .rc) "
done
[ -z "$failed" ] || { took "failed: $failed"; exit 1; }
took "all checks passed"

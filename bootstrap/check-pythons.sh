#!/usr/bin/env bash
# Run the fast tests of `make check` on the oldest and the newest Python of a controller, each in its own environment below the cache.
# Usage: bootstrap/check-pythons.sh [arguments of pytest]. PYTHONS="3.12" chooses others. Needs those Pythons, uv (uv.sh). Called by
# `make check-pythons`.
set -euo pipefail
chosen=${PYTHONS:-3.11 3.13}
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$REPO"
failed=
unset PYTHONDONTWRITEBYTECODE # as in check.sh
for version in $chosen; do
  venv=$CACHE/check-$version
  PYTHON=$version FLEET_VENV=$venv "$REPO/bootstrap/python.sh" dev
  exports=$(FLEET_VENV=$venv "$REPO/bootstrap/env.sh")
  if (eval "$exports" && python -m pytest -q --numprocesses "$(getconf _NPROCESSORS_ONLN)" --no-loadscope-reorder -m 'not docker and not engine and not slow' --no-header --tb short --timeout 60 --durations 3 "$@"); then
    took "Python $version: ok"
  else
    say "Python $version: NO"
    failed="$failed $version"
  fi
done
[ -z "$failed" ] || no "the fast tests fail on Python$failed" "tests that pass on each of $chosen" "read the failures above"

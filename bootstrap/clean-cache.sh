#!/usr/bin/env bash
# Remove what was built outside the clone: Pulumi, uv, the lab's build results and images. The state and .venv stay.
# Called by `make clean-cache`.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ -x "$VENV/bin/python" ] && docker info >/dev/null 2>&1; then
  images=$(docker images --quiet --filter label=glm-fleet-lab | sort -u)
  # Without force: an image that a container still uses stays, and Docker reports it.
  # shellcheck disable=SC2086  # a list of ids
  [ -z "$images" ] || docker rmi $images >/dev/null || say "some images are in use: run make down first"
fi
for entry in "$CACHE"/* ; do
  # The record that docker.sh started the Docker daemon stays as long as that daemon runs.
  case $entry in */docker.started | */dockerd.log) [ ! -f "$CACHE/docker.started" ] || continue ;; esac
  chmod -R u+w "$entry" 2>/dev/null || true
  rm -rf "$entry"
done
took "removed $CACHE"

#!/usr/bin/env bash
# Prints the environment of this project as export lines: `eval "$(make env)"`. The single home of PULUMI_* and PATH; makes what they name.
# FLEET_STATE chooses another state folder than .pulumi (tests do), FLEET_BACKEND another backend (s3://…), FLEET_PASSPHRASE_FILE another
# passphrase. Called by the Makefile, by the other scripts here and by the tests.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

umask 077
mkdir -p "$STATE/backend" "$STATE/logs"

passphrase=${FLEET_PASSPHRASE_FILE:-$STATE/passphrase}
if [ ! -s "$passphrase" ]; then # made once; ln never overwrites, so of two runs at once the first wins
  draft=$(mktemp "$STATE/passphrase.XXXXXX")
  head -c 32 /dev/urandom | base64 | tr -d '\n' >"$draft"
  ln "$draft" "$passphrase" 2>/dev/null || true
  rm -f "$draft"
fi

# The runner of policy packs (`runtime: {name: py}`), as a plugin: so it is found with whichever engine is used.
policies=$STATE/home/plugins/analyzer-policy-py-v1.0.0
if ! cmp -s "$REPO/bootstrap/pulumi/policy-py.sh" "$policies/pulumi-analyzer-policy-py"; then
  mkdir -p "$policies"
  install -m 755 "$REPO/bootstrap/pulumi/policy-py.sh" "$policies/pulumi-analyzer-policy-py"
fi

# Of everything that passes by, the engine writes a log of its own, encrypted, in a folder of its home: two thirds of its time in a large fleet.
# Where there is no such folder, it does without. FLEET_DEBUG=1 lets it; what a run did is in $STATE/logs in any case.
mkdir -p "$STATE/home"
if [ -n "${FLEET_DEBUG:-}" ]; then
  [ ! -f "$STATE/home/logs" ] || rm "$STATE/home/logs"
elif [ ! -e "$STATE/home/logs" ]; then
  touch "$STATE/home/logs"
fi

set_() { printf 'export %s=%q\n' "$1" "$2"; }
path=$VENV/bin:$(pulumi_home)/bin
case $PATH in "$path":*) ;; *) path=$path:$PATH; set_ PATH "$path" ;; esac
set_ PULUMI_HOME "$STATE/home"
set_ PULUMI_BACKEND_URL "${FLEET_BACKEND:-file://$STATE/backend}"
set_ PULUMI_CONFIG_PASSPHRASE_FILE "$passphrase"
echo 'unset PULUMI_CONFIG_PASSPHRASE' # it would win over the file
# The engine's own bound, four operations a core, would look at a large fleet in small portions, and at each node several times: what asks for
# one node at the same time is answered by one exec (fleet/managed/managed_set.py). How many Ansible runs work at once is the stack's `parallel`.
set_ PULUMI_PARALLEL "${PULUMI_PARALLEL:-500}"
# The engine's memory: a tenth less in a fleet of 1,000, at no time that could be measured.
set_ GOGC "${GOGC:-60}"
set_ PULUMI_SKIP_UPDATE_CHECK 1
set_ PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION 1

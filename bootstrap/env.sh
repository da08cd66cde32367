#!/usr/bin/env bash
# Print the environment of this project as export lines: `eval "$(make env)"`. Only this script sets PULUMI_* and PATH; it creates what they name.
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

# The runner of policy packs (`runtime: {name: py}`), as a plugin: any Pulumi engine finds it there.
policies=$STATE/home/plugins/analyzer-policy-py-v1.0.0
if ! cmp -s "$REPO/bootstrap/pulumi/policy-py.sh" "$policies/pulumi-analyzer-policy-py"; then
  mkdir -p "$policies"
  install -m 755 "$REPO/bootstrap/pulumi/policy-py.sh" "$policies/pulumi-analyzer-policy-py"
fi

# The Pulumi engine logs everything that it handles, encrypted, in a folder of its home: two thirds of its time in a large fleet. A file in
# that place prevents it; FLEET_DEBUG=1 allows it. $STATE/logs has the log of a run in any case.
mkdir -p "$STATE/home"
if [ -n "${FLEET_DEBUG:-}" ]; then
  [ ! -f "$STATE/home/logs" ] || rm "$STATE/home/logs"
elif [ ! -e "$STATE/home/logs" ]; then
  touch "$STATE/home/logs"
fi

set_() { printf 'export %s=%q\n' "$1" "$2"; }
path=$VENV/bin:$(pulumi_home)/bin
[ ! -x "$(go_home)/bin/go" ] || path=$path:$(go_home)/bin # where the machine has no new enough Go
case $PATH in "$path":*) ;; *) path=$path:$PATH; set_ PATH "$path" ;; esac
set_ PULUMI_HOME "$STATE/home"
set_ PULUMI_BACKEND_URL "${FLEET_BACKEND:-file://$STATE/backend}"
set_ PULUMI_CONFIG_PASSPHRASE_FILE "$passphrase"
echo 'unset PULUMI_CONFIG_PASSPHRASE' # it would override the file
# The Pulumi engine's own limit, four operations per core, would read a large fleet in small portions, and each node several times: one exec
# answers all simultaneous reads of a node (fleet/managed/managed_set.py). And each node that waits for its turn holds an operation, so there
# must be more of them than nodes. The stack's `parallel` limits simultaneous Ansible runs.
set_ PULUMI_PARALLEL "${PULUMI_PARALLEL:-2000}"
# Saves a tenth of the Pulumi engine's memory in a fleet of 1,000, without a measurable cost in time.
set_ GOGC "${GOGC:-60}"
set_ PULUMI_SKIP_UPDATE_CHECK 1
set_ PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION 1

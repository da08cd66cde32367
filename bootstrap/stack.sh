#!/usr/bin/env bash
# Prepare a stack for deployment: create it in the backend, and make an API key (a secret) when its file has none. For a lab with a gateway,
# also make the key of a client `lab`, and keep it beside the lab's SSH keys: with it, the lines of `fleet show` work at once.
# Usage: bootstrap/stack.sh STACK. Needs the bootstrap (python.sh, pulumi.sh). Called by up.sh and by the tests.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
environment
stack=${1:?usage: bootstrap/stack.sh STACK}
cd "$REPO"
quietly() { # show Pulumi's output only after a failure
  local out
  out=$("$@" 2>&1) || { printf '%s\n' "$out" >&2; return 1; }
}
steps=

if ! stack_exists "$stack"; then
  quietly pulumi stack init "$stack" --no-select ||
    no "the stack $stack could not be created" "a stack in $PULUMI_BACKEND_URL" \
      "secrets of another passphrase need that one: FLEET_PASSPHRASE_FILE=FILE; if it is lost, remove them and encryptionsalt from stacks/Pulumi.$stack.yaml"
  steps="created the stack"
fi
output=$(pulumi config --show-secrets --stack "$stack" 2>&1 >/dev/null) ||
  no "the settings of $stack cannot be read: ${output#error: }" "the passphrase of stacks/Pulumi.$stack.yaml" \
    "put it into ${PULUMI_CONFIG_PASSPHRASE_FILE/#$REPO\//}, or FLEET_PASSPHRASE_FILE=FILE"
if ! grep -qE '^[[:space:]]+(glm-fleet:)?vllm_api_key:' "stacks/Pulumi.$stack.yaml"; then
  head -c 32 /dev/urandom | base64 | tr -d '+/=\n' | quietly pulumi config set --secret vllm_api_key --stack "$stack" ||
    no "the API key of $stack could not be written" "vllm_api_key in stacks/Pulumi.$stack.yaml" "pulumi config set --secret vllm_api_key --stack $stack"
  steps="${steps:+$steps, }made an API key"
fi

# client_key FILE: make the key of the client `lab` in FILE, unless FILE has it and the stack file its SHA-256.
client_key() {
  [ ! -s "$1" ] || ! grep -qF "$(tr -d '\n' <"$1" | digest | cut -c1-64)" "stacks/Pulumi.$stack.yaml" || return 0
  if fleet key list -s "$stack" 2>/dev/null | grep '^lab ' >/dev/null; then quietly fleet key remove -s "$stack" lab; fi
  mkdir -p "$(dirname "$1")"
  (umask 077 && rm -f "$1" && fleet key add -s "$stack" lab 2>/dev/null >"$1") || no "no key for the client lab" "one in $1" "fleet key add -s $stack lab"
  steps="${steps:+$steps, }made the key of the client lab"
}
if grep -qE '^[[:space:]]+source: lab$' "stacks/Pulumi.$stack.yaml" && grep -q '^  glm-fleet:gateway:' "stacks/Pulumi.$stack.yaml"; then
  client_key "$STATE/lab/$stack.key"
fi
if [ -z "$steps" ]; then say "ready: $stack"; else took "$stack: $steps"; fi

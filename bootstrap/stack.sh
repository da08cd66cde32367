#!/usr/bin/env bash
# Prepare a stack for deployment: create it in the backend, and make an API key (a secret) when its file has none.
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
if [ -z "$steps" ]; then say "ready: $stack"; else took "$stack: $steps"; fi

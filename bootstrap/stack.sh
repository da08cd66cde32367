#!/usr/bin/env bash
# A stack that can be deployed: in the backend, and with an API key (a secret, made here) when its file has none.
# Usage: bootstrap/stack.sh STACK. Needs the bootstrap (python.sh, pulumi.sh). Called by up.sh and by the tests.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
environment
stack=${1:?usage: bootstrap/stack.sh STACK}
cd "$REPO"
quietly() { # of Pulumi's output only what belongs to a failure is shown
  local out
  out=$("$@" 2>&1) || { printf '%s\n' "$out" >&2; return 1; }
}
done_=

if ! stack_exists "$stack"; then
  quietly pulumi stack init "$stack" --no-select ||
    no "the stack $stack could not be made" "a stack in $PULUMI_BACKEND_URL" \
      "secrets written with another passphrase need that one: FLEET_PASSPHRASE_FILE=FILE; if it is lost, take them and encryptionsalt out of stacks/Pulumi.$stack.yaml"
  done_="made the stack"
fi
opened=$(pulumi config --show-secrets --stack "$stack" 2>&1 >/dev/null) ||
  no "the settings of $stack cannot be read: ${opened#error: }" "the passphrase with which stacks/Pulumi.$stack.yaml was encrypted" \
    "put it into ${PULUMI_CONFIG_PASSPHRASE_FILE/#$REPO\//}, or FLEET_PASSPHRASE_FILE=FILE"
if ! grep -qE '^[[:space:]]+(glm-fleet:)?vllm_api_key:' "stacks/Pulumi.$stack.yaml"; then
  head -c 32 /dev/urandom | base64 | tr -d '+/=\n' | quietly pulumi config set --secret vllm_api_key --stack "$stack" ||
    no "the API key of $stack could not be written" "vllm_api_key in stacks/Pulumi.$stack.yaml" "pulumi config set --secret vllm_api_key --stack $stack"
  done_="${done_:+$done_, }made an API key"
fi
if [ -z "$done_" ]; then say "ready: $stack"; else took "$stack: $done_"; fi

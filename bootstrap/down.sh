#!/usr/bin/env bash
# Remove everything of a stack. The stack itself stays, with its history and its API key.
# Usage: bootstrap/down.sh STACK [more arguments of pulumi destroy]. Needs python.sh and pulumi.sh, for stacks of the lab docker.sh. Called by `make down`.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
environment
stack=${1:?usage: bootstrap/down.sh STACK}
shift
cd "$REPO"
lab_plugin "$stack"

# The cluster of a lab goes, too: an object that it cannot delete any more is no reason to keep it.
if lab_cluster "$stack"; then export PULUMI_K8S_DELETE_UNREACHABLE=true; fi
if stack_exists "$stack"; then
  pulumi destroy --yes --skip-preview --stack "$stack" "$@"
  took "stack $stack is down"
else
  say "there is no stack $stack in $PULUMI_BACKEND_URL: nothing to remove"
fi
if lab_cluster "$stack"; then "$REPO/bootstrap/lab-cluster.sh" down "$stack"; fi

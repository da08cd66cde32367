#!/usr/bin/env bash
# Deploy a stack from a prepared controller: create it, run `pulumi up` with the policies, show the table.
# Usage: bootstrap/up.sh STACK [more arguments of pulumi up]. Needs python.sh and pulumi.sh, for stacks of the lab docker.sh. Called by `make up`.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
environment
stack=${1:?usage: bootstrap/up.sh STACK}
shift
cd "$REPO"
lab_plugin "$stack"

"$REPO/bootstrap/stack.sh" "$stack"
if lab_cluster "$stack"; then "$REPO/bootstrap/lab-cluster.sh" up "$stack"; fi
# One failed node does not stop the others: their work is saved, and the summary names the failed one.
# The table below shows the outputs.
pulumi up --yes --skip-preview --suppress-outputs --continue-on-error --policy-pack policies --stack "$stack" "$@"
took "stack $stack is up"
fleet show -s "$stack"

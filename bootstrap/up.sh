#!/usr/bin/env bash
# From a prepared controller to a verified endpoint: the stack, `pulumi up` with the policies, and the table at the end.
# Usage: bootstrap/up.sh STACK [more arguments of pulumi up]. Needs python.sh and pulumi.sh, for stack lab docker.sh. Called by `make up`.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
environment
stack=${1:?usage: bootstrap/up.sh STACK}
shift
cd "$REPO"

"$REPO/bootstrap/stack.sh" "$stack"
# One failed node does not stop the others: their work is saved, and the summary says which failed.
# The table below tells what the outputs hold.
pulumi up --yes --skip-preview --suppress-outputs --continue-on-error --policy-pack policies --stack "$stack" "$@"
took "stack $stack is up"
fleet show -s "$stack"

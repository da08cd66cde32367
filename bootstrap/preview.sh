#!/usr/bin/env bash
# Show what `up` would change, restart or reboot on a stack, with the policies. Changes nothing but what stack.sh prepares.
# Usage: bootstrap/preview.sh STACK [more arguments of pulumi preview]. Needs python.sh and pulumi.sh. Called by `make preview`.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
environment
stack=${1:?usage: bootstrap/preview.sh STACK}
shift
cd "$REPO"
lab_plugin "$stack"

"$REPO/bootstrap/stack.sh" "$stack"
exec pulumi preview --policy-pack policies --stack "$stack" "$@"

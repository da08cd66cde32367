#!/usr/bin/env bash
# After a `pulumi up` that was killed: removes its lock and its pending operations, then deploys, which goes on where it stopped.
# Usage: bootstrap/recover.sh STACK. Needs what up.sh needs. Called by `make recover`.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
environment
stack=${1:?usage: bootstrap/recover.sh STACK}
cd "$REPO"

pulumi cancel --yes --stack "$stack"
pulumi refresh --clear-pending-creates --yes --skip-preview --stack "$stack"
took "stack $stack has no lock and nothing pending"
exec "$REPO/bootstrap/up.sh" "$stack"

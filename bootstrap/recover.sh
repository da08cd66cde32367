#!/usr/bin/env bash
# After a `pulumi up` that was killed: removes its lock and its pending operations, then deploys, which goes on where it stopped.
# Where the state itself cannot be read any more, the one before its last change, which Pulumi keeps, comes first.
# Usage: bootstrap/recover.sh STACK. Needs what up.sh needs. Called by `make recover`.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
environment
stack=${1:?usage: bootstrap/recover.sh STACK}
cd "$REPO"

if ! broken=$(pulumi stack export --stack "$stack" 2>&1 >/dev/null); then
  state=${PULUMI_BACKEND_URL#file://}/.pulumi/stacks/glm-fleet/$stack.json
  python3 -m json.tool "$state.bak" >/dev/null 2>&1 ||
    no "the state of $stack cannot be read: ${broken#error: }; and there is no whole $state.bak" "a state that was kept" \
      "an older version of the file from your backend, or \`pulumi stack import --stack $stack --file EXPORT\`"
  cp "$state" "$state.broken"
  cp "$state.bak" "$state"
  say "the state could not be read (${broken#error: }): the one before its last change is in its place, the broken one in $state.broken"
fi
pulumi cancel --yes --stack "$stack"
pulumi refresh --clear-pending-creates --yes --skip-preview --stack "$stack"
took "stack $stack has no lock and nothing pending"
exec "$REPO/bootstrap/up.sh" "$stack"

#!/usr/bin/env bash
# After a `pulumi up` that was killed: removes its lock and its pending operations, then deploys, which goes on where it stopped.
# A state file that is cut off, which stops every command, is first replaced by the newest whole copy that Pulumi kept of it.
# Usage: bootstrap/recover.sh STACK. Needs what up.sh needs. Called by `make recover`.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
environment
stack=${1:?usage: bootstrap/recover.sh STACK}
cd "$REPO"

# The file backend keeps the state before the last save (.bak) and that at the end of each update (history).
bring_back() {
  local backend=${PULUMI_BACKEND_URL#file://}/.pulumi copy
  [ "$PULUMI_BACKEND_URL" = "file://${backend%/.pulumi}" ] ||
    no "the state of $stack in $PULUMI_BACKEND_URL is cut off" "a whole one" "an older version of that object, or: make restore FILE=… OVERWRITE=yes"
  whole=$(mktemp)
  trap 'rm -f "$whole"' EXIT
  while read -r copy; do
    if python3 -c 'import json, sys; kept = json.load(open(sys.argv[1])); json.dump({"version": kept["version"], "deployment": kept["checkpoint"]["latest"]}, open(sys.argv[2], "w"))' "$copy" "$whole" 2>/dev/null; then
      pulumi stack import --stack "$stack" --file "$whole" >/dev/null
      took "the state of $stack was cut off: back to that of $(python3 -c 'import sys, time, os; print(time.strftime("%F %T", time.localtime(os.path.getmtime(sys.argv[1]))))' "$copy"), ${copy#"$backend"/}"
      return
    fi
  done < <(ls -t "$backend/stacks/glm-fleet/$stack.json.bak" "$backend/history/glm-fleet/$stack/"*.checkpoint.json 2>/dev/null)
  no "the state of $stack is cut off, and so is every copy below $backend" "one whole copy" "make restore FILE=… OVERWRITE=yes"
}

pulumi cancel --yes --stack "$stack"
said=$(pulumi stack export --stack "$stack" 2>&1 >/dev/null) || case $said in
  *"failed to load checkpoint"*) bring_back ;;
  *) no "the state of $stack cannot be read: ${said##*error: }" "an answer to \`pulumi stack export\`" "pulumi stack ls" ;;
esac
pulumi refresh --clear-pending-creates --yes --skip-preview --stack "$stack"
took "stack $stack has no lock and nothing pending"
exec "$REPO/bootstrap/up.sh" "$stack"

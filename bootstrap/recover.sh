#!/usr/bin/env bash
# After a killed `pulumi up`: remove its lock and its pending operations, then deploy, which continues where it stopped.
# A truncated state file stops every command; the newest complete copy that Pulumi kept replaces it first.
# Usage: bootstrap/recover.sh STACK. Needs what up.sh needs. Called by `make recover`.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
environment
stack=${1:?usage: bootstrap/recover.sh STACK}
cd "$REPO"
lab_plugin "$stack"

# The file backend keeps the state before the last save (.bak) and at the end of each update (history).
restore_copy() {
  local backend=${PULUMI_BACKEND_URL#file://}/.pulumi copy
  [ "$PULUMI_BACKEND_URL" = "file://${backend%/.pulumi}" ] ||
    no "the state of $stack in $PULUMI_BACKEND_URL is truncated" "a complete state" "restore an older version of that object, or: make restore FILE=… OVERWRITE=yes"
  whole=$(mktemp)
  trap 'rm -f "$whole"' EXIT
  while read -r copy; do
    if python3 -c 'import json, sys; state = json.load(open(sys.argv[1])); json.dump({"version": state["version"], "deployment": state["checkpoint"]["latest"]}, open(sys.argv[2], "w"))' "$copy" "$whole" 2>/dev/null; then
      pulumi stack import --stack "$stack" --file "$whole" >/dev/null
      took "the state of $stack was truncated: restored that of $(python3 -c 'import sys, time, os; print(time.strftime("%F %T", time.localtime(os.path.getmtime(sys.argv[1]))))' "$copy"), ${copy#"$backend"/}"
      return
    fi
  done < <(ls -t "$backend/stacks/glm-fleet/$stack.json.bak" "$backend/history/glm-fleet/$stack/"*.checkpoint.json 2>/dev/null)
  no "the state of $stack is truncated, and so is every copy below $backend" "a complete copy" "make restore FILE=… OVERWRITE=yes"
}

pulumi cancel --yes --stack "$stack"
output=$(pulumi stack export --stack "$stack" 2>&1 >/dev/null) || case $output in
  *"failed to load checkpoint"*) restore_copy ;;
  *) no "the state of $stack cannot be read: ${output##*error: }" "an answer to \`pulumi stack export\`" "pulumi stack ls" ;;
esac
pulumi refresh --clear-pending-creates --yes --skip-preview --stack "$stack"
took "stack $stack has no lock and no pending operation"
exec "$REPO/bootstrap/up.sh" "$stack"

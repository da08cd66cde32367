#!/usr/bin/env bash
# One file with all that brings a stack back on an empty machine, but the passphrase: its state and its stack file with the machines it names.
# Usage: bootstrap/backup.sh STACK [FOLDER]. Needs python.sh and pulumi.sh. Called by `make backup`, and by restore.sh before it overwrites.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=archive.sh
. "$REPO/bootstrap/archive.sh"
environment
stack=${1:?usage: bootstrap/backup.sh STACK [FOLDER]}
folder=$(absolute "${2:-$STATE/backups}")
cd "$REPO"

there=$(standing "$stack")
case $there in
  none) no "there is no stack $stack in $PULUMI_BACKEND_URL" "one that was deployed" "pulumi stack ls" ;;
  broken) no "the state of $stack cannot be read: it is cut off" "a whole one" "make recover STACK=$stack brings back the newest whole copy that Pulumi kept" ;;
esac
work=$(mktemp -d)
part=
trap 'rm -rf "$work" ${part:+"$part"}' EXIT
pulumi stack export --stack "$stack" --file "$work/state.json"
# The machines may have files of their own, which the stack file names.
NAMED='import pathlib, sys; from fleet.stack import stack_file; print(*stack_file.named(sys.argv[1], pathlib.Path()), sep="\n")'
named=$(python -c "$NAMED" "$stack")
while read -r file; do
  mkdir -p "$work/stacks/$(dirname "$file")"
  cp "stacks/$file" "$work/stacks/$file"
done <<<"Pulumi.$stack.yaml${named:+$'\n'$named}"
{
  echo "format $FORMAT"
  echo "stack $stack"
  echo "made $(date -u +%Y-%m-%dT%H:%M:%SZ)"
  echo "commit $(git rev-parse HEAD 2>/dev/null || echo unknown)"
} >"$work/about"
trial "$work" "$stack" ||
  no "what was exported cannot be restored: ${said##*error: }" "a state that Pulumi takes into an empty backend, with the passphrase $PULUMI_CONFIG_PASSPHRASE_FILE" "the stack is untouched, and no backup was written; is it the passphrase of this stack?"

mkdir -p "$folder"
file=$folder/glm-fleet-$stack-$(date -u +%Y%m%d-%H%M%S).tar.gz
part=$file.part
tar --create --gzip --file "$part" --directory "$work" "${MEMBERS[@]}"
sync "$part"
mv "$part" "$file"
part=
took "$file: $(resources "$work/state.json") resources, $(($(wc -c <"$file") / 1024 + 1)) KiB; a trial restored it into an empty backend"
say "  copy it off this machine, and apart from it the passphrase $PULUMI_CONFIG_PASSPHRASE_FILE:"
say "  the passphrase is not in it, and without it the backup is useless. Nor are SSH keys"
say "  make restore FILE=$(printf %q "$file") brings it back"

#!/usr/bin/env bash
# Write one file with everything, except the passphrase, that restores a stack on an empty machine: its state, its stack file, and the files of
# machines that it names. Usage: bootstrap/backup.sh STACK [FOLDER | s3://BUCKET/PREFIX]. Needs python.sh and pulumi.sh. Called by `make backup`,
# by `fleet backup` and its timer, and by restore.sh before it overwrites.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=archive.sh
. "$REPO/bootstrap/archive.sh"
environment
stack=${1:?usage: bootstrap/backup.sh STACK [FOLDER | s3://BUCKET/PREFIX]}
to=${2:-$STATE/backups}
case $to in s3://*) folder=$STATE/backups ;; *) folder=$(absolute "$to") ;; esac
cd "$REPO"

case $(resources_of "$stack") in
  none) no "there is no stack $stack in $PULUMI_BACKEND_URL" "a deployed stack" "pulumi stack ls" ;;
  broken) no "the state of $stack cannot be read: it is truncated" "a complete state" "make recover STACK=$stack restores the newest complete copy that Pulumi kept" ;;
esac
work=$(mktemp -d)
part=
trap 'rm -rf "$work" ${part:+"$part"}' EXIT
pulumi stack export --stack "$stack" --file "$work/state.json"
GOOD='import sys; from fleet.cli import good_states; print(good_states.to_json(good_states.read(sys.argv[1])))'
python -c "$GOOD" "$stack" >"$work/good.json"
# The stack file may name files of machines.
NAMED='import pathlib, sys; from fleet.stack import stack_file; print(*stack_file.machine_files(sys.argv[1], pathlib.Path()), sep="\n")'
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
  no "the exported state cannot be restored: ${output##*error: }" "a state that Pulumi imports into an empty backend with the passphrase $PULUMI_CONFIG_PASSPHRASE_FILE" "check that this is the stack's passphrase; the stack is unchanged, and no backup was written"

mkdir -p "$folder"
file=$folder/glm-fleet-$stack-$(date -u +%Y%m%d-%H%M%S).tar.gz
part=$file.part
tar --create --gzip --file "$part" --directory "$work" "${MEMBERS[@]}"
sync "$part"
mv "$part" "$file"
part=""
size=$(($(wc -c <"$file") / 1024 + 1))
place=$file
case $to in
  s3://*)
    place=$(python -m fleet.cli.object_store put "$file" "$to") || no "the backup is only here: $file" "a copy in $to" "correct what is reported above, then the same command again"
    rm "$file"
    ;;
esac
# `fleet show` reads it: when the last backup was made, of which state, and where it is.
LAST='import sys; from fleet.cli import backup_age; print(backup_age.to_json(*sys.argv[1:]))'
mkdir -p "$STATE/last-backup"
python -c "$LAST" "$(about made "$work")" "$(saved "$work/state.json")" "$place" >"$work/last"
mv "$work/last" "$STATE/last-backup/$stack.json"
took "$place: $(resources "$work/state.json") resources, $size KiB; restored into an empty backend as a trial"
case $to in
  s3://*) say "  keep the passphrase in another place: $PULUMI_CONFIG_PASSPHRASE_FILE" ;;
  *) say "  copy it to another machine, and separately the passphrase $PULUMI_CONFIG_PASSPHRASE_FILE:" ;;
esac
say "  the backup does not contain the passphrase, and is useless without it. It contains no SSH keys either"
say "  make restore FILE=$(paste "$place") restores it"

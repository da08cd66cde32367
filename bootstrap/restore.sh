#!/usr/bin/env bash
# Brings a stack back from a file of backup.sh: its stack file and its state. Nothing is written before a trial in an empty backend has shown
# that the file is whole and the passphrase its own; a failure after it undoes what was written.
# Usage: bootstrap/restore.sh FILE [--overwrite]. Needs python.sh and pulumi.sh. Called by `make restore`.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=archive.sh
. "$REPO/bootstrap/archive.sh"

file=${1:-} overwrite=${2:-}
[ -n "$file" ] || no "no FILE is given" "one that \`make backup\` wrote" "make restore FILE=…"
[ -f "$file" ] || no "there is no file $file" "one that \`make backup\` wrote" "make restore FILE=…"
file=$(absolute "$file")
passphrase=${FLEET_PASSPHRASE_FILE:-$STATE/passphrase}
[ -s "$passphrase" ] || # env.sh would make a new one
  no "there is no passphrase in $passphrase" "the one with which the backup's stack was made" "mkdir -p $(paste "$(dirname "$passphrase")") && install -m 600 THE-KEPT-COPY $(paste "$passphrase")"
work=$(mktemp -d)
undo=
finish() {
  $undo
  rm -rf "$work"
}
trap finish EXIT

tar --extract --gzip --file "$file" --directory "$work" --no-same-owner "${MEMBERS[@]}" 2>"$work/said" ||
  no "$file is cut off, damaged, or no backup: $(grep -m 1 . "$work/said")" "a whole file of \`make backup\`" "take another copy; \`gzip -t\` tells whether it is whole"
[ "$(about format "$work")" = "$FORMAT" ] || no "$file has the format $(about format "$work")" "format $FORMAT" "restore it with the release that made it"
stack=$(about stack "$work")
[[ $stack =~ ^[A-Za-z0-9._-]+$ ]] || no "$file names no stack" "a file of \`make backup\`" "take another copy"
environment
cd "$REPO"
trial "$work" "$stack" || case $said in
  *"incorrect passphrase"*) no "the passphrase in $passphrase does not open this backup of $stack; nothing was written" "the one with which that stack was made" "put the kept copy there, or name it: FLEET_PASSPHRASE_FILE=COPY" ;;
  *) no "Pulumi does not take this backup of $stack; nothing was written: ${said##*error: }" "a state that can be imported" "take another copy" ;;
esac

there=$(standing "$stack")
case $there in
  none | 0) ;;
  *)
    [ "$overwrite" = --overwrite ] ||
      no "the stack $stack is in $PULUMI_BACKEND_URL already, with ${there/broken/a broken state instead of} resources" "no such stack, or leave to replace its state" "make restore FILE=$(paste "$file") OVERWRITE=yes: it makes a backup of what is there first"
    [ "$there" = broken ] || "$REPO/bootstrap/backup.sh" "$stack"
    ;;
esac

mkdir "$work/mine"
files=()
while read -r file; do files+=("${file#./}"); done < <(cd "$work/stacks" && find . -type f)
for file in "${files[@]}"; do
  [ -e "stacks/$file" ] || continue
  mkdir -p "$work/mine/$(dirname "$file")"
  cp -p "stacks/$file" "$work/mine/$file"
done
back() { # as it was before
  local file
  for file in "${files[@]}"; do
    if [ -e "$work/mine/$file" ]; then cp -p "$work/mine/$file" "stacks/$file"; else rm -f "stacks/$file"; fi
  done
  [ "$there" != none ] || pulumi stack rm --yes --force --preserve-config --stack "$stack" >/dev/null 2>&1 || true
  say "undone: the stack file and the backend are as before"
}
undo=back
umask "$UMASK" # a stack file is no secret
for file in "${files[@]}"; do
  mkdir -p "$(dirname "stacks/$file")"
  cp "$work/stacks/$file" "stacks/$file.part"
  mv "stacks/$file.part" "stacks/$file"
done
umask 077
put() { [ "$there" != none ] || pulumi stack init "$stack" --no-select --non-interactive && pulumi stack import --stack "$stack" --file "$work/state.json" --non-interactive; }
said=$(put 2>&1) || no "Pulumi does not take the state of $stack: ${said##*error: }" "the stack in $PULUMI_BACKEND_URL" "mend what it says; then the same command again"
undo=

took "stack $stack is as it was at $(about made "$work"): $(resources "$work/state.json") resources, stack file stacks/Pulumi.$stack.yaml"
for file in "${files[@]}"; do
  [ -e "$work/mine/$file" ] || continue
  ! cmp -s "$work/mine/$file" "stacks/$file" || continue
  kept=$STATE/backups/$(basename "$file")-before-$(date -u +%Y%m%d-%H%M%S)
  mkdir -p "$(dirname "$kept")"
  install -m 600 "$work/mine/$file" "$kept"
  say "  what stood in stacks/$file before is kept: $kept"
done
head=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ "$head" = "$(about commit "$work")" ] || say "  it was made at commit $(about commit "$work"), this is $head: a preview shows what differs"
say "  make preview STACK=$stack: what it shows is what was changed since; with --refresh, on the machines too"

#!/usr/bin/env bash
# Restore a stack from a file of backup.sh: its stack file and its state. A trial in an empty backend first shows that the file is complete and
# the passphrase right; before that nothing is written. A later failure undoes what was written.
# FILE may be s3://BUCKET/PREFIX/NAME. --overwrite replaces an existing state that is not newer than the backup's, --overwrite=older any.
# Usage: bootstrap/restore.sh FILE [--overwrite | --overwrite=older]. Needs python.sh and pulumi.sh. Called by `make restore`.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=archive.sh
. "$REPO/bootstrap/archive.sh"

file=${1:-} overwrite=${2:-}
[ -n "$file" ] || no "no FILE is given" "one that \`make backup\` wrote" "make restore FILE=…"
case $file in
  s3://*) ;;
  *)
    [ -f "$file" ] || no "there is no file $file" "one that \`make backup\` wrote" "make restore FILE=…"
    file=$(absolute "$file")
    ;;
esac
passphrase=${FLEET_PASSPHRASE_FILE:-$STATE/passphrase}
[ -s "$passphrase" ] || # env.sh would make a new one
  no "there is no passphrase in $passphrase" "the passphrase of the backup's stack" "mkdir -p $(paste "$(dirname "$passphrase")") && install -m 600 THE-KEPT-COPY $(paste "$passphrase")"
work=$(mktemp -d)
undo=
finish() {
  $undo
  rm -rf "$work"
}
trap finish EXIT

archive=$file
case $file in
  s3://*)
    environment
    archive=$work/archive
    python -m fleet.cli.object_store get "$file" "$archive" || exit 1
    ;;
esac
extract() {
  tar --extract --gzip --file "$archive" --directory "$work" --no-same-owner "$@" 2>"$work/messages" ||
    no "$file is truncated, damaged, or no backup: $(grep -m 1 . "$work/messages")" "a complete file of \`make backup\`" "use another copy; \`gzip -t\` checks whether it is complete"
}
extract about
format=$(about format "$work")
case $format in
  "$FORMAT") ;;
  2) MEMBERS=(about state.json stacks) ;;
  *) no "$file has the format $format" "format $FORMAT, or 2" "restore it with the release that wrote it" ;;
esac
extract "${MEMBERS[@]}"
stack=$(about stack "$work")
[[ $stack =~ ^[A-Za-z0-9._-]+$ ]] || no "$file names no stack" "a file of \`make backup\`" "use another copy"
environment
cd "$REPO"
trial "$work" "$stack" || case $output in
  *"incorrect passphrase"*) no "the passphrase in $passphrase does not open this backup of $stack; nothing was written" "the passphrase of that stack" "put your copy there, or name it: FLEET_PASSPHRASE_FILE=COPY" ;;
  *) no "Pulumi refuses this backup of $stack; nothing was written: ${output##*error: }" "a state that can be imported" "use another copy" ;;
esac

# as_new FILE OTHER: whether Pulumi wrote the state of the first export not before that of the other; a time that cannot be read is none.
as_new() { python -c 'import datetime, sys; times = map(datetime.datetime.fromisoformat, sys.argv[1:]); sys.exit(next(times) < next(times))' "$(saved "$1")" "$(saved "$2")"; }
current=$(resources_of "$stack")
case $current in
  none | 0) ;;
  *)
    case $overwrite in --overwrite | --overwrite=older) ;; *)
      no "the stack $stack is already in $PULUMI_BACKEND_URL, with ${current/broken/a broken state instead of} resources" "no such stack, or permission to replace its state" "make restore FILE=$(paste "$file") OVERWRITE=yes; it first makes a backup of the current state" ;;
    esac
    if [ "$current" != broken ]; then
      pulumi stack export --stack "$stack" --file "$work/current.json"
      if [ "$overwrite" != --overwrite=older ] && ! as_new "$work/state.json" "$work/current.json"; then
        no "the state of $stack is of $(saved "$work/current.json"), the backup's of $(saved "$work/state.json"): it does not know what was deployed since" "a backup of the present state, or permission to go back to an older one" "make restore FILE=$(paste "$file") OVERWRITE=older; it first makes a backup of the current state"
      fi
      "$REPO/bootstrap/backup.sh" "$stack"
    fi
    ;;
esac

mkdir "$work/before"
files=()
while read -r file; do files+=("${file#./}"); done < <(cd "$work/stacks" && find . -type f)
for file in "${files[@]}"; do
  [ -e "stacks/$file" ] || continue
  mkdir -p "$work/before/$(dirname "$file")"
  cp -p "stacks/$file" "$work/before/$file"
done
undo_files() { # restore the stack file and the backend
  local file
  for file in "${files[@]}"; do
    if [ -e "$work/before/$file" ]; then cp -p "$work/before/$file" "stacks/$file"; else rm -f "stacks/$file"; fi
  done
  [ "$current" != none ] || pulumi stack rm --yes --force --preserve-config --stack "$stack" >/dev/null 2>&1 || true
  say "undone: the stack file and the backend are as before"
}
undo=undo_files
umask "$UMASK" # a stack file is no secret
for file in "${files[@]}"; do
  mkdir -p "$(dirname "stacks/$file")"
  cp "$work/stacks/$file" "stacks/$file.part"
  mv "stacks/$file.part" "stacks/$file"
done
umask 077
put() { [ "$current" != none ] || pulumi stack init "$stack" --no-select --non-interactive && pulumi stack import --stack "$stack" --file "$work/state.json" --non-interactive; }
output=$(put 2>&1) || no "Pulumi refuses the state of $stack: ${output##*error: }" "the stack in $PULUMI_BACKEND_URL" "correct what it reports, then run the same command again"
undo=
if [ -e "$work/good.json" ]; then # the backend has no history of it
  mkdir -p "$STATE/good"
  install -m 600 "$work/good.json" "$STATE/good/$stack.json"
fi

took "stack $stack is as it was at $(about made "$work"): $(resources "$work/state.json") resources, stack file stacks/Pulumi.$stack.yaml"
for file in "${files[@]}"; do
  [ -e "$work/before/$file" ] || continue
  ! cmp -s "$work/before/$file" "stacks/$file" || continue
  copy=$STATE/backups/$(basename "$file")-before-$(date -u +%Y%m%d-%H%M%S)
  mkdir -p "$(dirname "$copy")"
  install -m 600 "$work/before/$file" "$copy"
  say "  the previous stacks/$file is kept: $copy"
done
head=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ "$head" = "$(about commit "$work")" ] || say "  its commit is $(about commit "$work"), this is $head: a preview shows the differences"
say "  make preview STACK=$stack shows what has changed since; with ARGS=--refresh also on the machines"

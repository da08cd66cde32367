#!/usr/bin/env bash
# Make report.md, report.html, report.json and code, its exit code, in out/STACK, or OUT/STACK; fail only where there is no report or it is refused.
# Usage: examples/review.sh STACK --refresh|--no-refresh. Needs `make python pulumi`, FLEET_PASSPHRASE_FILE and PASSPHRASE, its content;
# SSH_KEY for --refresh. Called by the recipes.
set -euo pipefail
stack=${1:?usage: examples/review.sh STACK --refresh|--no-refresh} refresh=${2:?usage: examples/review.sh STACK --refresh|--no-refresh}
umask 077
out=${OUT:-out}/$stack
mkdir -p "$out"
printf %s "$PASSPHRASE" >"$FLEET_PASSPHRASE_FILE"
[ -z "${SSH_KEY:-}" ] || { mkdir -p ~/.ssh && printf '%s\n' "$SSH_KEY" >~/.ssh/id_ed25519; }
unset PASSPHRASE SSH_KEY
eval "$(bootstrap/env.sh)"
code=0
fleet review -s "$stack" "$refresh" --out "$out/report.json" --format markdown >"$out/report.md" || code=$?
echo "$code" >"$out/code"
[ ! -s "$out/report.json" ] || fleet review --read "$out/report.json" --format html >"$out/report.html" || true
case $code in
  0 | 10 | 11 | 12) ;; # nothing to do, safe, a window, destructive: for the reviewer to judge
  *) exit "$code" ;;
esac

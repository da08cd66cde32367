# What a backup is, for backup.sh and restore.sh (sourced by both, after lib.sh): one tar.gz with `about`, `state.json`
# and `stacks/`: the stack file, and the files of machines that it names.
# `state.json` is what `pulumi stack export` gives: its secrets are encrypted with the passphrase, which is not in the backup.
# shellcheck shell=bash disable=SC2034

FORMAT=2
MEMBERS=(about state.json stacks)
UMASK=$(umask)
umask 077

# about NAME FOLDER: one line of the file about.
about() { sed -n "s/^$1 //p" "$2/about"; }

resources() { python3 -c 'import json, sys; print(len(json.load(open(sys.argv[1]))["deployment"].get("resources") or []))' "$1"; }

# trial FOLDER STACK: whether the passphrase of this environment opens what lies in the folder, and Pulumi takes it: all of it is done in an
# empty backend below the folder. What Pulumi said is in $said.
trial() {
  local empty=$1/trial
  local elsewhere=(env "PULUMI_BACKEND_URL=file://$empty/backend" pulumi --non-interactive)
  mkdir -p "$empty/stacks" "$empty/backend"
  printf 'name: glm-fleet\nruntime: python\nstackConfigDir: stacks\n' >"$empty/Pulumi.yaml"
  cp "$1/stacks/Pulumi.$2.yaml" "$empty/stacks/"
  said=$(cd "$empty" && "${elsewhere[@]}" stack init "$2" --no-select 2>&1 &&
    "${elsewhere[@]}" stack import --stack "$2" --file "$1/state.json" 2>&1 &&
    "${elsewhere[@]}" stack export --stack "$2" --show-secrets 2>&1 >/dev/null)
}

# standing STACK: prints how many resources the backend holds of it; `none` where it has no such stack, `broken` where its state cannot be read.
standing() {
  local state said
  state=$(mktemp)
  if said=$(pulumi stack export --stack "$1" --file "$state" 2>&1); then
    resources "$state"
  else
    case $said in
      *"no stack named"*) echo none ;;
      *"failed to load checkpoint"*) echo broken ;;
      *) rm -f "$state"; no "the stack $1 in $PULUMI_BACKEND_URL cannot be read: ${said##*error: }" "an answer to \`pulumi stack export\`" "pulumi stack export --stack $1" ;;
    esac
  fi
  rm -f "$state"
}

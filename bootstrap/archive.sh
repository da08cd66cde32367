# The form of a backup, for backup.sh and restore.sh (both source it after lib.sh): one tar.gz with `about`, `state.json`, `good.json`
# and `stacks/`: the stack file, and the files of machines that it names. `good.json` has the states to which `fleet rollback` can go back; format 2
# was without it.
# `state.json` is the output of `pulumi stack export`: its secrets are encrypted with the passphrase, which is not in the backup.
# shellcheck shell=bash disable=SC2034

FORMAT=3
MEMBERS=(about state.json good.json stacks)
UMASK=$(umask)
umask 077

# about NAME FOLDER: print a value of the file `about`.
about() { sed -n "s/^$1 //p" "$2/about"; }

resources() { python3 -c 'import json, sys; print(len(json.load(open(sys.argv[1]))["deployment"].get("resources") or []))' "$1"; }

# saved FILE: print when Pulumi wrote the state of an export.
saved() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["deployment"]["manifest"]["time"])' "$1"; }

# trial FOLDER STACK: import the folder's state into an empty backend below it. Fails when this environment's passphrase does not open it,
# or when Pulumi refuses it. Pulumi's output is in $output.
trial() {
  local empty=$1/trial
  local elsewhere=(env "PULUMI_BACKEND_URL=file://$empty/backend" pulumi --non-interactive)
  mkdir -p "$empty/stacks" "$empty/backend"
  printf 'name: glm-fleet\nruntime: python\nstackConfigDir: stacks\n' >"$empty/Pulumi.yaml"
  cp "$1/stacks/Pulumi.$2.yaml" "$empty/stacks/"
  output=$(cd "$empty" && "${elsewhere[@]}" stack init "$2" --no-select 2>&1 &&
    "${elsewhere[@]}" stack import --stack "$2" --file "$1/state.json" 2>&1 &&
    "${elsewhere[@]}" stack export --stack "$2" --show-secrets 2>&1 >/dev/null)
}

# resources_of STACK: print the number of its resources in the backend; `none` when the backend has no such stack, `broken` when its state
# cannot be read.
resources_of() {
  local state output
  state=$(mktemp)
  if output=$(pulumi stack export --stack "$1" --file "$state" 2>&1); then
    resources "$state"
  else
    case $output in
      *"no stack named"*) echo none ;;
      *"failed to load checkpoint"*) echo broken ;;
      *) rm -f "$state"; no "the stack $1 in $PULUMI_BACKEND_URL cannot be read: ${output##*error: }" "an answer to \`pulumi stack export\`" "pulumi stack export --stack $1" ;;
    esac
  fi
  rm -f "$state"
}

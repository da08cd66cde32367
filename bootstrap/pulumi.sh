#!/usr/bin/env bash
# Build the Pulumi engine with its Python language host, below one path of the cache (lib.sh: pulumi_home).
# It comes from the Go modules whose hashes are in pulumi/go.sum (pulumi/recipe.sh); go.sh brings Go where it is missing.
# FLEET_PULUMI=path uses the one on PATH instead, when it is new enough: the operator vouches for it. The script downloads nothing without a
# pinned hash: sums of the vendor's archives were not available to pin. Called by the Makefile.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=pulumi/recipe.sh
. "$REPO/bootstrap/pulumi/recipe.sh"

home=$(pulumi_home)
ready() { [ -x "$home/bin/pulumi" ] && [ -x "$home/bin/pulumi-language-python" ]; }
at_least() { printf '%s\n%s\n' "$1" "$2" | sort -VC; }

if ready; then
  say "ready: Pulumi $("$home/bin/pulumi" version | tr -d v), $home/bin"
  exit 0
fi
only_one pulumi
ready && exit 0
rm -rf "$home"
mkdir -p "$home"

from_path() {
  local folder version
  folder=$(command -v pulumi) && folder=$(dirname "$(readlink -f "$folder")") || return 1
  version=$("$folder/pulumi" version 2>/dev/null | tr -d v) || return 1
  at_least "$VERSION" "$version" && [ "${version%%.*}" = 3 ] && [ -x "$folder/pulumi-language-python" ] || return 1
  ln -s "$folder" "$home/bin"
  took "Pulumi $version from PATH"
}

find_go() {
  local go
  go=$("$REPO/bootstrap/go.sh")
  PATH=$(dirname "$go"):$PATH
  say "$("$go" version | awk '{print $3}'), $go"
}

# watched NAME PACKAGE COMMAND...: fetch the package's dependencies, then run the command; report its progress every 15 s.
# The build runs in the foreground, so that ^C reaches it.
watched() {
  local name=$1 package=$2 log=$work/$1.log total
  shift 2
  total=$(go list -deps "$package" 2>"$log" | wc -l) || modules_missing "$name"
  : >"$log"
  while sleep 15; do say "building the $name: $(grep -vc '^go: ' "$log") of $total packages, $((SECONDS - STARTED)) s"; done &
  ticker=$!
  "$@" >"$log" 2>&1 || modules_missing "$name"
  kill "$ticker"
  ticker=
}

modules_missing() {
  tail -n 15 "$work/$1.log" >&2
  no "the $1 could not be built" "a build from exactly the modules of go.sum" "read the lines above; GOPROXY chooses the module proxy"
}

from_modules() {
  local sources=$REPO/bootstrap/pulumi sdk
  work=$home/build
  mkdir -p "$work/tmp" "$home/new"
  export GOMODCACHE=$work/modules GOCACHE=$work/cache GOTMPDIR=$work/tmp
  say "building Pulumi $VERSION from Go modules, once for this user: about 8 minutes of CPU, 3.5 GB of disk while it runs"
  find_go
  cd "$sources"
  watched engine "$ENGINE" compile "$VERSION" "$home/new/pulumi" "$ENGINE"
  sdk=$(go list -m -f '{{.Dir}}' github.com/pulumi/pulumi/sdk/v3)/python
  install -m 755 "$sdk/cmd/pulumi-language-python-exec" "$sdk/dist/pulumi-resource-pulumi-python" "$home/new/"
  cd "$sources/language-host"
  watched host "$LANGUAGE" compile "$HOST" "$home/new/pulumi-language-python" "$LANGUAGE"
  cd "$REPO"
  [ "$("$home/new/pulumi" version)" = "v$VERSION" ] || no "the built Pulumi does not report v$VERSION"
  mv "$home/new" "$home/bin" # only a complete build gets this name
  rm -rf "$work"
  took "built Pulumi $VERSION, kept in $home/bin"
}

clean() {
  [ -z "$ticker" ] || kill "$ticker" 2>/dev/null || true
  rm -rf "$home/build" "$home/new"
  rmdir "$home" 2>/dev/null || true
}
ticker=
trap clean EXIT
case ${FLEET_PULUMI:-build} in
  build)
    ! command -v pulumi >/dev/null || say "FLEET_PULUMI=path uses the pulumi on PATH, if it is $VERSION or newer; without it this script builds Pulumi"
    from_modules
    ;;
  path) from_path || no "PATH has no new enough Pulumi with its Python language host" "Pulumi $VERSION or newer" "install it, or leave FLEET_PULUMI unset to build it" ;;
  *) no "FLEET_PULUMI is $FLEET_PULUMI" "build or path" "leave FLEET_PULUMI unset" ;;
esac

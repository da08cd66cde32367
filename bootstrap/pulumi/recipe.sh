# How the engine and its Python language host are built from the pinned modules beside this file (sourced by ../pulumi.sh).
# Part of the content key: a change here makes a new build. VERSION is the newest pkg/v3 whose zip the module proxy serves; HOST is the last
# sdk/v3 that still carries the language host, which runs under that engine.
# shellcheck shell=bash disable=SC2034
VERSION=3.259.0
HOST=3.79.0

# Exactly go.sum's modules, never another toolchain, no C compiler: the same bytes on every machine.
export GOTOOLCHAIN=local GOWORK=off GOFLAGS='-mod=readonly -buildvcs=false -trimpath -modcacherw' CGO_ENABLED=0
ENGINE=github.com/pulumi/pulumi/pkg/v3/cmd/pulumi
LANGUAGE=github.com/pulumi/pulumi/sdk/v3/python/cmd/pulumi-language-python

compile() { # VERSION OUT PACKAGE, in the folder of the module
  go build -v -ldflags "-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v$1" -o "$2" "$3"
}

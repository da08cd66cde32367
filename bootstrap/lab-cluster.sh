#!/usr/bin/env bash
# Make or remove the Kubernetes cluster of a stack whose context is the lab's, and write into the stack file what only this machine knows:
# the kubeconfig's path and the image's digest. The site's CA goes into lab-ca.pem.
# Usage: bootstrap/lab-cluster.sh up|down STACK. Needs python.sh, pulumi.sh, docker.sh, go.sh. Called by up.sh and down.sh.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
environment
verb=${1:?usage: bootstrap/lab-cluster.sh up|down STACK} stack=${2:?usage: bootstrap/lab-cluster.sh up|down STACK}
cd "$REPO/lab/kubernetes/project"

up() {
  stack_exists "$stack" || pulumi stack init "$stack" --no-select >/dev/null
  pulumi up --yes --skip-preview --suppress-outputs --stack "$stack"
  local kubeconfig image authority
  kubeconfig=$(pulumi stack output kubeconfig --stack "$stack")
  image=$(pulumi stack output image --stack "$stack")
  authority=$(pulumi stack output authority --stack "$stack")
  cd "$REPO"
  cp "$authority" lab-ca.pem
  setting kubernetes.kubeconfig "$kubeconfig"
  setting kubernetes.image "$image"
  took "the cluster of $stack is up: kubectl --kubeconfig $(paste "$kubeconfig") --context glm-fleet-lab"
}

setting() { # PATH VALUE: write a setting of the stack file, unless it has the value
  [ "$(pulumi config get --path "$1" --stack "$stack")" = "$2" ] || pulumi config set --path "$1" "$2" --stack "$stack"
}

down() {
  if stack_exists "$stack"; then
    pulumi destroy --yes --skip-preview --stack "$stack"
    pulumi stack rm --yes --stack "$stack" 2>/dev/null
  fi
  rm -f "$REPO/lab-ca.pem"
  took "the cluster of $stack is down"
}

case $verb in
  up) up ;;
  down) down ;;
  *) no "unknown verb $verb" "up or down" ;;
esac

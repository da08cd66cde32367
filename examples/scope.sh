#!/usr/bin/env bash
# Print the environment in which a commit may be reviewed: fleet-review if it differs from the merge base in stacks/ and docs/ alone, else
# fleet-review-program. Usage: examples/scope.sh COMMIT, in a checkout of the trusted branch that has fetched it. Called by the recipes.
set -euo pipefail
commit=${1:?usage: examples/scope.sh COMMIT}
base=$(git merge-base HEAD "$commit")
if git diff --quiet "$base" "$commit" -- . ':(exclude,top)stacks' ':(exclude,top)docs'; then
  echo fleet-review
else
  echo fleet-review-program
fi

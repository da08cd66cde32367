#!/usr/bin/env bash
# Put a commit's files into a trusted checkout: stacks/ alone, or everything where the environment fleet-review-program has let it through.
# Usage: examples/take.sh COMMIT ENVIRONMENT. Refuses anything in stacks/ but plain files: a link there could name a file of the runner.
# Called by the recipes.
set -euo pipefail
commit=${1:?usage: examples/take.sh COMMIT ENVIRONMENT} environment=${2:?usage: examples/take.sh COMMIT ENVIRONMENT}
if other=$(git ls-tree -r "$commit" -- stacks | grep -v '^100644 blob '); then
  echo "take.sh: no plain file: $other" >&2
  exit 1
fi
case $environment in
  fleet-review) git rm -rq --cached stacks && rm -rf stacks && git checkout -q "$commit" -- stacks ;;
  fleet-review-program) git checkout -q --detach "$commit" ;;
  *) echo "take.sh: no such environment: $environment" >&2; exit 1 ;;
esac

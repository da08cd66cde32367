"""prepare|fetch|finish|all ARGUMENTS of weights_fetcher: one step of a Job that fills a volume with a model, and nothing when it is verified.

The steps are those of the role weights, and each is a container: `fetch`, which reads a hub's answers, can write to one folder only.
`all` is for a volume that one user may fill alone. Called by the Jobs of fleet/program/kubernetes/weights.py.
"""

import pathlib
import sys
from collections.abc import Sequence

from weights_fetcher import fetch, model

STEPS = ("prepare", "fetch", "finish")
HUB = ("--endpoint=", "--parallel=", "--patience=", "--token-file=")  # arguments of `fetch` alone


def ready(words: list[str]) -> bool:
    """Return whether the model is there and verified."""
    options = model.arguments("check").parse_args(["check", *words])
    exclude = [pattern for pattern in options.exclude.split(",") if pattern]
    wanted = model.Model(pathlib.Path(options.dir), options.repository, options.revision)
    return bool(wanted.check(model.read_sums(pathlib.Path(options.manifest)), exclude)["ready"])


def main(step: str, words: list[str]) -> int:
    """Take the steps; return the exit code of the first that fails. A verified model only gets its owner again."""
    own = [word for word in words if not word.startswith(HUB)]
    steps: Sequence[str] = STEPS if step == "all" else (step,)
    if ready(own):
        steps = ("own",) if "finish" in steps else ()
    for name in steps:
        sys.argv = [sys.argv[0], name, *(words if name == "fetch" else own)]  # both programs read their arguments there
        code: int = fetch.main() if name == "fetch" else model.main()
        if code:
            return code
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], sys.argv[2:]))
    except (model.Wrong, OSError) as problem:
        sys.exit(
            f"{problem}\nwanted: a folder for the weights, with enough space\nnext: look at the volume; the Job tries again"
        )

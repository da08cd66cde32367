"""Arguments of weights_fetcher/model.py: exit with 0 when the model is there, as the record of its verification says; else say what is wrong.

The first container of a serving pod (fleet/program/kubernetes/serving.py): it reads sizes and times, no content. Needs the weights' folder.
"""

import pathlib
import sys

from weights_fetcher.model import Model, arguments, read_sums


def main(words: list[str]) -> str:
    """Return what is wrong, "" when nothing is."""
    options = arguments("check").parse_args(["check", *words])
    exclude = [pattern for pattern in options.exclude.split(",") if pattern]
    report = Model(pathlib.Path(options.dir), options.repository, options.revision).check(
        read_sums(pathlib.Path(options.manifest)), exclude
    )
    return "" if report["ready"] else str(report["why"])


if __name__ == "__main__":
    seen = main(sys.argv[1:])
    sys.exit(
        f"{seen}\nwanted: the verified weights in this pod's volume\nnext: delete the Job of this node's weights, if it is complete; `pulumi up --refresh` then makes it again"
        if seen
        else 0
    )

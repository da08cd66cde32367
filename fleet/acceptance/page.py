"""docs/acceptance.md, written from the benchmarks and their thresholds: `make docs`. A test fails when the page is not current.

Usage: python -m fleet.acceptance.page prints the page.
"""

import shlex

from fleet.acceptance import catalogue, evaluate

HEAD = """# Is the machine as fast as it must be?

`fleet accept -s ENV [NODE …]` runs benchmarks on machines whose Host is done, and compares with what {product} with {gpus} GPUs must reach. It is
optional, no part of `pulumi up`. Made by `make docs` from `fleet/acceptance/mi300x.yml`: change it there.

*Not run on hardware yet*: thresholds and commands are AMD's, the forms of the outputs were taken from the programs' sources, and the whole way was
run on a lab node with a stand-in that prints such outputs (`tests/roles/test_acceptance.py`). On an MI300X nobody of this project has run it.

## How

1. An image with the programs below on its PATH (and `sh`), in a registry that the machines reach (or its mirror,
   docs/mirrors.md); ROCm's user space is in the image, not on the host.
   The stack file names it by digest:

        pulumi config set --path 'glm-fleet:acceptance.image' registry.example/rocm-validation@sha256:DIGEST -s ENV

2. GPUs that nobody uses: `state: drain` for the machine, then `pulumi up`. On a machine where a replica runs, or anything else has the GPUs open,
   nothing is measured, and the message says what it is.
3. `fleet accept -s ENV`: about {minutes} minutes a machine at most, as many at once as the stack's `parallel`. Exit code 1 when a machine did not
   pass, 2 when one could not be measured; `--json` for programs. Then the same machine without `state: drain`.

All that the benchmarks print is kept in `.pulumi/evidence/ENV/accept-NODE-TIME.txt`. On the machine nothing stays: each benchmark is a container with
the GPUs, no network and no right but `{options}`, ended after its time; an image that was not there before is removed.

A program that has another name in your image, or needs another argument, gets a command of its own in the stack file, by the benchmark's name:

    glm-fleet:acceptance:
      image: registry.example/rocm-validation@sha256:DIGEST
      commands:
        transferbench-a2a: [/opt/bin/TransferBench, a2a]

| verdict | meaning |
|---|---|
| ok | the figure was read, and it is the threshold or more |
| below | the figure was read, and it is less |
| unreadable | it ended well, and the figure does not stand where it should, or is no number; the end of the output is shown |
| failed | it ended with another exit code than 0 |
| timed out | it did not end in its time |

## Thresholds

Compared with its source on {checked}: {guide}.
"""


def page() -> str:
    """Return the whole page."""
    found = catalogue.load()
    head = HEAD.format(
        **found.holds.model_dump(include={"product", "gpus"}),
        minutes=round(sum(one.timeout for one in found.benchmarks) / 60),
        options=" ".join(found.options),
        checked=found.checked,
        guide=found.guide,
    )
    rows = [
        [
            test.name,
            test.what,
            evaluate.figure(test.at_least, test.unit),
            _counts(test),
            f"{one.name} ({one.tool}, {one.timeout} s)",
            one.source,
        ]
        for one in found.benchmarks
        for test in one.tests
    ]
    titles = ("test", "what", "at least", "which figure counts", "benchmark", "source")
    commands = [f"| {one.name} | `{shlex.join(one.command)}` |" for one in found.benchmarks]
    table = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join([head, *table, "", "## Commands", "", "| benchmark | command |", "|---|---|", *commands, ""])


def _counts(test: catalogue.Test) -> str:
    best = f"the best of {test.best_of} runs" if test.best_of > 1 else "the only one"
    return f"the worst of {test.each} GPUs" + (f", each {best}" if test.best_of > 1 else "") if test.each > 1 else best


if __name__ == "__main__":
    print(page(), end="")

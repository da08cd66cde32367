"""Generate docs/acceptance.md from the benchmarks and their thresholds (`make docs`). A test fails when the page is not current."""

import shlex

from fleet.acceptance import catalogue, evaluate

HEAD = """# Is the machine as fast as it must be?

`fleet accept -s ENV [NODE …]` runs benchmarks on machines whose Host is set up, and compares the figures with the thresholds for {product} with
{gpus} GPUs. It is optional, no part of `pulumi up`. `make docs` generates this page from `fleet/acceptance/mi300x.yml`: change it there.

*Not run on hardware yet.* Thresholds and commands are AMD's. The forms of the outputs are from the programs' sources. A lab node ran the whole
sequence with a stand-in that prints such outputs (`tests/roles/test_acceptance.py`). Nobody in this project has run it on an MI300X.

## How

1. Provide an image with the programs below on its PATH (and `sh`), in a registry that the machines reach (or its mirror,
   docs/mirrors.md). ROCm's user space is in the image, not on the host. The stack file names the image by digest:

        pulumi config set --path 'glm-fleet:acceptance.image' registry.example/rocm-validation@sha256:DIGEST -s ENV

2. Free the GPUs: set `state: drain` for the machine, then `pulumi up`. While a replica runs, or another process has the GPUs open, the command
   measures nothing, and its message names the user of the GPUs.
3. Run `fleet accept -s ENV`. It takes at most about {minutes} minutes per machine, and measures `parallel` (of the stack) machines at once. The exit
   code is 1 when a machine did not pass, 2 when one could not be measured. `--json` is for programs.
4. Remove `state: drain`, then `pulumi up`.

`.pulumi/evidence/ENV/accept-NODE-TIME.txt` has the whole output of the benchmarks. Nothing stays on the machine. Each benchmark is a container with
the GPUs, no network and no right but `{options}`; it stops after its time. An image that was not there before is removed.

When a program has another name in your image, or needs another argument, set its command in the stack file, by the benchmark's name:

    glm-fleet:acceptance:
      image: registry.example/rocm-validation@sha256:DIGEST
      commands:
        transferbench-a2a: [/opt/bin/TransferBench, a2a]

| verdict | meaning |
|---|---|
| ok | the figure is the threshold or more |
| below | the figure is less than the threshold |
| unreadable | the benchmark ended with 0, and the output has no figure in its place, or one that is no number; the message has the end of the output |
| failed | the benchmark ended with another exit code than 0 |
| timed out | the benchmark did not end in its time |

## Thresholds

Compared on {checked} with their source: {guide}.
"""


def page() -> str:
    """Return the whole page."""
    data = catalogue.load()
    head = HEAD.format(
        **data.holds.model_dump(include={"product", "gpus"}),
        minutes=round(sum(benchmark.timeout for benchmark in data.benchmarks) / 60),
        options=" ".join(data.options),
        checked=data.checked,
        guide=data.guide,
    )
    rows = [
        [
            test.name,
            test.what,
            evaluate.figure(test.at_least, test.unit),
            _counts(test),
            f"{benchmark.name} ({benchmark.tool}, {benchmark.timeout} s)",
            benchmark.source,
        ]
        for benchmark in data.benchmarks
        for test in benchmark.tests
    ]
    titles = ("test", "what", "at least", "which figure counts", "benchmark", "source")
    commands = [f"| {benchmark.name} | `{shlex.join(benchmark.command)}` |" for benchmark in data.benchmarks]
    table = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join([head, *table, "", "## Commands", "", "| benchmark | command |", "|---|---|", *commands, ""])


def _counts(test: catalogue.Test) -> str:
    best = f"the best of {test.best_of} runs" if test.best_of > 1 else "the only one"
    return f"the worst of {test.each} GPUs" + (f", each {best}" if test.best_of > 1 else "") if test.each > 1 else best

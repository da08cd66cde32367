"""docs/policies.md, written from the rules and their data: `make docs`. A test fails when the page is not current.

Usage: python -m policies.docs prints the page.
"""

from fleet.stack.rules import models
from policies import data, pack
from policies.rule import Rule
from policies.rules import RULES

HEAD = """# Policies

What may never be deployed. `pulumi preview` and `pulumi up` with `--policy-pack policies` judge every resource by these rules before it is
touched; `make preview` and `make up` do so by themselves. A *mandatory* rule stops the run, an *advisory* one is told. Made by `make docs` from
`policies/`: change it there.

## Waive a rule

A rule can be wrong for a while. The stack file then says which one, why, and until when:

    pulumi config set --path 'glm-fleet:waivers["vllm-cve-floor"].reason' "no image with 0.32.0 yet, ticket 4711" -s ENV
    pulumi config set --path 'glm-fleet:waivers["vllm-cve-floor"].expires' 2026-12-31 -s ENV

The rule is then told as advisory, and every preview repeats the waiver with reason and last day. After that day it does not count, and says
so. A waiver of a rule that does not exist stops the preview.

## Take a machine out, or replace it

Outside the lab, Pulumi protects each machine and what stands on it (`protect`): a preview that would delete or replace one ends with
"cannot be deleted because it is protected", and nothing has happened. Release the machine by name first:

1. `pulumi config set --path 'glm-fleet:release["prod-4"]' "mainboard replaced 2026-11-25" -s ENV`, then `pulumi up -s ENV`: the machine is no
   longer protected, every preview says so, nothing else changes.
2. Take the machine and its `release` out of the stack file, then preview and up: what we put on it is taken off, and it is forgotten.

`pulumi destroy -s ENV` wants each machine of the stack released (step 1) first.

## The rules
"""


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, *(_rule(rule) for rule in RULES), _waivers(), _holes(), _hosts(), _paths()]
    return "\n".join(parts).rstrip() + "\n"


def _rule(rule: Rule) -> str:
    judged = ", ".join(rule.kinds)
    when = ", by what it is when all is done" if rule.at_end else ""
    return (
        f"### {rule.name}\n\n{rule.holds} *{rule.level.capitalize()}; judges {judged}{when}.*\n\n"
        f"- why: {rule.reason}\n- remedy: {rule.remedy}\n- source: {rule.source}\n"
    )


def _waivers() -> str:
    told = [(pack.WAIVERS_KNOWN, "mandatory"), (pack.WAIVERS, "advisory"), (pack.HOLES_RECENT, "advisory")]
    return "\n".join(f"### {name}\n\n{holds} *The stack's own; {level}.*\n" for (name, holds), level in told)


def _holes() -> str:
    rows = [
        f"| {hole.id} | {hole.since if hole.since != '0' else ''} | {hole.fixed} | {hole.only} | {hole.path} | {hole.what} | {hole.source} |"
        for hole in data.holes()
    ]
    return (
        f"## Known holes of vLLM\n\nFor vllm-cve-floor; compared with their advisories on {data.read('cves')['checked']}.\n\n"
        "| id | since | fixed in | only with | through | what | source |\n|---|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def _hosts() -> str:
    pairs = [f"| {one.driver} | {one.build} | {one.rocm} |" for one in data.drivers()]
    systems = [
        f"| {rocm} | {system} | {', '.join(kernels) or 'not judged'} |"
        for rocm, listed in models.read("versions")["systems"].items()
        for system, kernels in listed.items()
    ]
    return (
        "## Driver, ROCm, system and kernel\n\nFor driver-and-rocm-known, system-known and kernel-known; compared with AMD's pages on "
        f"{models.read('versions')['checked']}.\n\n| rocm_driver_release | build | rocm_version |\n|---|---|---|\n"
        + "\n".join(pairs)
        + "\n\n| rocm_version | system | kernels |\n|---|---|---|\n"
        + "\n".join(systems)
        + "\n"
    )


def _paths() -> str:
    rows = [f"| {one.path} | {'yes' if one.below else 'no'} | {one.why} |" for one in data.private()]
    return (
        "## Folders that no media path opens\n\nFor media-path-narrow: a path is refused when it is one of these or above one, and with "
        "*below* also when it is in one.\n\n| folder | below | why |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )


if __name__ == "__main__":
    print(page(), end="")

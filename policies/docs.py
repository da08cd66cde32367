"""Generate docs/policies.md from the rules and their data (`make docs`). A test fails when the page is not current."""

from fleet.stack.rules import models
from policies import data, pack
from policies.rule import ResourceRule
from policies.rules import RULES

HEAD = """# Policies

What may never be deployed. `pulumi preview` and `pulumi up` with `--policy-pack policies` check every resource against these rules before they
change it. `make preview` and `make up` pass that option. A *mandatory* rule stops the run, an *advisory* one only reports. `make docs` generates
this page from `policies/`: change it there.

## Waive a rule

A rule can be wrong for a while. A waiver in the stack file then names the rule, the reason and the last day:

    pulumi config set --path 'glm-fleet:waivers["vllm-cve-floor"].reason' "no image with 0.32.0 yet, ticket 4711" -s ENV
    pulumi config set --path 'glm-fleet:waivers["vllm-cve-floor"].expires' 2026-12-31 -s ENV

The rule is then advisory, and every preview repeats the waiver with its reason and last day. After that day the waiver does not count, and the
preview reports that. A waiver for a rule that does not exist stops the preview.

## Take a machine out, or replace it

Outside the lab, Pulumi protects each machine and its resources (`protect`). A preview that would delete or replace one ends with
"cannot be deleted because it is protected", and changes nothing. Release the machine by name first:

1. `pulumi config set --path 'glm-fleet:release["prod-4"]' "mainboard replaced 2026-11-25" -s ENV`, then `pulumi up -s ENV`. The machine
   is then no longer protected, and every preview reports that. Nothing else changes.
2. Remove the machine and its `release` from the stack file, then preview and up. The teardown removes what this project installed on the
   machine, and the stack forgets it.

To remove the gateway from all machines, release `gateway` the same way, then remove `glm-fleet:gateway` and `glm-fleet:clients`.

On a cluster the same holds for each model, by its name, and for the namespaces with the weights' volumes, by `namespace`.

Before `pulumi destroy -s ENV`, release each machine of the stack (step 1), or each model and `namespace`.

## The rules
"""


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, *(_rule(rule) for rule in RULES), _waivers(), _vulnerabilities(), _hosts(), _paths()]
    return "\n".join(parts).rstrip() + "\n"


def _rule(rule: ResourceRule) -> str:
    kinds = ", ".join(rule.kinds)
    when = ", by their outputs at the end" if rule.at_end else ""
    return (
        f"### {rule.name}\n\n{rule.holds} *{pack.ENFORCEMENT[rule.level].value.capitalize()}; checks {kinds}{when}.*\n\n"
        f"- why: {rule.reason}\n- remedy: {rule.remedy}\n- source: {rule.source}\n"
    )


def _waivers() -> str:
    policies = [(pack.WAIVERS_KNOWN, "mandatory"), (pack.WAIVERS, "advisory"), (pack.RECENT, "advisory")]
    return "\n".join(f"### {name}\n\n{holds} *About the stack itself; {level}.*\n" for (name, holds), level in policies)


def _vulnerabilities() -> str:
    rows = [
        f"| {entry.id} | {entry.since if entry.since != '0' else ''} | {entry.fixed} | {entry.only} | {entry.path} | {entry.what} | {entry.source} |"
        for entry in data.vulnerabilities()
    ]
    return (
        f"## Known vulnerabilities of vLLM\n\nFor vllm-cve-floor; last compared with their advisories on {data.read('cves')['checked']}.\n\n"
        "| id | since | fixed in | only with | through | what | source |\n|---|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def _hosts() -> str:
    pairs = [f"| {pair.driver} | {pair.build} | {pair.rocm} |" for pair in data.drivers()]
    systems = [
        f"| {rocm} | {system} | {', '.join(kernels) or 'not checked'} |"
        for rocm, listed in models.read("versions")["systems"].items()
        for system, kernels in listed.items()
    ]
    return (
        "## Driver, ROCm, system and kernel\n\nFor driver-and-rocm-known, system-known and kernel-known; last compared with AMD's pages on "
        f"{models.read('versions')['checked']}.\n\n| rocm_driver_release | build | rocm_version |\n|---|---|---|\n"
        + "\n".join(pairs)
        + "\n\n| rocm_version | system | kernels |\n|---|---|---|\n"
        + "\n".join(systems)
        + "\n"
    )


def _paths() -> str:
    rows = [f"| {entry.path} | {'yes' if entry.below else 'no'} | {entry.why} |" for entry in data.private()]
    return (
        "## Folders that no media path opens\n\nFor media-path-narrow. It refuses a path that is one of these or above one and, with "
        "*below*, a path in one.\n\n| folder | below | why |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )

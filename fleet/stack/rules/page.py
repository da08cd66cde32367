"""Generate docs/rules.md from the rules and their data (`make docs`). A test fails when the page is not current."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fleet.stack import rules
from fleet.stack.rules import models

HEAD = """# Rules of a stack file

The rules need only a stack file, and no connection. `pulumi preview -s ENV` and `fleet plan -s ENV` check every machine's variables with them. An
*error* stops the preview; every preview shows a *warning*. `fleet plan -s ENV` also draws the plan: the GPUs of each replica, the memory of each GPU,
the space for requests. The policies check what needs the deployed resources (`docs/policies.md`). `make docs` generates this page from
`fleet/stack/rules/`: change it there.

## Waive a rule

A rule can be wrong for a stack, for a while. A waiver in the stack file then names the rule, the reason and the last day:

    pulumi config set --path 'glm-fleet:waivers["weights-fit"].reason' "measured on our own MI300X, ticket 4711" -s ENV
    pulumi config set --path 'glm-fleet:waivers["weights-fit"].expires' 2026-12-31 -s ENV

The finding is then a warning, with reason and last day, and every preview repeats it. After that day it is an error again, and the message says that
the waiver has expired.

## Which model fits
"""
RANKS = (1, 2, 4, 8)
CONTEXT = 65536  # tokens, as in vLLM's recipe for the model
# The flags of vLLM's recipe; the table varies model and ranks.
RECIPE: Mapping[str, Any] = {
    "max-model-len": CONTEXT,
    "tool-call-parser": "glm45",
    "reasoning-parser": "glm45",
    "enable-auto-tool-choice": True,
    "mm-encoder-tp-mode": "data",
    "mm-processor-cache-type": "shm",
}


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, _fits(), "## The rules\n", *map(_rule, (*rules.RULES, *rules.UNLESS_SUPPLIED)), _versions()]
    return "\n".join(parts).rstrip() + "\n"


def _rule(rule: rules.Rule) -> str:
    return f"### {rule.name}\n\n{rule.holds} *{rule.level.capitalize()}.*\n\n- why: {rule.reason}\n- source: {rule.source}\n"


def _fits() -> str:
    facts = models.read("models")
    rows = [_row(repository, ranks) for repository in models.shapes() for ranks in RANKS]
    intro = (
        f"On {facts['gpu']['name']} ({facts['gpu']['memory'] / 1e9:.0f} GB a GPU, {models.UTILIZATION:.0%} of it used), with the recipe's "
        f"flags and at most {CONTEXT:,} tokens a request. *Own*: activations, graphs and buffers, an estimate that is not yet measured "
        f"on this hardware. Facts of {facts['checked']}.\n\n"
    )
    head = (
        "weights",
        "GPUs a replica",
        "passes",
        "weights a GPU",
        "own",
        "cache",
        "tokens",
        "full requests at once",
        "replicas on 8 GPUs",
    )
    return intro + _table(head, rows)


def _row(repository: str, ranks: int) -> list[str]:
    replica = {"name": "glm-0", "port": 8000, "gpus": list(range(ranks))}
    moe = models.shapes()[repository].experts > 0
    flags = {**RECIPE, "tensor-parallel-size": ranks, **({"enable-expert-parallel": True} if moe else {})}
    plan = rules.MachinePlan(
        {
            "weights_repository": repository,
            "vllm_flags": flags,
            "vllm_environment": {"VLLM_ROCM_USE_AITER": "1"},
            "vllm_shm_size": "32g",
            "vllm_replicas": [replica],
        },
        gpus=8,
    )
    findings = [(rule, finding) for rule in rules.RULES for finding in rule.check(plan)]
    stops = [f"no: {finding.seen} ({rule.name})" for rule, finding in findings if rule.level == "error"]
    warns = [f"yes; {finding.seen} ({rule.name})" for rule, finding in findings if rule.level == "warning"]
    room = plan.room
    assert room is not None, "RECIPE and data/models.yml must give the memory that a model needs"
    figures = [f"{size / 1e9:.0f} GB" for size in (room.weights, room.reserve, max(0, room.cache))]
    tokens = [f"{max(0, room.tokens):,}", f"{max(0, room.tokens) / CONTEXT:.1f}"]
    return [
        repository,
        str(ranks),
        *(stops or warns or ["yes"])[:1],
        *figures,
        *tokens,
        str(0 if stops else 8 // ranks),
    ]


def _versions() -> str:
    facts = models.read("versions")
    parts = [
        f"## What works together\n\nCompared with its sources on {facts['checked']} (`fleet/stack/rules/data/versions.yml`); driver, systems and "
        "kernels are in `docs/policies.md`.\n",
        _table(
            ("vLLM", "with this model", "source"),
            [[_span(entry), entry["what"], entry["source"]] for entry in facts["vllm"]],
        ),
        _table(
            ("vLLM", "asks for transformers", "what to do"),
            [[_span(entry), entry["asks"], entry["do"]] for entry in facts["transformers"]],
        ),
        _table(
            ("base image", "its own entrypoint", "maintained"),
            [
                [image["family"], image["entrypoint"], "yes" if image["maintained"] else "no"]
                for image in facts["images"]
            ],
        ),
        _table(
            ("ROCm", "firmware of the GPUs (PLDM bundle)"),
            [[rocm, ", ".join(bundles)] for rocm, bundles in facts["firmware"].items()],
        ),
    ]
    return "\n".join(parts)


def _span(entry: Mapping[str, Any]) -> str:
    """Return the versions of an entry in words."""
    since, fixed = entry.get("since"), entry.get("fixed")
    return " and ".join([*([f"{since} or newer"] if since else []), *([f"before {fixed}"] if fixed else [])])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def lines() -> Iterator[str]:
        for row in (head, ["---"] * len(head), *rows):
            yield f"| {' | '.join(row)} |\n"

    return "".join(lines())

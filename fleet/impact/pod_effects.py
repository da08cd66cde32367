"""Predicts what a change of a model's Rollout does to its pods, and how many serve at the worst moment.

Pure. Called by fleet.provider.rollout in a preview. A pod is never changed: Kubernetes replaces it, one after the other.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fleet.drift import Difference
from fleet.impact import value_diff
from fleet.impact.effects import Effect

# Inputs that are not in a pod, with the words for a change of each.
BESIDE = {
    "probes": "the probes changed: they run again",
    "deadline": "the time for a change is another one",
    "cluster": "the cluster is reached by another context",
    "selector": "the labels of the GPU nodes changed",
}


def predict(olds: Sequence[Mapping[str, Any]], new: Mapping[str, Any], drift: Sequence[Difference]) -> list[Effect]:
    """Return the effects, the strongest first. `olds` are the old inputs and the state, which differ after a failed update.

    `running` of the state is the template that the pods have: after a failure the one before.
    """
    latest = olds[-1]
    running = str(latest.get("running") or "")
    olds = [old for old in olds if old.get("template") == running] or olds
    reasons = list(dict.fromkeys(reason for old in olds for reason in _reasons(old, new)))
    before, after = _replicas(latest), _replicas(new)
    effects = []
    if any((running or old.get("template")) != new.get("template") for old in olds):
        kept = min(before, after)
        why = reasons or ["the template of its pods changed"]
        effects.append(Effect("restart", (_pods(kept),), tuple(why), manner=manner(kept, int(new.get("surge") or 0))))
    elif reasons:
        effects.append(Effect("none", (), tuple(reasons)))
    elif running and latest.get("template") != running:
        effects.append(Effect("none", (), ("its pods have this template already: the probes run again",)))
    if before != after:
        effects.append(_scaled(before, after))
    beside = [words for name, words in BESIDE.items() if any(old.get(name) != new.get(name) for old in olds)]
    if drift:
        effects.append(Effect("await", (), tuple(map(str, drift))))
    return [*effects, *([Effect("none", (), tuple(beside))] if beside else [])]


def manner(replicas: int, surge: int) -> str:
    """Return how Kubernetes replaces the pods, and how many serve at the worst moment."""
    if surge:
        at_once = "one at a time" if surge == 1 or replicas < 2 else f"{min(surge, replicas)} at a time"
        return f"{at_once}, after its successor serves; capacity stays {replicas} of {replicas}"
    if replicas < 2:
        return "capacity at worst 0 of 1: nothing serves meanwhile"
    return f"one at a time; capacity at worst {replicas - 1} of {replicas}"


def _reasons(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield the changes of what the stack says about the pods."""
    before, after = old.get("vars") or {}, new.get("vars") or {}
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield from value_diff.leaves(name, before.get(name), after.get(name))
    if old.get("image") != new.get("image"):
        yield f"image {_digest(old.get('image'))} -> {_digest(new.get('image'))}"
    if old.get("gpus") != new.get("gpus"):
        yield f"GPUs of a pod {old.get('gpus')} -> {new.get('gpus')}"
    if "api_key" in new and old.get("api_key") != new["api_key"]:
        yield "the API key changed"


def _scaled(before: int, after: int) -> Effect:
    number = abs(after - before)
    words = f"{before} -> {after}"
    return Effect("start" if after > before else "stop", (_pods(number),), (), manner=f"replicas {words}")


def _pods(number: int) -> str:
    return f"{number} pod{'' if number == 1 else 's'}"


def _replicas(inputs: Mapping[str, Any]) -> int:
    return int(inputs.get("replicas") or 0)


def _digest(image: Any) -> str:
    return str(image or "unset").rpartition("sha256:")[2][:12]

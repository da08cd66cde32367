"""What a preview says about a model's pods: which restart, one after the other, how many serve at the worst moment, and why."""

from pathlib import Path
from typing import Any

import pytest

from fleet.drift import Difference
from fleet.impact import effects, forecast, pod_effects
from fleet.impact.forecast import Change

GOLDEN = Path(__file__).parent / "golden" / "impact_pod_effects" / "effects.txt"
OLD: dict[str, Any] = {
    "template": "one",
    "replicas": 2,
    "surge": 0,
    "gpus": 4,
    "image": "registry.example/glm/serving@sha256:" + "a" * 64,
    "vars": {"vllm_flags": {"max-model-len": 65536, "tensor-parallel-size": 4}},
    "probes": {"digest": "1"},
    "api_key": "old",
    "deadline": 3600,
}
FLAG = {"template": "two", "vars": {"vllm_flags": {"max-model-len": 32768, "tensor-parallel-size": 4}}}
STATE = {**OLD, "running": "one", "good": {"template": "one"}}

# Claim → the changed inputs, the state, the drift.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[Difference]]] = {
    "a flag": (FLAG, STATE, []),
    "a flag, with a pod to spare": ({**FLAG, "surge": 1}, {**STATE, "surge": 1}, []),
    "a flag of a model with one pod": ({**FLAG, "replicas": 1}, {**STATE, "replicas": 1}, []),
    "the API key": ({"template": "two", "api_key": "new"}, STATE, []),
    "the image": ({"template": "two", "image": "registry.example/glm/serving@sha256:" + "b" * 64}, STATE, []),
    "something of the program": ({"template": "two"}, STATE, []),
    "more pods": ({"replicas": 3}, STATE, []),
    "fewer pods and a flag": ({**FLAG, "replicas": 1}, STATE, []),
    "a variable that no pod has": ({"vars": {**OLD["vars"], "vllm_start_timeout": 900}}, STATE, []),
    "the probes": ({"probes": {"digest": "2"}}, STATE, []),
    "the same again after it failed and went back": (FLAG, {**STATE, **FLAG}, []),
    "back to the template that runs after a failure": ({}, {**STATE, **FLAG}, []),
    "the same again after it failed without a way back": (FLAG, {**STATE, **FLAG, "running": ""}, []),
    "a pod that does not serve": ({}, STATE, [Difference("deployment", "glm", "pods", 2, 1)]),
    "nothing": ({}, STATE, []),
}


def told(claim: str) -> str:
    news, state, drift = CASES[claim]
    old_inputs = {name: state[name] if claim.startswith("a flag") else OLD[name] for name in OLD}
    planned = pod_effects.predict((old_inputs, state), {**old_inputs, **news}, drift)
    own = [f"  {effects.in_words(effect, 'glm')}" for effect in planned]
    lines = [f"  {line}" for line in forecast.lines([Change("glm", effect, 240.0) for effect in planned], 4)]
    return "\n".join([f"{claim}:", *own, "  --", *lines])


def test_each_change_is_told_in_words() -> None:
    text = "\n\n".join(map(told, CASES)) + "\n"
    assert text == GOLDEN.read_text()


@pytest.mark.parametrize(("replicas", "surge", "worst"), [(2, 0, "1 of 2"), (1, 0, "0 of 1"), (5, 2, "5 of 5")])
def test_the_capacity_is_that_of_the_worst_moment(replicas: int, surge: int, worst: str) -> None:
    assert worst in pod_effects.manner(replicas, surge)

"""A Serving as the Pulumi engine knows it: its inputs, the outputs of its last update, and changes of the inputs. Data for diffs and previews."""

from typing import Any

from tests.support.plugin import Props

NODE = {"name": "prod-3", "address": "192.0.2.3", "port": 22}
INPUTS = {
    "node": NODE,
    "roles": {"vllm": "1  tasks/main.yml\n2  templates/unit.j2", "long_task": "1  tasks/main.yml"},
    "vars": {
        "vllm_flags": {"max-model-len": 65536, "seed": 0},
        "vllm_replicas": [{"name": "glm-0", "port": 8000}, {"name": "glm-1", "port": 8001}],
        "vllm_image": "registry.example/a@sha256:00",
    },
    "api_key": "0123456789",
}
OUTPUTS = {
    "managed": {"declared": {"file /etc/x": True}, "expected": {}},
    "drift": [],
    "seconds": {"vllm": 1.5},
    "took": {"new": 1.5},
    "log": "a.log",
    "replicas": [],
    "verdict": {"passed": 12, "total": 12},
}


def changed(*path: Any, to: Any) -> Props:
    """Return INPUTS with another value at a path; None removes it."""

    def put(value: Any, keys: tuple[Any, ...]) -> Any:
        if not keys:
            return to
        if isinstance(value, list):
            return [put(item, keys[1:]) if at == keys[0] else item for at, item in enumerate(value)]
        new = {**value, keys[0]: put(value.get(keys[0]), keys[1:])}
        return {key: item for key, item in new.items() if item is not None}

    return put(INPUTS, path)

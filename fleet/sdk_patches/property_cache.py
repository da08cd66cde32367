"""Read a resource's properties once for all rules of the policy pack.

Works around: Pulumi's policy library reads them again for each rule. With twenty rules that is two thirds of the pack's work for a stack
of 1,000 machines. All rules then get the same object, which none of them changes.
Upstream: no upstream issue found as of 2026-11-29.
Delete it when test_the_library_reads_a_resource_again_for_each_rule of tests/unit/test_sdk_patches_property_cache.py fails; pack.py uses
`latest`, too.
Applied by policies/__main__.py, in the pack's own process.
"""

import functools
import threading
import types
from collections import deque
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format
from pulumi_policy import policy
from pulumi_policy.deserialize import deserialize_properties
from pulumi_policy.proxy import unknown_checking_proxy

SIZE = 4  # a thread works on one resource and its provider, each as a message and as the object made from it


def latest(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` with a cache of its latest results on each thread, by the identity of its first argument."""
    local = threading.local()

    @functools.wraps(function)
    def cached(argument: Any, *options: Any) -> Any:
        results = local.__dict__.setdefault("results", deque(maxlen=SIZE))
        for old_argument, old_options, result in results:
            if old_argument is argument and old_options == options:
                return result
        result = function(argument, *options)
        results.append((argument, options, result))
        return result

    return cached


def apply() -> None:
    """Let the library read each resource once, from now on."""
    for name, replacement in (
        ("json_format", types.SimpleNamespace(MessageToDict=latest(json_format.MessageToDict))),
        ("deserialize_properties", latest(deserialize_properties)),
        ("unknown_checking_proxy", latest(unknown_checking_proxy)),
    ):
        setattr(policy, name, replacement)

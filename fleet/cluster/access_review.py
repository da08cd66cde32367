"""What the credentials of a context may do in a namespace, as the API server says it (SelfSubjectRulesReview), against what is needed.

Anybody may ask that about himself. Called by fleet.preflight.cluster.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fleet.cluster.client import Cluster
from fleet.cluster.forms import WORDS
from fleet.validators import Each, Flag, Record

PATH = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
LIST = Each(WORDS, most=10_000)
RULE = Record({"verbs": LIST}, {"apiGroups": LIST, "resources": LIST, "resourceNames": LIST}, open=True)
STATUS = Record({"resourceRules": Each(RULE, most=10_000)}, {"incomplete": Flag()}, open=True)
REVIEW = Record({"status": STATUS}, open=True)
Rule = Mapping[str, Any]


def given(cluster: Cluster, namespace: str) -> Sequence[Rule]:
    """Return the rules of this account in a namespace, which need not exist. Raises FleetError."""
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
    review = cluster.send("ask what this account may do", "POST", PATH, body, REVIEW)
    rules: Sequence[Rule] = review["status"]["resourceRules"]
    return rules


def missing(wanted: Iterable[Rule], rules: Sequence[Rule]) -> list[str]:
    """Return what is wanted and not given, as `patch deployments.apps`."""
    lacking: dict[str, list[str]] = {}
    for rule in wanted:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for name in rule.get("resourceNames") or ("",):
                    thing = ".".join(filter(None, (resource, group))) + (f" {name}" if name else "")
                    for verb in rule["verbs"]:
                        if not any(_covers(each, verb, group, resource, name) for each in rules):
                            lacking.setdefault(thing, []).append(verb)
    return [f"{', '.join(verbs)} {thing}" for thing, verbs in lacking.items()]


def _covers(rule: Rule, verb: str, group: str, resource: str, name: str) -> bool:
    parts = (("verbs", verb), ("apiGroups", group), ("resources", resource))
    names = rule.get("resourceNames") or ()
    return all({"*", value} & set(rule.get(part) or ()) for part, value in parts) and (not names or name in names)

"""`fleet drill`: what it refuses, what it deploys meanwhile, what its report says. Pulumi and the nodes are stand-ins."""

import base64
import copy
import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet import errors, findings
from fleet.cli import drill_identity, drill_report
from fleet.cli.drill_report import Report, Same
from fleet.stack import drill_draft, role_vars, settings, stack_file, validate

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden" / "cli_drill"
TODAY = datetime.date(2026, 11, 30)
BUDGETS = {"rebuild": 900.0, "vllm": 240.0, "total": 1200.0}


def prod() -> dict[str, Any]:
    """Return the content of the stack file prod, with the plain keys that a draft must keep."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "stacks" / "Pulumi.prod.yaml").read_text())
    content["config"]["glm-fleet:vllm_api_key"] = {"secure": "v1:abc"}
    return {**content, "encryptionsalt": "v1:V9QR"}


def loaded(content: dict[str, Any], folder: Path) -> settings.Settings:
    """Return the settings of a stack file's content."""
    (folder / "stacks").mkdir(exist_ok=True)
    (folder / "stacks" / "Pulumi.prod.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return stack_file.read("prod", folder)


def report(**more: Any) -> Report:
    phases = {
        "drain": 12.0,
        "teardown": 61.0,
        "rebuild": 812.4,
        "host": 40.0,
        "vllm": 190.0,
        "verify": 9.0,
        "total": 894.6,
    }
    same = [Same(what="host key", before="ab12", after="ab12"), Same(what="image", before="cd34", after="cd34")]
    began = datetime.datetime(2026, 11, 30, 10, 0, tzinfo=datetime.UTC)
    values = {"stack": "prod", "node": "prod-3", "began": began, "commit": "12ab34cd56ef", "phases": phases}
    return Report(**{**values, "budgets": BUDGETS, "same": same, **more})


def on(day: int, **phases: float) -> Report:
    """Return an earlier drill."""
    began = datetime.datetime(2026, 10, day, tzinfo=datetime.UTC)
    return report(began=began, phases={**report().phases, **phases})


def slow() -> Report:
    return report(phases={**report().phases, "vllm": 310.0, "total": 1304.0})


# --- what it deploys meanwhile


def test_a_fleet_without_the_node_is_one_that_a_preview_accepts(tmp_path: Path) -> None:
    content = prod()
    before = copy.deepcopy(content)
    stack = loaded(drill_draft.absent(content, "prod-2", {}, TODAY), tmp_path)
    assert content == before
    assert stack.present == ["prod-1", "prod-3", "prod-4"] and stack.release == {"prod-2": drill_draft.WHY}
    assert stack.gateway and stack.gateway.nodes == ["prod-1"]
    waiver = stack.waiver("gateways-in-production")
    assert waiver and (waiver.expires - TODAY).days == 1
    roles = role_vars.load(ROOT / "roles")
    today = findings.today()
    assert not validate.validate(stack, roles, "stacks/Pulumi.prod.yaml", today).mistakes


def test_the_other_keys_and_the_secrets_stay(tmp_path: Path) -> None:
    content = prod()
    draft = drill_draft.absent(content, "prod-2", {}, TODAY)
    changed = {drill_draft.NODES, drill_draft.RELEASE, drill_draft.GATEWAY, drill_draft.WAIVERS}
    assert {key: value for key, value in draft["config"].items() if key not in changed} == {
        key: value for key, value in content["config"].items() if key not in changed
    }
    assert draft["encryptionsalt"] == "v1:V9QR"


def test_machines_of_a_separate_file_are_in_the_draft() -> None:
    content = prod()
    machines = content["config"][drill_draft.NODES]["machines"]
    content["config"][drill_draft.NODES]["machines"] = "machines.yaml"
    draft = drill_draft.absent(content, "prod-2", {"machines.yaml": machines}, TODAY)
    there = draft["config"][drill_draft.NODES]["machines"]
    assert there["prod-2"]["state"] == "absent" and "state" not in machines["prod-2"]


def test_a_machine_is_released_before_it_is_absent(tmp_path: Path) -> None:
    stack = loaded(drill_draft.released(prod(), "prod-3"), tmp_path)
    assert not stack.protected("prod-3") and "prod-3" in stack.present


def refused(node: str, folder: Path, change: Any = None) -> str:
    content = prod()
    if change:
        change(content["config"])
    with pytest.raises(errors.FleetError) as caught:
        drill_draft.refuse(loaded(content, folder), node)
    return str(caught.value)


def alone(config: dict[str, Any]) -> None:
    machines = config[drill_draft.NODES]["machines"]
    config[drill_draft.NODES]["machines"] = {"prod-1": machines["prod-1"]}
    del config[drill_draft.GATEWAY]


def members(config: dict[str, Any]) -> None:
    for key in (drill_draft.GATEWAY, "glm-fleet:clients", "glm-fleet:acceptance"):
        config.pop(key, None)
    config["glm-fleet:cluster"] = {"control_planes": ["prod-1"]}


def one_gateway(config: dict[str, Any]) -> None:
    config[drill_draft.GATEWAY]["nodes"] = ["prod-2"]


def test_a_drill_that_would_end_the_service_is_refused(tmp_path: Path) -> None:
    texts = [
        refused("prod-33", tmp_path),
        refused("prod-1", tmp_path),
        refused("prod-1", tmp_path, alone),
        refused("prod-2", tmp_path, one_gateway),
        refused("prod-2", tmp_path, lambda config: config.update({"glm-fleet:review": {"signers": "reviewers"}})),
        refused("prod-2", tmp_path, members),
    ]
    assert "\n".join([*texts, ""]) == (GOLDEN / "refused.txt").read_text()
    drill_draft.refuse(loaded(prod(), tmp_path), "prod-2")


# --- what it compares


def resources(**serving: Any) -> dict[str, dict[str, dict[str, Any]]]:
    file = {"type": "file", "mode": "0644", "sha256": "ab" * 32, "keyed_sha256": "1"}
    expected = {"file /etc/systemd/system/glm-0.service": file, "unit glm-0.service": {"state": "active", "pid": "7"}}
    managed = {"declared": {"unit glm-0.service": True, "file /x": True}, "expected": {**expected, **serving}}
    return {
        "Node": {"prod-3": {"connection": {"host_key": "ssh-ed25519 AAAA"}}},
        "Weights": {"prod-3": {"revision": "ab" * 20, "manifest": "cd" * 32, "path": "/models/a"}},
        "Serving": {
            "prod-3": {"image": "r/x@sha256:" + "ef" * 32, "replicas": [{"name": "glm-0"}], "managed": managed}
        },
    }


def test_an_equal_rebuild_has_the_same_words_and_another_file_or_key_has_not() -> None:
    before = drill_identity.of(resources(), "prod-3", made=False)
    assert all(each.holds for each in drill_identity.compare(before, before))
    other_process = resources(**{"unit glm-0.service": {"state": "active", "pid": "8"}})
    assert drill_identity.of(other_process, "prod-3", made=False) == before
    other_file = resources(**{"file /etc/fleet/glm-0/config.yaml": {"type": "file", "sha256": "00" * 32}})
    after = drill_identity.of(other_file, "prod-3", made=False)
    assert [each.what for each in drill_identity.compare(before, after) if not each.holds] == ["files of Serving"]
    other_key = resources()
    other_key["Node"]["prod-3"]["connection"]["host_key"] = "ssh-ed25519 BBBB"
    after = drill_identity.of(other_key, "prod-3", made=False)
    assert [each.what for each in drill_identity.compare(before, after) if not each.holds] == ["host key"]
    made = [drill_identity.of(each, "prod-3", made=True)["host key"] for each in (resources(), other_key)]
    assert made == ["of its source"] * 2, "a machine that is made again has a new key"


def printed(sums: dict[str, str], time: int, unit: str) -> str:
    """Return what a node prints whose weights were fetched at that time."""
    record = json.dumps({"files": {name: {"sha256": value, "mtime_ns": time} for name, value in sums.items()}})
    return "".join(f"{base64.b64encode(text.encode()).decode()}\n" for text in (record, unit))


def test_weights_that_were_fetched_again_are_the_same_and_another_file_or_unit_is_not() -> None:
    sums, unit = {"model.safetensors": "ab" * 32}, "# weights {}\n[Service]\nUser=vllm\n"
    old, new = resources(), resources()
    new["Weights"]["prod-3"]["manifest"] = "ef" * 32

    def words(known: dict[str, Any], text: str) -> dict[str, str]:
        return drill_identity.on_node(known, "prod-3", text)

    before = words(old, printed(sums, 1, unit.format("cd" * 32)))
    assert all(before.values()) and before == words(new, printed(sums, 2, unit.format("ef" * 32)))
    other_file = words(new, printed({"model.safetensors": "ac" * 32}, 2, unit.format("ef" * 32)))
    assert [what for what in before if other_file[what] != before[what]] == ["files of the weights"]
    other_unit = words(new, printed(sums, 2, unit.format("ef" * 32).replace("vllm", "root")))
    assert [what for what in before if other_unit[what] != before[what]] == ["text of the replicas' units"]


@pytest.mark.parametrize("text", ["", "\n\n", "e30=\n", "no base64\n!\n", printed({"a": "another form"}, 1, "")])
def test_what_a_node_prints_in_another_form_is_not_there(text: str) -> None:
    assert set(drill_identity.on_node(resources(), "prod-3", text).values()) == {""}


def test_a_node_that_is_gone_is_not_as_before() -> None:
    before = drill_identity.of(resources(), "prod-3", made=False)
    words = {name: word for name, word in before.items() if word != "none"}
    gone = drill_identity.of({}, "prod-3", made=False)
    assert words and not any(each.holds for each in drill_identity.compare(words, gone))


def test_the_units_of_a_node_are_those_of_its_replicas() -> None:
    assert drill_identity.units(resources(), "prod-3") == ["glm-0.service"]


# --- what it reports


@pytest.mark.parametrize(
    ("name", "drill", "before"),
    [
        ("passed", report(), [on(1)]),
        ("first", report(budgets={}), []),
        ("too-slow", slow(), [on(1), on(2, vllm=250.0), on(9, vllm=305.0, total=1290.0)]),
        ("not-as-before", report(same=[Same(what="image", before="ab", after="cd")]), [on(1)]),
        (
            "stopped",
            report(error="prod-3: rebuild: `pulumi up` ended with 255", phases={"drain": 1.0}, same=[]),
            [on(1)],
        ),
    ],
)
def test_the_report(name: str, drill: Report, before: list[Report]) -> None:
    assert drill_report.markdown(drill, before) == (GOLDEN / f"{name}.md").read_text()
    assert drill.passed == (name in ("passed", "first"))


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ([], "no earlier drill to compare with"),
        ([on(1)], "190 s on 2026-10-01, over it since this drill"),
        ([on(1, vllm=300.0), on(2, vllm=301.0)], "over it in each drill since 2026-10-01"),
        (
            [on(1), on(2, vllm=300.0), on(3), on(5, vllm=280.0), on(6, vllm=300.0)],
            "190 s on 2026-10-03, over it since 2026-10-05",
        ),
    ],
)
def test_a_broken_budget_says_since_when_the_phase_grew(before: list[Report], words: str) -> None:
    assert drill_report.since("vllm", slow(), before) == words


def test_reports_are_kept_and_read_again_and_what_is_none_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_STATE", str(tmp_path))
    for each in (slow(), on(3), report(node="prod-33"), on(5).model_copy(update={"error": "it stopped"})):
        page = drill_report.write(each, [])
        assert json.loads(page.with_suffix(".json").read_text())["node"] == each.node
    (drill_report.folder("prod") / "prod-3-x.json").write_text("{")
    assert drill_report.earlier("prod", "prod-3") == [on(3), slow()]


def test_a_budget_of_no_phase_is_refused(tmp_path: Path) -> None:
    content = prod()
    content["config"]["glm-fleet:drill"] = {"budgets": {"vlm": 10}}
    with pytest.raises(errors.SettingsError, match="drill"):
        loaded(content, tmp_path)

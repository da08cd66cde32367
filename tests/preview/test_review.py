"""`fleet review` and `fleet apply` with the real Pulumi engine: what a report has is what happens, and nothing else is let through.

The stack prod is deployed with a stand-in plugin: imaginary machines, which log what is done to them.
Needs `pulumi` and `ssh-keygen` on PATH; skipped with that reason where they are not.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.review import report
from tests.support.environment import expect_failure, expect_success
from tests.support.pulumi_project import FLAG, Fleet
from tests.support.signers import make_key, make_signer, sign

NAMES = ["prod-1", "prod-2", "prod-3", "prod-4"]
KERNEL = "glm-fleet:nodes.machines.prod-3.vars.host_kernel_arguments[0]"
UP = ("up", "--yes", "--skip-preview")
STOPPED = {"Serving prod-2": {"state": "inactive"}}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The stack, deployed; only reports that one of the signers has signed change it."""
    fleet = Fleet(tmp_path_factory.mktemp("review"))
    expect_success(fleet.run(*UP))
    make_signer(fleet.project, "alice")
    make_key(fleet.project, "mallory")
    fleet.set("glm-fleet:review.signers", "signers")
    fleet.as_deployed = fleet.file.read_text()
    return fleet


@pytest.fixture
def fleet(deployed: Fleet) -> Iterator[Fleet]:
    """The deployed stack with an empty log; the end of the test restores its file and its machines."""
    log(deployed)
    yield deployed
    deployed.file.write_text(deployed.as_deployed)
    deployed.machines()


def log(fleet: Fleet) -> list[str]:
    """Return what was done to the machines since the last call."""
    file = fleet.project / "state" / "runs.log"
    lines = file.read_text().splitlines()
    file.write_text("")
    return lines


def review(fleet: Fleet, verdict: str, *arguments: str) -> tuple[Path, dict[str, Any]]:
    """Return the file of a new report, and the report, which must have this verdict."""
    file = fleet.project / "report.json"
    run = fleet.verb("review", "--out", str(file), *arguments)
    code = report.EXIT_CODES[verdict]
    expect_failure(run, code) if code else expect_success(run)
    content: dict[str, Any] = json.loads(file.read_text())
    assert content["verdict"] == verdict
    return file, content


def test_new_weights_show_where_their_folder_will_be(fleet: Fleet) -> None:
    """Only their run tells the folder; what it is written into is known but for that."""
    fleet.set("glm-fleet:vars.weights_revision", "0123456789abcdef0123456789abcdef01234567")
    _, content = review(fleet, report.WINDOW)
    lines = {file["path"]: file["lines"] for file in content["prediction"]["files"]}
    assert "+model: (known later)" in lines["/etc/fleet/vllm/config.yaml"]


def test_a_moved_fact_refuses_a_signed_report_with_the_diff_and_touches_nothing(fleet: Fleet) -> None:
    fleet.set(FLAG, "32768")
    file, content = review(fleet, report.WINDOW)
    sign(fleet.project / "alice", file)
    fleet.machines(drift=STOPPED)
    refusal = expect_failure(fleet.command("apply", str(file)), 14)
    assert refusal == (
        "approved by alice@example.com\n"
        f"apply {file}: it is another change now; nothing was touched\n"
        "    prod-2: Serving: no longer: restarts glm-0, glm-1 on it: vllm_flags.max-model-len 65536 -> 32768 in its turn\n"
        "    prod-2: Serving: now: restarts glm-0, glm-1 on it: vllm_flags.max-model-len 65536 -> 32768; "
        "unit glm-0.service (state inactive, wanted state active) in its turn\n"
        "    prod-2: Serving: drifted since: unit glm-0.service (state inactive, wanted state active)\n"
        f"  wanted: effects {content['effects_digest']} from facts {content['facts_digest']}\n"
        f"  next:   `fleet review -s prod --against {file} --out NEW`, approve that, then `fleet apply NEW`\n"
    )
    assert log(fleet) == []


def test_a_change_of_intent_after_the_signature_is_refused(fleet: Fleet) -> None:
    fleet.set(FLAG, "32768")
    file, _ = review(fleet, report.WINDOW)
    sign(fleet.project / "alice", file)
    fleet.set(FLAG, "16384")
    refusal = expect_failure(fleet.command("apply", str(file)), 14)
    assert "max-model-len 65536 -> 16384 in its turn" in refusal and "the stack file is another one" in refusal
    assert log(fleet) == []


def test_who_has_not_signed_exactly_this_report_applies_nothing(fleet: Fleet) -> None:
    fleet.set(FLAG, "32768")
    file, _ = review(fleet, report.WINDOW)
    Path(f"{file}.sig").unlink(missing_ok=True)
    assert f"no signature {file}.sig" in expect_failure(fleet.command("apply", str(file)), 1)
    sign(fleet.project / "mallory", file)
    assert "signed by somebody else" in expect_failure(fleet.command("apply", str(file)), 1)
    sign(fleet.project / "alice", file)
    file.write_text(file.read_text().replace('"hosts": true', '"hosts": false'))
    assert "alice@example.com signed another text" in expect_failure(fleet.command("apply", str(file)), 1)
    assert log(fleet) == []


def test_without_a_report_the_provider_changes_nothing(fleet: Fleet) -> None:
    fleet.set(FLAG, "32768")
    output = expect_failure(fleet.run(*UP, "--continue-on-error"))
    assert "prod-1: apply what was approved: Serving: update, and no report was approved" in output
    assert log(fleet) == []


def test_what_moves_while_the_update_runs_is_refused_by_the_provider(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.set(FLAG, "32768")
    file, _ = review(fleet, report.WINDOW)
    fleet.machines(drift=STOPPED)
    from tests.support import pulumi_project

    environment = {**pulumi_project.environment_of(fleet.project / "state"), "FLEET_APPROVED_REPORT": str(file)}
    monkeypatch.setattr(pulumi_project, "environment_of", lambda _: environment)
    output = expect_failure(fleet.run(*UP, "--refresh", "--continue-on-error"))
    assert "prod-2: apply what was approved: Serving: its state moved since the report" in output
    assert [line for line in log(fleet) if "prod-2" in line] == []


def test_a_policy_s_refusal_is_the_verdict(fleet: Fleet) -> None:
    fleet.set("glm-fleet:vars.vllm_ptrace", "true")
    file, content = review(fleet, report.REFUSED)
    assert [remark["rule"] for remark in content["remarks"] if remark["mandatory"]] == ["no-ptrace"]
    sign(fleet.project / "alice", file)
    assert "a policy or a failure refused this change" in expect_failure(fleet.command("apply", str(file)), 1)


def test_no_secret_is_in_a_report(fleet: Fleet) -> None:
    fleet.set(FLAG, "32768")
    file, _ = review(fleet, report.WINDOW)
    from tests.support.pulumi_project import KEY

    assert KEY not in file.read_text()


def test_what_a_signed_report_has_is_what_happens_and_then_there_is_nothing_to_do(fleet: Fleet) -> None:
    """The last test of the file: it changes the stack."""
    fleet.set(FLAG, "8192")  # of no earlier test: the provider let some nodes change there
    fleet.set(KERNEL, "amd_iommu=on")
    file, content = review(fleet, report.WINDOW)
    assert content["nodes"]["reboot"] == 1 and content["nodes"]["restart"] == 3
    changes = content["prediction"]["changes"]
    sign(fleet.project / "alice", file)
    expect_success(fleet.command("apply", str(file)))
    done = log(fleet)
    drained = sorted({line.removeprefix("drain ") for line in done if line.startswith("drain ")})
    assert drained == sorted({change["node"] for change in changes if change["in_turn"]})
    begun = {tuple(line.split()[:2]) for line in done if line.endswith(" begins")}
    assert begun == {(change["kind"], change["node"]) for change in changes}
    _, content = review(fleet, report.NOTHING)
    assert content["operations"] == []

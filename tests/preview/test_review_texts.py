"""The reports that docs/review.md shows, made by `fleet review` and the real Pulumi engine: tests/preview/golden/review has the texts.

Twelve imaginary machines behind two gateways; the last one has a BMC, which answers. Needs `pulumi` and `ssh-keygen` on PATH.
The steps go on where the one before stopped. FLEET_GOLDEN=write writes the texts.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet.review import report
from tests.support.environment import expect_failure, expect_success
from tests.support.pulumi_project import FLAG, Fleet, pulumi
from tests.support.redfish_machine import USER, WORD, Machine
from tests.support.signers import make_signer, sign

GOLDEN = Path(__file__).parent / "golden" / "review"
BARE = "prod-12"
VARS = "glm-fleet:vars"
UP = ("up", "--yes", "--skip-preview")
# What differs from run to run.
OWN = ((r"(effects|facts) [0-9a-f]{16}", r"\1 0123456789abcdef"), (r"commit [0-9a-f]{12}", "commit 0123456789ab"))
SCRATCH = re.compile(r"[^ ]*/report\.json")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, bare: Machine) -> Fleet:
    """The stack, deployed."""
    fleet = Fleet(tmp_path_factory.mktemp("texts"))
    stack = yaml.safe_load(fleet.file.read_text())
    config = stack["config"]
    pool = config["glm-fleet:nodes"]
    key = pool["machines"]["prod-1"]["host_key"]
    pool["machines"] = {f"prod-{number}": {"address": f"192.0.2.{number}", "host_key": key} for number in range(1, 12)}
    config["glm-fleet:nodes"] = [pool, bare.pool(BARE, gpus=8)]
    config["glm-fleet:gateway"] = {"nodes": ["prod-1", "prod-2"], "name": "glm.example.com"}
    config["glm-fleet:waivers"] = {"vllm-cve-floor": {"reason": "no image yet, ticket 4711", "expires": "2099-12-31"}}
    fleet.file.write_text(yaml.safe_dump(stack))
    for name, word in (("redfish_username", USER), ("redfish_password", WORD)):
        expect_success(pulumi(fleet.project, "config", "set", "--secret", name, word, "-s", "prod"))
    expect_success(fleet.run(*UP))
    make_signer(fleet.project, "alice")
    fleet.set("glm-fleet:review.signers", "signers")
    expect_success(fleet.run(*UP))
    return fleet


def expect_golden(claim: str, text: str) -> None:
    """Compare a text, less what differs from run to run, with the golden one."""
    for own, stand_in in OWN:
        text = re.sub(own, stand_in, text)
    file = GOLDEN / claim
    if os.environ.get("FLEET_GOLDEN") == "write":
        file.write_text(text)
    assert text == file.read_text()


def review(fleet: Fleet, verdict: str, *options: str) -> str:
    """Return the report as Markdown; it must have this verdict."""
    run = fleet.verb("review", *options)
    code = report.EXIT_CODES[verdict]
    return expect_failure(run, code) if code else expect_success(run)


def test_nothing_to_do(fleet: Fleet) -> None:
    expect_golden("nothing-to-do.md", review(fleet, report.NOTHING))


def test_a_flag_on_twelve_nodes_and_drift(fleet: Fleet) -> None:
    fleet.machines(drift={"Serving prod-3": {"state": "inactive"}})
    fleet.set(FLAG, "32768")
    expect_golden("a-flag-on-12-nodes.md", review(fleet, report.WINDOW))
    fleet.machines()


def test_a_signed_report_after_the_world_moved(fleet: Fleet) -> None:
    file = fleet.project / "report.json"
    review(fleet, report.WINDOW, "--out", str(file))
    sign(fleet.project / "alice", file)
    fleet.machines(drift={"Serving prod-2": {"state": "inactive"}, "Host prod-9": {"arguments": []}})
    refusal = expect_failure(fleet.command("apply", str(file)), 14)
    expect_golden("a-signed-report-after-the-world-moved.txt", SCRATCH.sub("report.json", refusal))
    against = review(fleet, report.WINDOW, "--against", str(file)).partition("<details>")[0]
    expect_golden("a-report-against-an-earlier-one.md", against)
    fleet.machines()


def test_a_driver_with_reboots_and_a_replacement(fleet: Fleet) -> None:
    fleet.set(FLAG, "65536")
    changes: dict[str, Any] = {
        "rocm_driver_release": "30.30.4",
        "rocm_version": "7.2.4",
        "transformers_base_vllm": "0.32.0",
        "transformers_base_image": f"registry.example/vllm/vllm-openai-rocm@sha256:{'7' * 64}",
    }
    for name, value in changes.items():
        fleet.set(f"{VARS}.{name}", value)
    place = f"glm-fleet:nodes[1].machines.{BARE}"
    expect_success(pulumi(fleet.project, "config", "rm", "--path", f"{place}.host_key", "-s", "prod"))
    fleet.set(f"{place}.reinstall", "new-disks")
    fleet.set(f"glm-fleet:release.{BARE}", "new disks")
    expect_golden("a-driver-with-reboots-and-a-replacement.md", review(fleet, report.DESTRUCTIVE))

"""`fleet accept`: which machines it takes, what the playbook gets, what it prints and keeps, how it ends. No machine is needed: a test gives a run's result."""

import json
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import testing

from fleet import errors
from fleet.acceptance import catalogue
from fleet.ansible import converge
from fleet.cli import accept as run
from fleet.cli import main
from fleet.managed import managed_set
from tests.support.benchmark_samples import ALL, sample, with_figure
from tests.support.programs import put_pulumi_on_path

GOLDEN = Path(__file__).parent / "golden" / "cli_accept"
ROOT = Path(__file__).parents[2]
IMAGE = "registry.example/rocm-validation@sha256:" + "ab" * 32
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJc0gWgNv9qpDwo4fLNLD9T/Vupb4qMp3hGdhvI5GoUO"


def state() -> dict[str, Any]:
    """Return a stack as `pulumi stack export` prints it: three hosts are complete, the run of prod-4's failed."""

    def host(node: str, gpus: int | None) -> dict[str, Any]:
        urn = f"urn:pulumi:prod::glm-fleet::fleet:index:Node$fleet:index:Host::{node}"
        connection = {"name": node, "address": "192.0.2.11", "port": 22, "host_key": KEY}
        return {"urn": urn, "type": "fleet:index:Host", "outputs": {"node": connection, "gpus": gpus}}

    hosts = [host("prod-10", 8), host("prod-2", 8), host("prod-1", 8), host("prod-4", None)]
    return {"deployment": {"resources": hosts}}


def benchmark_results(**changes: str) -> dict[str, Any]:
    """Return the results of all benchmarks on a machine that passes, with other outputs of some."""
    outputs = {name: sample(benchmark) for name, benchmark in ALL.items()}
    outputs |= {name.replace("_", "-"): text for name, text in changes.items()}
    return {name: {"rc": 0, "seconds": 61.4, "timed_out": False, "output": text} for name, text in outputs.items()}


Answer = dict[str, Any] | errors.FleetError


class Site:
    """A project in its own folder, with a `pulumi` that prints the state; `answers` holds the result of the run on each machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: dict[str, Answer] = {}
        self.jobs: list[converge.Job] = []
        self.configure(image=IMAGE)

    def configure(self, **acceptance: Any) -> None:
        stack = yaml.safe_load((ROOT / "stacks" / "Pulumi.prod.yaml").read_text())
        stack["config"] |= {"glm-fleet:acceptance": acceptance, "glm-fleet:parallel": 2}
        (self.folder / "stacks").mkdir(exist_ok=True)
        (self.folder / "Pulumi.yaml").touch()
        (self.folder / "stacks" / "Pulumi.prod.yaml").write_text(yaml.safe_dump(stack))

    def converge(
        self, job: converge.Job, note: Callable[[converge.Note], None], cancelled: threading.Event
    ) -> converge.Outcome:
        self.jobs.append(job)
        note(converge.Note("work: transferbench-a2a, 1 of 6: GPU 00"))
        answer = self.answers.get(job.target.name, {"ran": benchmark_results(), "stays": []})
        if isinstance(answer, errors.FleetError):
            raise answer
        return converge.Outcome({"fleet_acceptance": answer}, managed_set.Declared({}), 0, 0, {})

    def accept(self, *arguments: str) -> testing.Result:
        return testing.CliRunner().invoke(main.main, ["accept", "-s", "prod", *arguments])

    @property
    def evidence(self) -> list[Path]:
        return sorted((self.folder / "state" / "evidence" / "prod").glob("*"))

    def readable(self, text: str) -> str:
        """Return a report without the folder of the test, and without times."""
        return re.sub(r"\d{8}-\d{6}", "TIME", text.replace(str(self.folder / "state"), ".pulumi"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    put_pulumi_on_path(tmp_path, state(), monkeypatch)
    monkeypatch.setenv("FLEET_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    site = Site(tmp_path)
    monkeypatch.setattr(converge, "converge", site.converge)
    return site


def test_machines_that_pass_give_a_table_and_exit_code_0(site: Site) -> None:
    result = site.accept("prod-1", "prod-10")
    assert (result.exit_code, result.stdout) == (0, (GOLDEN / "passed.txt").read_text())


def test_the_report_says_what_to_do_about_each_test_that_is_not_ok(site: Site) -> None:
    results = benchmark_results(
        transferbench_a2a=with_figure("a2a", "32.899"), babelstream=with_figure("stream-copy", "4177284.9", 6)
    )
    results["rccl-all-reduce"] |= {"rc": 127, "seconds": 0.4, "output": "sh: all_reduce_perf: not found\n"}
    results["rocblas-fp32"] |= {"rc": None, "timed_out": True, "output": "rocBLAS info: maximum library size\n"}
    results["rocblas-bf16"]["output"] = "another form, 151218\n"
    del results["transferbench-p2p"]
    site.answers["prod-2"] = {"ran": results, "stays": ["the image is used by container other"]}
    site.answers["prod-10"] = errors.ConvergeFailed(
        node="prod-10",
        doing="Check that no replica runs",
        seen="glm-0.service runs on these GPUs",
        next="`state: drain`",
    )
    result = site.accept()
    assert (result.exit_code, site.readable(result.stdout)) == (1, (GOLDEN / "not-passed.txt").read_text())


def test_a_machine_without_a_measurement_gives_exit_code_2(site: Site) -> None:
    site.answers["prod-2"] = errors.Unreachable(node="prod-2", doing="connect", seen="no answer")
    result = site.accept()
    assert result.exit_code == 2
    assert [line for line in result.stdout.splitlines() if "could not" in line] == [
        "prod-2   -                   -               -               could not measure"
    ]
    assert len(site.evidence) == 2


def test_json_has_every_measurement(site: Site) -> None:
    first, *_ = json.loads(site.accept("--json").stdout)
    assert (first["node"], first["error"], first["evidence"]) == ("prod-1", "", str(site.evidence[0]))
    measurement = {"test": "a2a", "unit": "GB/s", "at_least": 32.9, "state": "ok", "measured": 34.718, "seen": ""}
    assert first["verdicts"][0] == measurement


def test_the_evidence_has_everything_that_the_benchmarks_print(site: Site) -> None:
    site.accept("prod-2")
    (file,) = site.evidence
    assert re.fullmatch(r"accept-prod-2-\d{8}-\d{6}\.txt", file.name)
    evidence = file.read_text()
    assert f"image {IMAGE}" in evidence and f"thresholds of {catalogue.load().checked} for 8 MI300X" in evidence
    for name, benchmark in ALL.items():
        assert f"===== {name}: " in evidence and sample(benchmark) in evidence


def test_the_playbook_gets_image_commands_timeouts_and_a_timeout_for_all(site: Site) -> None:
    site.configure(image=IMAGE, commands={"transferbench-a2a": ["/opt/bin/TransferBench", "a2a"]})
    site.accept("prod-1")
    (job,) = site.jobs
    assert job.playbook.name == "acceptance.yml" and job.playbook.exists()
    assert job.variables["acceptance_image"] == IMAGE
    first, second, *_ = job.variables["acceptance_benchmarks"]
    assert first == {"name": "transferbench-a2a", "command": ["/opt/bin/TransferBench", "a2a"], "timeout": 600}
    assert second["command"] == ["TransferBench", "p2p"]
    assert job.variables["acceptance_holds"] == {"product": "MI300X", "gpus": 8, "devices": [0x74A1, 0x74B5]}
    assert job.timeout > sum(benchmark.timeout for benchmark in ALL.values())


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        ({"ran": []}, "ran: list"),
        ({"ran": {"transferbench-a2a": {"rc": "0"}}}, "ran['transferbench-a2a'].rc: 0"),
        ({"stays": "\x1b[2J"}, "stays: \\x1b[2J"),
        ([], ""),
    ],
)
def test_an_answer_in_another_form_is_an_error_of_that_machine_only(site: Site, answer: Any, seen: str) -> None:
    site.answers["prod-1"] = answer
    first, *others = run.accept(nodes("prod-1", "prod-2"), 2, lambda text: None)
    assert first.error.startswith(f"prod-1: read what the benchmarks printed: {seen}") if seen else not first.error
    assert all(report.passed for report in others)


@pytest.mark.parametrize(
    ("name", "next_step"), [("prod-4", "`pulumi up -s prod` sets it up"), ("prod-11", "did you mean prod-1?")]
)
def test_a_machine_that_is_not_set_up_is_refused_with_the_names_of_the_others(
    site: Site, name: str, next_step: str
) -> None:
    result = site.accept(name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.output == (
        f"{name}: accept: no machine of this stack whose Host is done\n"
        f"  wanted: prod-1, prod-2, prod-10\n  next:   {next_step}\n"
    )


@pytest.mark.parametrize("image", ["", "registry.example/rocm-validation:latest"])
def test_without_an_image_by_digest_nothing_begins(site: Site, image: str) -> None:
    site.configure(image=image)
    result = site.accept()
    assert (result.exit_code, site.jobs) == (2, [])
    assert "wanted: an image with the benchmarks, by digest" in result.output
    assert "pulumi config set --path 'glm-fleet:acceptance.image' REPOSITORY@sha256:DIGEST -s prod" in result.output


def nodes(*names: str) -> list[run.Candidate]:
    hosts = {name: {"gpus": 8, "node": {"name": name, "address": "192.0.2.11", "host_key": KEY}} for name in names}
    return run.candidates("prod", hosts, (), IMAGE, catalogue.load())


def test_accept_measures_as_many_machines_at_once_as_the_stack_allows(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, most, lock = 0, 0, threading.Barrier(2, timeout=5)

    def measure(job: converge.Job, note: Any, cancelled: threading.Event) -> converge.Outcome:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        lock.wait()
        at_once -= 1
        lock.wait()
        return site.converge(job, note, cancelled)

    monkeypatch.setattr(converge, "converge", measure)
    reports = run.accept(nodes("a", "b", "c", "d"), 2, lambda text: None)
    assert (most, [report.node for report in reports]) == (2, ["a", "b", "c", "d"])
    assert all(report.passed for report in reports)


def test_progress_is_a_line_for_all_at_work_and_one_for_each_that_ends(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    def measure(job: converge.Job, note: Any, cancelled: threading.Event) -> converge.Outcome:
        outcome = site.converge(job, note, cancelled)
        while not any("0 of 1 done; a: work: transferbench-a2a, 1 of 6: GPU 00" in line for line in lines):
            cancelled.wait(0.01)
        return outcome

    monkeypatch.setattr(converge, "converge", measure)
    run.accept(nodes("a"), 4, lines.append, every=0.01)
    assert "a: 7 of 7 tests passed" in lines


@pytest.mark.parametrize(
    ("at_work", "line"),
    [
        ({}, "0 of 9 done"),
        ({"a": "x"}, "0 of 9 done; a: x"),
        (dict.fromkeys("abcde", "x"), "0 of 9 done; a: x; b: x; c: x; and 2 more"),
    ],
)
def test_progress_names_three_machines_at_work(at_work: Mapping[str, str], line: str) -> None:
    assert run.progress_line(at_work, 0, 9) == line


def test_an_interrupt_ends_the_work_on_each_machine_and_begins_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines: list[str] = []

    def measure(job: converge.Job, note: Any, cancelled: threading.Event) -> converge.Outcome:
        machines.append(job.target.name)
        assert cancelled.wait(5)
        raise errors.Cancelled(node=job.target.name, doing="accept", seen="cancelled")

    def interrupt(line: str) -> None:
        if "done" in line:
            raise KeyboardInterrupt

    monkeypatch.setattr(converge, "converge", measure)
    with pytest.raises(KeyboardInterrupt):
        run.accept(nodes("a", "b", "c"), 2, interrupt, every=0.05)
    assert sorted(machines) == ["a", "b"]

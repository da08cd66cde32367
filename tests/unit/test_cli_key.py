"""`fleet key` prints a new key once, alone on stdout; the stack file gets only its SHA-256, and every other line is unchanged."""

import hashlib
import re
import stat
from pathlib import Path

import pytest
import yaml
from click import testing

from fleet import errors
from fleet.cli import main, stack_entries
from fleet.stack import stack_file

GOLDEN = Path(__file__).parent / "golden" / "cli_key"
STACK = """\
# Our machines.
config:
  glm-fleet:nodes:
    source: ssh
    machines:
      prod-1: {address: 192.0.2.11, host_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJc0gWgNv9qpDwo4fLNLD9T/Vupb4qMp3hGdhvI5GoUO"}
  # the one endpoint
  glm-fleet:gateway:
    nodes: [prod-1] # soon two
    name: glm.example.com

  # at once
  glm-fleet:parallel: "4"
encryptionsalt: v1:V9QR:v1:6K+j:qrb6
"""
LAST = "    name: glm.example.com\n"
# As `pulumi config set --path` writes them.
BY_PULUMI = """\
  glm-fleet:clients:
    team-a:
      concurrent: 3
      sha256: {a}
    # of the batch jobs
    team-b:
      sha256: {b}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stack file `prod` with a gateway and no client."""
    (tmp_path / "Pulumi.yaml").touch()
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "stacks" / "Pulumi.prod.yaml"
    path.parent.mkdir()
    path.write_text(STACK)
    path.chmod(0o640)
    return path


def run(*arguments: str, code: int = 0) -> testing.Result:
    """Run `fleet key VERB -s prod …`, which must end with this code."""
    verb, *more = arguments
    result = testing.CliRunner().invoke(main.main, ["key", verb, "-s", "prod", *more])
    assert result.exit_code == code, result.output
    return result


def clients(file: Path) -> dict[str, dict[str, object]]:
    """Return the clients of the stack file."""
    return dict(yaml.safe_load(file.read_text())["config"].get("glm-fleet:clients") or {})


def test_a_new_key_is_alone_on_stdout_and_its_digest_alone_in_the_file(file: Path) -> None:
    result = run("add", "team-a")
    key = result.stdout.removesuffix("\n")
    assert re.fullmatch(r"glm-[A-Za-z0-9_-]{43}", key), "256 bits, and one line"
    assert clients(file) == {"team-a": {"sha256": hashlib.sha256(key.encode()).hexdigest()}}
    assert key not in file.read_text() and key not in result.stderr
    assert result.stderr == (GOLDEN / "added.txt").read_text()
    assert stack_file.read("prod", file.parents[1]).clients["team-a"].requests_per_minute == 600
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_every_other_line_is_unchanged_and_the_last_client_takes_the_key_with_it(file: Path) -> None:
    run("add", "team-a")
    run("add", "team-b", "--concurrent", "3", "--requests-per-minute", "60", "--megabytes-per-minute", "10")
    lines = file.read_text().partition(LAST)[2].splitlines()
    assert [re.sub(r"[0-9a-f]{64}", "DIGEST", line) for line in lines[:3]] == [
        "  glm-fleet:clients:",
        '    team-a: {sha256: "DIGEST"}',
        '    team-b: {sha256: "DIGEST", requests_per_minute: 60, megabytes_per_minute: 10, concurrent: 3}',
    ]
    assert run("remove", "team-a").stderr == (GOLDEN / "removed.txt").read_text()
    assert [*clients(file)] == ["team-b"]
    run("remove", "team-b")
    assert file.read_text() == STACK


def test_two_keys_are_never_the_same(file: Path) -> None:
    assert len({run("add", f"team-{number}").stdout for number in range(8)}) == 8


def test_clients_that_pulumi_wrote_keep_their_lines_and_comments(file: Path) -> None:
    text = BY_PULUMI.format(a="ab" * 32, b="cd" * 32)
    file.write_text(STACK.replace(LAST, LAST + text))
    run("add", "team-c")
    run("remove", "team-a")
    after = text.replace(text[text.index("    team-a") : text.index("    # of")], "")
    added = file.read_text().partition(after)[2].splitlines()[0]
    assert added.startswith("    team-c: {") and [*clients(file)] == ["team-b", "team-c"]


def test_list_shows_the_clients_with_their_limits_and_no_key(file: Path) -> None:
    assert run("list").stderr == (GOLDEN / "no-clients.txt").read_text()
    file.write_text(STACK.replace(LAST, LAST + BY_PULUMI.format(a="ab" * 32, b="cd" * 32)))
    assert run("list").stdout == (GOLDEN / "list.txt").read_text()


@pytest.mark.parametrize(
    ("claim", "arguments"),
    [
        ("a-name-that-is-taken", ["add", "team-a"]),
        ("a-name-in-capitals", ["add", "Team"]),
        ("a-limit-that-is-too-high", ["add", "team-c", "--concurrent", "20000"]),
        ("an-unknown-name", ["remove", "teem-a"]),
    ],
)
def test_a_mistake_is_refused_and_the_file_stays(file: Path, claim: str, arguments: list[str]) -> None:
    file.write_text(STACK.replace(LAST, LAST + BY_PULUMI.format(a="ab" * 32, b="cd" * 32)))
    before = file.read_text()
    result = run(*arguments, code=1)
    assert (result.stdout, result.stderr) == ("", (GOLDEN / f"{claim}.txt").read_text())
    assert file.read_text() == before


@pytest.mark.parametrize("verb", [["add", "team-a"], ["list"], ["remove", "team-a"]])
def test_a_stack_without_a_gateway_has_no_keys(file: Path, verb: list[str]) -> None:
    file.write_text(re.sub(r"(?s)  glm-fleet:gateway:.*?\n\n", "", STACK))
    assert run(*verb, code=1).stderr == (GOLDEN / "no-gateway.txt").read_text()


@pytest.mark.parametrize("form", ["{}", "{team-a: {sha256: x}}", "&all\n    team-a: {sha256: x}\n  other: *all"])
def test_a_mapping_without_lines_for_its_entries_is_refused(form: str) -> None:
    text = f"config:\n  gateway: {{}}\n  clients: {form}\n"
    with pytest.raises(errors.SettingsError, match="its entries are not on lines of their own"):
        stack_entries.Text(text, "FILE").add("clients", "team-b", {"sha256": "y"}, after="gateway")


@pytest.mark.parametrize("name", ["lab", "dev", "staging", "prod", "dr"])
def test_each_stack_of_this_repository_takes_a_client(name: str) -> None:
    text = (Path(__file__).parents[2] / "stacks" / f"Pulumi.{name}.yaml").read_text()
    text = text if "glm-fleet:gateway:" in text else text.replace("config:\n", "config:\n  glm-fleet:gateway: {}\n")
    entry = {"sha256": "ab" * 32}
    more = stack_entries.Text(text, name).add("glm-fleet:clients", "team-a", entry, after="glm-fleet:gateway")
    assert len(more.splitlines()) - len(text.splitlines()) in (1, 2)
    assert stack_entries.Text(more, name).remove("glm-fleet:clients", "team-a") == text

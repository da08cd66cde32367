"""The search for secrets (tests/support/leaks.py) finds a planted secret in each kind of place, and nothing else."""

import base64
import json
import os
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import pytest

from tests.support import leaks

KEY = "Zm9v+key/of=this test"
NEEDLES = leaks.Needles({"api key": KEY})
PLANTED = {
    "in clear": f"VLLM_API_KEY={KEY}\n",
    "percent-encoded": f"http://x/?key={urllib.parse.quote(KEY, safe='')}&a=b",
    "in hex": f"00{KEY.encode().hex()}00",
    **{f"in base64 after {n}": base64.b64encode(b"k" * n + KEY.encode() + b"\n").decode() for n in range(4)},
    **{f"in base64 for URLs after {n}": base64.urlsafe_b64encode(b"?" * n + KEY.encode()).decode() for n in range(4)},
    "in JSON": json.dumps({"key": KEY}),
}


@pytest.mark.parametrize("text", PLANTED.values(), ids=PLANTED)
def test_a_secret_is_recognised_in_every_form(text: str) -> None:
    assert NEEDLES.of(text.encode()) != []


@pytest.mark.parametrize("text", ["", KEY[:-1], KEY[1:], KEY.lower(), base64.b64encode(KEY[1:].encode()).decode()])
def test_a_similar_value_is_not_recognised(text: str) -> None:
    assert NEEDLES.of(text.encode()) == []


def test_files_are_searched_at_any_depth_and_size_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "state.json").write_text(json.dumps({"api_key": KEY}))
    (tmp_path / "large").write_bytes(b"x" * (leaks.BLOCK - 5) + KEY.encode() + b"x" * 9)
    (tmp_path / "clean").write_text(KEY[:-1])
    (tmp_path / "a" / "link").symlink_to(tmp_path / "large")
    os.mkfifo(tmp_path / "pipe")
    assert sorted(NEEDLES.in_files([str(tmp_path)])) == [
        f"{tmp_path}/a/b/state.json: api key in clear",
        f"{tmp_path}/large: api key in clear",
    ]
    assert [*NEEDLES.in_files([str(tmp_path)], skip=[f"{tmp_path}/a"])] == [f"{tmp_path}/large: api key in clear"]
    os.utime(tmp_path / "large", (1, 1))
    assert [*NEEDLES.in_files([str(tmp_path)], since=2)] == [f"{tmp_path}/a/b/state.json: api key in clear"]


def test_a_watch_reads_arguments_and_environments_of_short_processes() -> None:
    sleep = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with leaks.Watch(NEEDLES, every=0.01) as watch:
        for command, environment in (([*sleep, KEY], {}), (sleep, {"VLLM_API_KEY": KEY})):
            with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as planted:
                before, end = watch.looks, time.monotonic() + 20
                while watch.looks < before + 3 and time.monotonic() < end:
                    os.sched_yield()
                assert planted.stdin
                planted.stdin.close()
    assert {(held.where, held.leak, held.user, held.inside) for held in watch.seen} == {
        (where, "api key in clear", os.getuid(), False) for where in ("arguments", "environment")
    }
    assert all(KEY not in held.words for held in watch.seen), "what a finding shows is no leak of its own"


def test_the_script_for_a_node_finds_what_is_planted_there(tmp_path: Path) -> None:
    """In one of its folders, and in the output of a node's commands."""
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "key").write_text(KEY)
    for name in ("journalctl", "systemctl", "docker"):
        (tmp_path / name).write_text(f"#!/bin/sh\n[ $1 = ps ] && echo an-id || echo 'a word of {name}: {KEY}'\n")
        (tmp_path / name).chmod(0o755)
    script = leaks.on_node({"api key": KEY}, [f"{tmp_path}/place"])
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [sys.executable, "-I", "-"]
    process = subprocess.run(command, input=script, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    places = [line.partition(":")[0] for line in json.loads(process.stdout)]
    for place in (f"{tmp_path}/place/key", "journalctl", "systemctl", "sh -c docker ps", "docker events"):
        assert any(line.startswith(place) for line in places), f"{place} is not in {places}"

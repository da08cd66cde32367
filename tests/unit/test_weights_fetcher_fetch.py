"""A fetch of the role weights (fleet/weights_fetcher) from a well-behaved hub: what it writes, continues and keeps.

Each test runs the programs as the node does. No network beyond 127.0.0.1, no Docker. A hostile hub: test_weights_fetcher_hub.py.
"""

import hashlib
import json
import pathlib
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.support import weights_hub
from tests.support.weights_hub import BIG, FETCH, REVISION, SMALL, Hub, Node


def test_a_fetch_writes_every_file_of_the_revision_and_the_manifest(node: Node, hub: Hub) -> None:
    assert node.fetch().returncode == 0
    assert (node.model / BIG).read_bytes() == hub.files[BIG]
    assert (node.model / "sub" / "tokenizer.json").read_bytes() == b"{}"
    assert not (node.model / "README.md").exists()
    record = node.manifest()["files"]
    assert {path: entry["sha256"] for path, entry in record.items()} == {
        path: hashlib.sha256(data).hexdigest() for path, data in hub.files.items() if path != "README.md"
    }
    assert record[BIG]["size"] == 3_000_000
    report = {
        "ready": True,
        "owned": True,
        "why": "",
        "path": str(node.model),
        "revision": REVISION,
        "files": 3,
        "listed": True,
    }
    manifest = hashlib.sha256((node.model / "manifest.json").read_bytes()).hexdigest()
    assert node.check() == {**report, "bytes": 3_000_000 + len(hub.files[SMALL]) + 2, "manifest": manifest}


def test_a_check_sends_the_hub_no_request(node: Node, hub: Hub) -> None:
    node.fetch()
    hub.log.clear()
    assert node.check()["ready"]
    assert hub.log == []


def test_a_killed_fetch_continues_where_it_stopped(node: Node, hub: Hub) -> None:
    hub.stall.set()
    running = subprocess.Popen(node.fetching(), stdout=subprocess.DEVNULL)
    end = time.monotonic() + 30
    while not (node.part.exists() and node.part.stat().st_size == 1_000_000) and time.monotonic() < end:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not node.check()["ready"]
    hub.stall.clear()
    hub.log.clear()
    assert node.fetch().returncode == 0
    assert hub.ranges(BIG) == ["bytes=1000000-"]
    assert (node.model / BIG).read_bytes() == hub.files[BIG]


def test_a_disconnected_fetch_continues_with_range(node: Node, hub: Hub) -> None:
    hub.cuts[BIG] = 2
    process = node.fetch()
    assert process.returncode == 0, process.stdout
    assert hub.ranges(BIG) == ["", "bytes=1000000-", "bytes=2000000-"]


def test_a_disk_that_writes_only_a_part_of_a_piece_is_full_and_keeps_that_part(node: Node, hub: Hub) -> None:
    """A short write is no error of the system: counted as whole it would leave a hole under a right sum."""
    full = subprocess.run(["prlimit", "--fsize=2500001", *node.fetching()], capture_output=True, text=True)
    assert full.returncode == 1
    assert re.search(
        rf"^{BIG}: {node.part.parent}: no space left: [\d.]+ [GM]B are free, 0\.5 MB are needed$", full.stdout, re.M
    )
    assert node.part.stat().st_size == 2_500_001
    hub.log.clear()
    assert node.fetch().returncode == 0
    assert hub.ranges(BIG) == ["bytes=2500001-"]
    assert (node.model / BIG).read_bytes() == hub.files[BIG]


def test_a_part_that_was_damaged_on_disk_is_fetched_again(node: Node, hub: Hub) -> None:
    node.part.parent.mkdir(parents=True)
    node.part.write_bytes(b"\0" * 500_000)
    assert node.fetch().returncode == 0
    assert hub.ranges(BIG) == ["bytes=500000-", ""]
    assert (node.model / BIG).read_bytes() == hub.files[BIG]


def test_a_file_with_a_wrong_sha256_is_refused_named_and_removed(node: Node, hub: Hub) -> None:
    hub.served[BIG] = bytes(3_000_000)
    process = node.fetch()
    assert process.returncode == 1
    seen, wanted = hashlib.sha256(bytes(3_000_000)).hexdigest(), hashlib.sha256(hub.files[BIG]).hexdigest()
    assert f"{BIG}: sha256 {seen}, wanted {wanted}" in process.stdout
    assert not node.model.exists() and not node.part.exists()
    hub.served.clear()
    assert node.fetch().returncode == 0


def test_a_small_file_is_compared_with_gits_blob_id(node: Node, hub: Hub) -> None:
    hub.served[SMALL] = hub.files[SMALL].replace(b"Glm", b"Elm")
    process = node.fetch()
    assert process.returncode == 1 and f"{SMALL}: git blob" in process.stdout


def test_our_own_sums_count_more_than_the_hubs(node: Node, hub: Hub) -> None:
    node.name(**{BIG: "0" * 64})
    process = node.fetch()
    assert process.returncode == 1 and "weights_manifest says 0000" in process.stdout
    assert hub.ranges(BIG) == []
    node.name(**{"absent.bin": "0" * 64})
    assert "the hub does not have absent.bin" in node.fetch().stdout
    node.name(**{SMALL: "0" * 64})
    assert f"{SMALL}: sha256 {hashlib.sha256(hub.files[SMALL]).hexdigest()}, wanted 0000" in node.fetch().stdout
    node.name()
    assert node.fetch().returncode == 0 and node.check()["ready"]


def test_a_changed_file_alone_is_fetched_again(node: Node, hub: Hub) -> None:
    node.fetch()
    hub.log.clear()
    (node.model / SMALL).write_bytes(b"broken")
    assert node.check()["why"] == f"{SMALL} is missing or was changed"
    assert node.fetch().returncode == 0
    assert node.check()["ready"] and (node.model / SMALL).read_bytes() == hub.files[SMALL]
    assert hub.ranges(BIG) == [] and hub.ranges(SMALL) == [""]


def test_a_failed_fetch_leaves_no_model(node: Node, hub: Hub) -> None:
    hub.status = 500
    process = node.fetch()
    assert process.returncode == 1 and "500 Faulty" in process.stdout
    assert not node.model.exists()


@pytest.fixture
def guarded(tmp_path: pathlib.Path, node: Node) -> Iterator[Hub]:
    """A hub over TLS that wants a token, and a node that trusts it and has the token."""
    certificate = weights_hub.certificate(tmp_path)
    (tmp_path / "token").write_text("right\n")
    with weights_hub.serve(certificate) as server:
        server.token, node.hub, node.environment = "right", server, {"SSL_CERT_FILE": str(certificate)}
        yield server


def test_the_message_of_a_gated_repository_says_whether_a_token_was_sent(
    node: Node, guarded: Hub, tmp_path: pathlib.Path
) -> None:
    assert "401 GatedRepo (no token was sent)" in node.fetch().stdout
    process = node.fetch(f"--token-file={tmp_path / 'token'}")
    assert process.returncode == 0, process.stdout


def test_the_token_is_sent_to_the_hubs_host_alone(node: Node, guarded: Hub, tmp_path: pathlib.Path) -> None:
    with weights_hub.serve(tmp_path / "hub.pem") as storage:
        storage.files, guarded.storage = guarded.files, storage.url
        process = node.fetch(f"--token-file={tmp_path / 'token'}")
    assert process.returncode == 0, process.stdout
    assert len(storage.log) == 3 and {sent for _, _, sent in storage.log} == {""}


def test_a_token_is_never_sent_over_http(node: Node, hub: Hub, tmp_path: pathlib.Path) -> None:
    (tmp_path / "token").write_text("right")
    hub.token = "right"
    process = node.fetch(f"--token-file={tmp_path / 'token'}")
    assert "401 GatedRepo (the token is not sent over http)" in process.stdout
    assert {sent for _, _, sent in hub.log} == {""}


def test_the_sums_for_weights_manifest_are_printed_from_the_hub(node: Node, hub: Hub) -> None:
    """The hub has no sha256 of a small file: that is fetched, and compared with git's id."""
    hub.refusals = [(503, "1")]
    process = node.run(FETCH, "sums", f"--endpoint={hub.url}")
    node.name()
    assert json.loads(process.stdout) == json.loads(node.sums.read_text())
    assert "503 Faulty; again in 1 s" in process.stderr and hub.ranges(BIG) == []
    hub.served[SMALL] = hub.files[SMALL].replace(b"Glm", b"Elm")
    process = node.run(FETCH, "sums", f"--endpoint={hub.url}")
    assert process.returncode == 1 and f"{SMALL}: git blob" in process.stderr and process.stdout == ""


def test_progress_counts_bytes_and_files(node: Node) -> None:
    assert re.search(r"^0\.00 of 0\.00 GB, 3 of 3 files, \d+ MB/s$", node.fetch().stdout, re.MULTILINE)

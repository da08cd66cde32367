"""Claims about the role weights (playbooks/weights.yml): it fetches a pinned revision, verifies each file, switches all at once; on Ubuntu 24.04."""

import concurrent.futures
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import site
from tests.support.labs import Lab
from tests.support.role_node import SERVED, Place, Runs

SHARD = "model.safetensors"


def test_check_mode_reports_the_fetch(fetched: Runs) -> None:
    assert "Report the task that would run" in fetched.check.changed


def test_every_file_has_the_bytes_of_the_hubs_revision(fetched: Runs, ready: Place) -> None:
    results = fetched.second.results["fleet_weights"]
    assert results["revision"] == ready.vars["weights_revision"]
    for file in site.CHECKPOINT.iterdir():
        right = hashlib.sha256(file.read_bytes()).hexdigest()
        assert ready.sh(f"sha256sum {results['path']}/{file.name}").split()[0] == right


def test_the_manifest_holds_size_and_sha256_of_every_file(fetched: Runs, ready: Place) -> None:
    results = fetched.second.results["fleet_weights"]
    files = json.loads(ready.sh(f"cat {results['path']}/manifest.json"))["files"]
    assert len(files) == results["files"]
    for name, entry in files.items():
        assert (entry["size"], len(entry["sha256"])) == ((site.CHECKPOINT / name).stat().st_size, 64)


def test_only_the_serving_user_and_root_can_read_the_model(fetched: Runs, ready: Place) -> None:
    folder = ready.host.file(fetched.second.results["fleet_weights"]["path"])
    assert (folder.mode, folder.uid, folder.gid) == (0o750, 0, 10001)


@pytest.fixture
def fetching(hub: Any, ready: Place, until: Callable[..., None]) -> Iterator[str]:
    """The process id, on the node, of a slow fetch."""
    hub(rate=200_000)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        run = pool.submit(ready.run, "weights", **elsewhere("slow"))
        find = "pgrep -f '^/usr/bin/python3 -B /usr/local/lib/fleet/fetch-weights fetch .*--dir=/srv/slow' || true"
        until(lambda: ready.sh(find) or run.done())
        pid = ready.sh(find).split()
        assert pid, run.result().message
        yield pid[0]
        hub()
        assert run.result().rc == 0, run.result().message


def test_the_fetch_has_a_user_of_its_own_that_can_write_its_folder_alone(fetching: str, ready: Place) -> None:
    status = dict(line.split(":\t", 1) for line in ready.sh(f"cat /proc/{fetching}/status").splitlines())
    ids = [status[name].split() for name in ("Uid", "Gid", "Groups")]
    assert ids == [["10002"] * 4, ["10001"] * 4, []]
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
    place = f"/srv/slow/{SERVED['weights_repository']}"
    writes = f"nsenter -t {fetching} -m sh -c 'touch $1 2>&1; true' -"
    for path in ("/usr/x", "/etc/x", "/srv/x", "/srv/slow/x", f"{place}/x", "/var/lib/x", "/var/tmp/x"):
        assert "Read-only file system" in ready.sh(f"{writes} {path}"), path
    own = f"nsenter -t {fetching} -m setpriv --reuid=10002 --regid=10001 --clear-groups sh -c 'touch /run/x 2>&1; true'"
    assert "Permission denied" in ready.sh(own)  # /run stays writable to root in such a unit
    assert ready.sh(f"{writes} {place}/.incoming-{ready.vars['weights_revision']}/x") == ""
    find = "systemctl list-units --plain --no-legend --state=active 'fleet-fetch-*' | awk '{print $1}'"
    (unit,) = ready.sh(find).split()
    assert f"fleet-work.slice/{unit}" in ready.sh(f"cat /proc/{fetching}/cgroup")


def test_a_run_removes_all_but_the_model_from_the_fetching_users_folder(ready: Place) -> None:
    assert ready.run("weights", **elsewhere("slow")).rc == 0
    place = f"/srv/slow/{SERVED['weights_repository']}"
    assert ready.sh(f"find {place} -name x -o -name '.incoming-*' -o ! -user root").strip() == ""


def test_a_link_in_the_fetching_users_folder_leads_root_nowhere(ready: Place) -> None:
    place = f"/srv/link/{SERVED['weights_repository']}/.incoming-{ready.vars['weights_revision']}"
    ready.sh(f"mkdir -p {place}; ln -sf /etc/shadow {place}/config.json; ln -sfn /etc {place}/more")
    ready.sh("stat -c %U%a /etc/shadow /etc >/root/as-it-was")
    run = ready.run("weights", **elsewhere("link"))
    assert run.rc == 0, run.message
    assert ready.sh("stat -c %U%a /etc/shadow /etc | diff - /root/as-it-was") == ""
    assert ready.sh(f"find {run.results['fleet_weights']['path']} -type l") == ""


def test_another_reader_gets_the_whole_model_without_another_fetch(fetched: Runs, ready: Place) -> None:
    path = fetched.second.results["fleet_weights"]["path"]
    for owner, group in ((10003, 10004), (0, 10001)):
        run = ready.run("weights", **SERVED, weights_owner=owner, weights_group=group)
        assert (run.rc, [task for task in run.changed if "fetch" in task.lower()]) == (0, [])
        owners = ready.sh(f"find {path} ! -name manifest.json -printf '%U:%G\\n' | sort -u").split()
        assert owners == [f"{owner}:{group}"]


def test_a_run_fetches_a_file_again_after_a_changed_byte(fetched: Runs, ready: Place) -> None:
    shard = f"{fetched.second.results['fleet_weights']['path']}/{SHARD}"
    right = ready.sh(f"sha256sum {shard}")
    ready.sh(f"printf x | dd of={shard} bs=1 seek=100 conv=notrunc status=none")
    assert ready.sh(f"sha256sum {shard}") != right
    assert ready.run("weights", **SERVED).rc == 0
    assert ready.sh(f"sha256sum {shard}") == right


@pytest.fixture
def hub(lab: Lab) -> Iterator[Any]:
    """Switch faults of the hub on; the end of the test switches them off."""
    yield lambda **faults: site.set_faults(lab.name, {"hub": faults})
    site.set_faults(lab.name, {})


def elsewhere(name: str) -> dict[str, Any]:
    """Return the variables of a fetch into an empty folder."""
    return {**SERVED, "weights_dir": f"/srv/{name}", "weights_patience": 5}


def test_a_fetch_resumes_where_its_connection_broke(hub: Any, ready: Place) -> None:
    hub(cut=1 << 20, times=1)
    run = ready.run("weights", **elsewhere("cut"))
    assert run.rc == 0, run.message
    shard = f"{run.results['fleet_weights']['path']}/{SHARD}"
    right = hashlib.sha256((site.CHECKPOINT / SHARD).read_bytes()).hexdigest()
    assert ready.sh(f"sha256sum {shard}").split()[0] == right


def test_a_fetch_of_wrong_bytes_reports_both_sums_and_keeps_the_old_model(hub: Any, ready: Place) -> None:
    hub(flip=SHARD)
    run = ready.run("weights", **elsewhere("flip"))
    right = hashlib.sha256((site.CHECKPOINT / SHARD).read_bytes()).hexdigest()
    assert run.rc != 0 and SHARD in run.message and f"wanted {right}" in run.message
    assert "\nwanted: every file of that revision" in run.message
    assert not ready.host.file(f"/srv/flip/{SERVED['weights_repository']}/{ready.vars['weights_revision']}").exists


def test_our_own_sums_overrule_the_hubs(ready: Place) -> None:
    run = ready.run("weights", **elsewhere("own"), weights_manifest={**ready.vars["weights_manifest"], SHARD: "0" * 64})
    assert run.rc != 0 and "the hub says sha256 " in run.message and "0" * 64 in run.message


def test_a_hub_without_tls_needs_our_own_sums(ready: Place) -> None:
    run = ready.run("weights", **elsewhere("free"), weights_manifest={})
    assert run.changed == []
    assert "weights_endpoint is http://hub.lab.internal, and weights_manifest is empty" in run.message
    assert "\nnext: docs/mirrors.md has the command" in run.message


def test_a_run_names_a_revision_that_the_hub_does_not_have(ready: Place) -> None:
    run = ready.run("weights", **elsewhere("none"), weights_revision="1" * 40)
    assert run.rc != 0 and "404 RevisionNotFound" in run.message and "\nnext: " in run.message


def test_a_branch_stops_before_any_change(ready: Place) -> None:
    run = ready.run("weights", **elsewhere("main"), weights_revision="main")
    assert run.changed == [] and "\nwanted: ORGANISATION/NAME, a commit of 40 hex digits" in run.message

"""roles/kubernetes/files/certificates.py with real certificates: when it renews, and what it waits for. kubeadm and the kubelet stand in."""

import http.server
import json
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "roles" / "kubernetes" / "files" / "certificates.py"
KUBEADM = """#!/bin/sh
echo "$@" >> {folder}/calls
cp {folder}/new.crt {folder}/pki/apiserver.crt
"""
STAMP = "    glm-fleet/certificates: "
SCHEDULER = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: kube-scheduler\nspec: {}\n"
ETCD = 'metadata:\n  annotations:\n    kubeadm.kubernetes.io/etcd: x\n    glm-fleet/certificates: "2026-01-01"\n  name: etcd\n'


def certificate(file: pathlib.Path, days: int) -> None:
    key = file.with_suffix(".key")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=x",
    ]
    subprocess.run(
        [*command, "-days", str(days), "-keyout", str(key), "-out", str(file)], check=True, capture_output=True
    )


@pytest.fixture
def plane(tmp_path: pathlib.Path) -> pathlib.Path:
    """A control plane: an old certificate, the one that kubeadm makes, two pods, and an API server that shows the new one."""
    for name in ("pki", "manifests", "work", "bin"):
        (tmp_path / name).mkdir()
    certificate(tmp_path / "new.crt", 365)
    (tmp_path / "pki/ca.crt").write_text((tmp_path / "new.crt").read_text())
    (tmp_path / "manifests/etcd.yaml").write_text(ETCD)
    (tmp_path / "manifests/kube-scheduler.yaml").write_text(SCHEDULER)
    kubeadm = tmp_path / "bin/kubeadm"
    kubeadm.write_text(KUBEADM.format(folder=tmp_path))
    kubeadm.chmod(0o755)
    return tmp_path


class Ready(http.server.BaseHTTPRequestHandler):
    """Answers as an API server that is ready."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def port(plane: pathlib.Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(plane / "new.crt", plane / "new.key")
    with http.server.HTTPServer(("127.0.0.1", 0), Ready) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def run(
    plane: pathlib.Path, port: int, *more: str, timeout: int = 20, programs: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    folders = {name: str(plane / name) for name in ("pki", "manifests", "work")}
    query: dict[str, Any] = {**folders, "days": 30, "port": port, "timeout": timeout, "programs": programs}
    environment = {"PATH": f"{plane}/bin:/usr/bin:/bin"}
    command = [sys.executable, "-c", SCRIPT.read_text(), *more]
    return subprocess.run(command, input=json.dumps(query), capture_output=True, text=True, env=environment)


def test_certificates_with_more_than_30_days_stay(plane: pathlib.Path, port: int) -> None:
    certificate(plane / "pki/apiserver.crt", 32)
    assert json.loads(run(plane, port).stdout)["renewed"] is False
    assert not (plane / "calls").exists() and (plane / "manifests/etcd.yaml").read_text() == ETCD


def test_a_certificate_that_ends_soon_is_renewed_and_the_pods_of_the_control_plane_start_again(
    plane: pathlib.Path, port: int
) -> None:
    certificate(plane / "pki/apiserver.crt", 20)
    (plane / "pki/etcd").mkdir()
    certificate(plane / "pki/etcd/server.crt", 300)
    report = json.loads(run(plane, port).stdout)
    assert report["renewed"] is True and (plane / "calls").read_text() == "certs renew all\n"
    (stamp,) = {
        line for file in (plane / "manifests").iterdir() for line in file.read_text().splitlines() if STAMP in line
    }
    assert "2026-01-01" not in stamp, "another text, so that the kubelet sees another pod"
    assert (plane / "manifests/kube-scheduler.yaml").read_text().splitlines()[2:5] == [
        "metadata:",
        "  annotations:",
        stamp,
    ]
    lines = (plane / "manifests/etcd.yaml").read_text().splitlines()
    assert lines == ["metadata:", "  annotations:", stamp, "    kubeadm.kubernetes.io/etcd: x", "  name: etcd"]
    assert list((plane / "work").iterdir()) == []


def test_check_mode_says_that_it_would_and_renews_nothing(plane: pathlib.Path, port: int) -> None:
    certificate(plane / "pki/apiserver.crt", 20)
    assert json.loads(run(plane, port, "check").stdout)["renewed"] is True and not (plane / "calls").exists()


def test_an_api_server_that_does_not_come_back_stops_the_run(plane: pathlib.Path) -> None:
    certificate(plane / "pki/apiserver.crt", 20)
    failed = run(plane, 1, timeout=1)
    assert failed.returncode == 1
    assert failed.stderr.splitlines() == [
        "after 1 s the control plane has not started again with its new certificates",
        "wanted: other processes, and an API server that is ready",
        "next: `crictl ps -a` and `journalctl -u kubelet` on the machine",
    ]


def test_the_run_after_one_that_was_interrupted_restarts_the_pods_and_renews_nothing_again(
    plane: pathlib.Path, port: int
) -> None:
    certificate(plane / "pki/apiserver.crt", 20)
    assert run(plane, 1, timeout=1).returncode == 1
    stamped = (plane / "manifests/etcd.yaml").read_text()
    assert json.loads(run(plane, port).stdout)["renewed"] is True
    assert (plane / "calls").read_text() == "certs renew all\n"
    assert (plane / "manifests/etcd.yaml").read_text() != stamped
    assert json.loads(run(plane, port).stdout)["renewed"] is False


def test_a_pod_that_runs_on_with_its_old_certificate_stops_the_run(plane: pathlib.Path, port: int) -> None:
    certificate(plane / "pki/apiserver.crt", 20)
    program = shutil.copy("/usr/bin/sleep", plane / "bin/lab-scheduler-of-a-test")
    with subprocess.Popen([program, "60"]) as old:
        failed = run(plane, port, timeout=1, programs=["lab-scheduler-of-a-test"])
        assert failed.returncode == 1 and "has not started again" in failed.stderr
        old.kill()


def test_the_run_goes_on_when_each_pod_has_started_again(plane: pathlib.Path, port: int) -> None:
    certificate(plane / "pki/apiserver.crt", 20)
    program = shutil.copy("/usr/bin/sleep", plane / "bin/lab-scheduler-of-a-test")
    old = subprocess.Popen([program, "60"])
    # kubeadm stands in for the kubelet, too: it ends the old process and starts another one.
    with (plane / "bin/kubeadm").open("a") as script:
        script.write(f"kill {old.pid}\n{program} 60 >/dev/null 2>&1 & echo $! > {plane}/new.pid\n")
    reaper = threading.Thread(target=old.wait)
    reaper.start()
    try:
        assert run(plane, port, programs=["lab-scheduler-of-a-test"]).returncode == 0
    finally:
        os.kill(int((plane / "new.pid").read_text()), signal.SIGKILL)
        reaper.join()

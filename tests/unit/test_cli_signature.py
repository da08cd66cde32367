"""Who approved a report, by the real ssh-keygen."""

import subprocess
from pathlib import Path

import pytest

from fleet import errors
from fleet.cli import signature
from fleet.review import report

pytestmark = pytest.mark.needs("ssh-keygen")
TEXT = "a report\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of alice, who may sign reports, of bob, who may sign other things, and of mallory."""
    folder = tmp_path_factory.mktemp("signers")
    for name in ("alice", "bob", "mallory"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    alice, bob = ((folder / f"{name}.pub").read_text() for name in ("alice", "bob"))
    (folder / "signers").write_text(f'alice@x namespaces="{report.NAMESPACE}" {alice}bob@x namespaces="git" {bob}')
    (folder / "report.json").write_text(TEXT)
    return folder


def sign(folder: Path, name: str, namespace: str = report.NAMESPACE) -> Path:
    """Return the signature of the report with somebody's key."""
    done = folder / "report.json.sig"
    done.unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(folder / name), str(folder / "report.json")]
    subprocess.run(command, check=True, capture_output=True)
    return done


def signer(folder: Path, done: Path, text: str = TEXT) -> str:
    return signature.signer(text, folder / "report.json", done, folder / "signers")


def test_a_signature_names_its_signer(folder: Path) -> None:
    assert signer(folder, sign(folder, "alice")) == "alice@x"


@pytest.mark.parametrize(
    ("name", "namespace", "text", "seen"),
    [
        ("mallory", report.NAMESPACE, TEXT, "signed by somebody else"),
        ("alice", "git", TEXT, "alice@x signed another text"),
        ("bob", report.NAMESPACE, TEXT, "signed"),
        ("alice", report.NAMESPACE, "another report\n", "alice@x signed another text"),
    ],
)
def test_a_wrong_signature_is_refused(folder: Path, name: str, namespace: str, text: str, seen: str) -> None:
    with pytest.raises(errors.NotApproved, match=seen):
        signer(folder, sign(folder, name, namespace), text)


def test_what_is_no_signature_is_refused(folder: Path) -> None:
    done = sign(folder, "alice")
    done.write_text("x")
    with pytest.raises(errors.NotApproved, match="signed by somebody else"):
        signer(folder, done)
    done.unlink()
    with pytest.raises(errors.NotApproved, match="no signature"):
        signer(folder, done)

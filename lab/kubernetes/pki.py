"""The certificates and tokens of a cluster: an authority, the API server's certificate, a token for each of its users.

Users have tokens in place of certificates: fleet.certificates, which signs what is signed here, has no groups in its names.
Called by lab.kubernetes.cluster and tests/support/api_server.py.
"""

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet import certificates

MASTERS = "system:masters"  # the group that may do everything
ADMIN = "admin"
KUBELETS_CLIENT = "kube-apiserver-kubelet-client"  # as which the API server reads logs and forwards ports on a node


@dataclass(frozen=True)
class Keys:
    """The files of a cluster's keys, in one folder. A file of a certificate has its key, too."""

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def server(self) -> Path:
        return self.folder / "server.pem"

    @property
    def kubelets_client(self) -> Path:
        return self.folder / "kubelets-client.pem"

    @property
    def accounts(self) -> Path:
        """The key that signs the tokens of service accounts."""
        return self.folder / "accounts.key"

    @property
    def tokens(self) -> Path:
        """The users' tokens, in the form of the API server's --token-auth-file."""
        return self.folder / "tokens.csv"

    def token(self, user: str) -> str:
        """Return the token of a user."""
        rows = (line.split(",") for line in self.tokens.read_text().splitlines())
        return next(row[0] for row in rows if row[1] == user)


def make(folder: Path, hosts: Sequence[str], users: Mapping[str, str]) -> Keys:
    """Make the keys of a cluster whose API server has these names and addresses. `users` has the group of each; the admin is one more."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys, at = Keys(folder), certificates.now()
    authority, private = certificates.new_authority("kubernetes-lab", at)
    _write(keys.authority, authority)
    server = certificates.Wanted("server", "kube-apiserver", tuple(hosts))
    _write(keys.server, certificates.issue(server, authority, private, at))
    _write(
        keys.kubelets_client, certificates.issue(certificates.Wanted("client", KUBELETS_CLIENT), authority, private, at)
    )
    _write(keys.accounts, _new_key())
    rows = {ADMIN: MASTERS, **users}
    lines = (f'{secrets.token_hex(16)},{user},{user},"{group}"' for user, group in rows.items())
    _write(keys.tokens, "\n".join(lines) + "\n")
    return keys


def kubeconfig(server: str, authority: str, tokens: Mapping[str, str], current: str = "") -> str:
    """Return a kubeconfig with a context for each token. Without `current`, whoever uses it must choose one."""
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(authority.encode()).decode()}
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}} for name, token in tokens.items()],
        "contexts": [{"name": name, "context": {"cluster": "lab", "user": name}} for name in tokens],
        "current-context": current,
    }
    return json.dumps(document, indent=1) + "\n"


def _new_key() -> str:
    """Return a new key in the one form of an elliptic curve's key that Kubernetes reads for tokens (SEC 1)."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.TraditionalOpenSSL, form.NoEncryption()).decode()


def _write(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)

"""One context of a kubeconfig: where its API server is, whom it trusts, and with which credentials. Never the current context.

Needs the file, and the program that it names for credentials, if it does. Called by client.py. The credentials stay in this process: the
files that the Kubernetes client writes for its own use are gone before the first request.
"""

import binascii
import os
import shlex
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet import errors, printable
from fleet.validators import Each, Record, Text

if TYPE_CHECKING:
    from kubernetes import client

BYTES = 4 << 20
NAMED = Each(Record({"name": Text()}, open=True), most=10_000)
FORM = Record({"contexts": NAMED, "clusters": NAMED}, open=True)
# The Kubernetes client keeps its files by content, for all who load a configuration.
_loading = threading.Lock()


@dataclass(frozen=True)
class Access:
    """How to reach a cluster: the path of a kubeconfig, "" for the file of the environment, and the name of a context in it."""

    context: str
    kubeconfig: str = ""

    @classmethod
    def from_inputs(cls, inputs: Mapping[str, Any]) -> "Access":
        """Return the access that a resource's input `cluster` names."""
        return cls(str(inputs.get("context") or ""), str(inputs.get("kubeconfig") or ""))

    @property
    def file(self) -> Path:
        """The kubeconfig: the named one, else that of KUBECONFIG, else ~/.kube/config."""
        return Path(self.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config").expanduser()

    def kubectl(self, *words: str) -> str:
        """Return a command to paste."""
        where = ["--kubeconfig", str(self.file)] if self.kubeconfig else []
        return shlex.join(["kubectl", *where, "--context", self.context, *words])


def load(access: Access) -> "tuple[client.Configuration, ssl.SSLContext]":
    """Return the configuration of a context, and its TLS. Raises FleetError."""
    _check(access)
    try:
        from kubernetes import client, config
        from kubernetes.config import kube_config
    except ModuleNotFoundError as missing:
        if missing.name != "kubernetes":
            raise
        raise errors.ClusterUnreachable(
            node=access.context,
            doing="import the client of Kubernetes",
            seen="the Python package kubernetes is not installed",
            wanted="the packages of requirements/kubernetes.txt",
            next="`make python STACK=NAME` with the name of this stack: it installs what the stack files name",
        ) from None
    configuration = client.Configuration()
    with _loading:
        try:
            config.load_kube_config(str(access.file), access.context, configuration, persist_config=False)
            _check_server(access, configuration)
            return configuration, _trust(configuration)
        except (config.ConfigException, OSError, binascii.Error, KeyError, TypeError, AttributeError) as cause:
            raise _unusable(access, f"context {access.context} is of no use: {_words(cause)}") from cause
        finally:
            kube_config._cleanup_temp_files()  # certificates and keys; at the end of a killed process nobody would


def _check(access: Access) -> None:
    """Raise FleetError for a file that cannot be read, and for a context that it does not have."""
    import yaml

    if not access.context:
        raise _unusable(access, "no context is named, and the current one may be another cluster's")
    try:
        with access.file.open("rb") as file:
            content = yaml.safe_load(file.read(BYTES))
    except OSError as cause:
        todo = f"is it another one? KUBECONFIG, or `kubeconfig` of glm-fleet:kubernetes; now {access.file}"
        raise _unusable(access, f"{access.file}: {cause.strerror}", next=todo) from cause
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError) as cause:
        raise _unusable(access, f"{access.file} is no YAML") from cause
    if mistake := FORM.mistake(content, ""):
        raise _unusable(access, f"{access.file}: {mistake.at}: {mistake.seen}".replace(": : ", ": "))
    names = [str(each["name"]) for each in content["contexts"]]
    if access.context not in names:
        near = errors.nearest(access.context, names)
        raise _unusable(
            access,
            f"{access.file} has no context {access.context}",
            wanted=f"one of {', '.join(sorted(names)) or 'none'}",
            next=f"did you mean {near}?" if near else "`context` of glm-fleet:kubernetes in the stack file",
        )


def _check_server(access: Access, configuration: "client.Configuration") -> None:
    if not configuration.host.startswith("https://"):
        seen = f"its server is {printable.short(configuration.host)}, where anybody on the way reads the credentials"
        raise _unusable(access, seen, wanted="https://")
    if not configuration.verify_ssl:
        seen = "insecure-skip-tls-verify is set: any server would get the credentials and the API key"
        raise _unusable(access, seen, wanted="the API server's certificate authority")


def _trust(configuration: "client.Configuration") -> ssl.SSLContext:
    """Return the TLS of a connection: the cluster's own authority, and the user's certificate if it has one."""
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context


def _unusable(access: Access, seen: str, wanted: str = "", next: str = "") -> errors.ClusterUnreachable:
    return errors.ClusterUnreachable(
        node=access.context or "cluster",
        doing="read the kubeconfig",
        seen=seen,
        wanted=wanted or "a context with its server, certificate authority and credentials",
        next=next or f"{access.kubectl('version')}" if access.context else "`context` of glm-fleet:kubernetes",
    )


def _words(cause: Exception) -> str:
    """Return what is wrong without a value of the file, which may be a credential."""
    if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, ssl.SSLError):
        return f"{cause.filename}: {cause.strerror}" if cause.filename else cause.strerror
    if isinstance(cause, ssl.SSLError):
        return f"a certificate or key in it is broken ({cause.reason or 'no PEM'})"
    if type(cause).__name__ == "ConfigException":
        return printable.short(str(cause), 200)
    return "a value in it has a wrong form"

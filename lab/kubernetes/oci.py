"""Images made of files, without a Docker daemon: their parts, as an archive that containerd imports, or pushed to a registry.

Needs nothing but the standard library. Called by pause_image and own_cluster.
"""

import functools
import hashlib
import http.client
import io
import json
import ssl
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.commands import LabError

OCI = "application/vnd.oci.image"
TIMEOUT = 120  # seconds without an answer of the registry


@dataclass(frozen=True)
class Link:
    """A symbolic link in an image."""

    target: str


@dataclass(frozen=True)
class Image:
    """An image of one layer: `files` by their paths below /, which all may execute, and the settings of its process."""

    files: Mapping[str, bytes | Link]
    process: Mapping[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def layer(self) -> bytes:
        """The layer, without compression: it never leaves this machine."""
        return tar(self.files, mode=0o755)

    @functools.cached_property
    def config(self) -> bytes:
        """The image's configuration."""
        layers = {"type": "layers", "diff_ids": [digest(self.layer)]}
        return _json({"architecture": "amd64", "os": "linux", "config": self.process, "rootfs": layers})

    @functools.cached_property
    def manifest(self) -> bytes:
        """The image's manifest, whose digest is the image's."""
        return _json(
            {
                "schemaVersion": 2,
                "mediaType": f"{OCI}.manifest.v1+json",
                "config": _descriptor("config.v1+json", self.config),
                "layers": [_descriptor("layer.v1.tar", self.layer)],
            }
        )

    @property
    def digest(self) -> str:
        """The image's digest."""
        return digest(self.manifest)


def archive(image: Image, name: str) -> bytes:
    """Return the archive of an image with this name."""
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    index = {
        "schemaVersion": 2,
        "manifests": [{**_descriptor("manifest.v1+json", image.manifest), "annotations": names}],
    }
    parts = (image.layer, image.config, image.manifest)
    blobs = {f"blobs/{digest(blob).replace(':', '/')}": blob for blob in parts}
    layout = b'{"imageLayoutVersion":"1.0.0"}'
    return tar({"oci-layout": layout, "index.json": _json(index), **blobs}, mode=0o644)


class Registry:
    """A registry over TLS, at an address that need not be the one of its name (host:port)."""

    def __init__(self, name: str, address: str, authority: str) -> None:
        self.name = name
        host, _, port = name.rpartition(":")
        self._connection = _Connection(host, address, int(port), authority)

    def push(self, image: Image, repository: str, tag: str) -> str:
        """Push an image; return its reference by digest. Raises LabError."""
        for blob in (image.layer, image.config):
            if self._request("HEAD", f"/v2/{repository}/blobs/{digest(blob)}", accept=(200, 404))[0] == 404:
                _, place = self._request("POST", f"/v2/{repository}/blobs/uploads/", accept=(202,))
                place += "&" if "?" in place else "?"
                self._request("PUT", f"{place}digest={digest(blob)}", blob, "application/octet-stream", (201,))
        kind = f"{OCI}.manifest.v1+json"
        self._request("PUT", f"/v2/{repository}/manifests/{tag}", image.manifest, kind, (201,))
        return f"{self.name}/{repository}@{image.digest}"

    def _request(
        self, method: str, url: str, body: bytes = b"", kind: str = "", accept: tuple[int, ...] = (200,)
    ) -> tuple[int, str]:
        """Return the status, and where the answer sends the next request."""
        headers = {"Content-Length": str(len(body)), **({"Content-Type": kind} if kind else {})}
        try:
            self._connection.request(method, url, body or None, headers)
            response = self._connection.getresponse()
            text = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise LabError(f"{method} {url} at the registry {self.name}: {error!r}") from None
        if response.status not in accept:
            raise LabError(f"{method} {url} at the registry {self.name}: {response.status} {text.strip()[:200]}")
        place = response.headers.get("Location", "")
        return response.status, place.partition(self.name)[2] or place


class _Connection(http.client.HTTPSConnection):
    """A connection to an address, which must have the certificate of a name."""

    def __init__(self, host: str, address: str, port: int, authority: str) -> None:
        self._own, self._address = ssl.create_default_context(cadata=authority), address
        super().__init__(host, port, timeout=TIMEOUT, context=self._own)

    def connect(self) -> None:
        """Connect to the address."""
        plain = http.client.HTTPConnection(self._address, self.port, timeout=TIMEOUT)
        plain.connect()
        self.sock = self._own.wrap_socket(plain.sock, server_hostname=self.host)


def digest(blob: bytes) -> str:
    """Return a blob's digest, as registries name it."""
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def tar(files: Mapping[str, bytes | Link], mode: int) -> bytes:
    """Return a tar archive of files and links, all of them of root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as whole:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = mode
            if isinstance(content, Link):
                entry.type, entry.linkname = tarfile.SYMTYPE, content.target
                whole.addfile(entry)
            else:
                entry.size = len(content)
                whole.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _descriptor(kind: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": f"{OCI}.{kind}", "digest": digest(blob), "size": len(blob)}


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()

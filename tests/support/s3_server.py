"""A real object store with the S3 protocol for tests: VersityGW, which checks every signature, on the loopback; its buckets are folders.

Needs `go` for the first build. Called by tests/machine/test_object_store.py.
"""

import contextlib
import os
import pathlib
import socket
import subprocess
from collections.abc import Iterator

from tests.support import api_server, go_program

SOURCES = pathlib.Path(__file__).with_name("versitygw")
PACKAGE = "github.com/versity/versitygw/cmd/versitygw"
KEY, SECRET, BUCKET = "tests", "secret-of-the-tests", "fleet"


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[dict[str, str]]:
    """Start the server with an empty bucket; yield the environment of its clients."""
    program = go_program.build(SOURCES, PACKAGE)
    buckets, metadata = folder / "buckets", folder / "metadata"
    (buckets / BUCKET).mkdir(parents=True)
    metadata.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    command = [
        str(program),
        "--port",
        f"127.0.0.1:{address[1]}",
        "--quiet",
        "posix",
        "--sidecar",
        str(metadata),
        str(buckets),
    ]
    keys = {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env={**os.environ, **keys}, stdout=log, stderr=log)
        try:
            api_server.wait(lambda: _answers(address), "the object store listens", 30)
            yield {
                "AWS_ACCESS_KEY_ID": KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{address[1]}",
                "AWS_ALLOW_HTTP": "true",
            }
        finally:
            server.terminate()
            server.wait(30)


def _answers(address: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(address, 1):
        return True
    return False

"""A plugin loads Pulumi's protocol without the SDK: fleet/sdk_patches/sdk_stub.py. The imports of a plugin: tests/provider/test_protocol.py."""

import subprocess
import sys

SHOW = "import sys; print(*[name for name in sys.modules if name.startswith('pulumi') and '.proto' not in name])"


def modules(*statements: str) -> list[str]:
    """Return the modules of the SDK, without its protocol, that a new process has after these statements."""
    return subprocess.check_output([sys.executable, "-c", "; ".join((*statements, SHOW))], text=True).split()


def test_the_stub_loads_the_protocol_without_the_sdk() -> None:
    stub = "from fleet.sdk_patches import sdk_stub; sdk_stub.apply()"
    assert modules(stub, "from pulumi.runtime.proto import resource_pb2") == ["pulumi", "pulumi.runtime"]


def test_the_protocol_imports_the_whole_sdk_without_the_stub() -> None:
    whole = modules("from pulumi.runtime.proto import resource_pb2")
    assert len(whole) > 20, "fleet/sdk_patches/sdk_stub.py is no longer needed: delete it"

"""The stand-in of the Kubernetes plugin, asked as the Pulumi engine does, without gRPC between. Used by tests/kubernetes/test_plugin.py."""

from pathlib import Path
from typing import Any, NoReturn

from pulumi.runtime.proto import provider_pb2

from fleet.provider.properties import to_struct
from lab.kubernetes.plugin.servicer import Kubernetes
from tests.support.api_server import Object

URN = "urn:pulumi:prod::glm-fleet::kubernetes:core/v1:ConfigMap::thing"


class AbortedError(Exception):
    """The plugin has refused a request."""


class Context:
    """The side of gRPC."""

    def abort(self, code: Any, message: str) -> NoReturn:
        raise AbortedError(message)

    def set_trailing_metadata(self, metadata: Any) -> None: ...


class Plugin:
    """The stand-in, configured for a context; its lines are in `said`."""

    def __init__(self, kubeconfig: Path) -> None:
        self.said: list[str] = []
        self.context: Any = Context()
        self.plugin = Kubernetes(self)  # type: ignore[arg-type]
        settings = to_struct({"context": "admin", "kubeconfig": str(kubeconfig)})
        self.plugin.Configure(provider_pb2.ConfigureRequest(args=settings), self.context)

    def report(self, urn: str, message: str, ephemeral: bool = False, warning: bool = False) -> None:
        self.said.append(message)

    def create(self, manifest: Object, **more: Any) -> Any:
        request = provider_pb2.CreateRequest(urn=URN, properties=to_struct(manifest), **more)
        return self.plugin.Create(request, self.context)

    def update(self, manifest: Object, **more: Any) -> Any:
        request = provider_pb2.UpdateRequest(urn=URN, news=to_struct(manifest), **more)
        return self.plugin.Update(request, self.context)

    def diff(self, old: Object, new: Object) -> provider_pb2.DiffResponse:
        request = provider_pb2.DiffRequest(urn=URN, old_inputs=to_struct(old), news=to_struct(new))
        return self.plugin.Diff(request, self.context)

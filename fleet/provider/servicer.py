"""Pulumi's resource provider protocol over our resources: check, diff, create, read, update, delete, cancel.

Knows gRPC and no machine. Started by __main__; the resources are in node.py, playbook.py, weights.py and serving.py.
"""

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NoReturn

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from fleet import errors
from fleet.impact import effects
from fleet.provider import base, diffs, unexpected
from fleet.provider.baremetal import BareMetal
from fleet.provider.base import GIVEN, InitFailed, Request, Resource
from fleet.provider.causes import Causes
from fleet.provider.engine import Engine
from fleet.provider.hostkey import HostKey
from fleet.provider.image import Image
from fleet.provider.node import Node
from fleet.provider.playbook import Playbook
from fleet.provider.preview_summary import Notes
from fleet.provider.properties import Props, to_dict, to_struct
from fleet.provider.serving import Serving
from fleet.provider.slots import PARALLEL, Slots
from fleet.provider.weights import Weights

Context = grpc.ServicerContext

# Properties whose values no message and no log may repeat.
SECRET = ("api_key", "token", "private", "username", "password")


def kinds(slots: Slots, purge: Collection[str] = ()) -> dict[str, Resource]:
    """Return the resources of this provider by the last part of their type."""
    return {
        "BareMetal": BareMetal(),
        "HostKey": HostKey(),
        "Node": Node(),
        "Host": Playbook("Host", ("gpus", "driver", "engine"), slots, purge=purge),
        "Image": Image("Image", ("image", "commit", "version", "recipe"), slots),
        "Weights": Weights("Weights", ("path", "revision", "bytes", "files", "manifest"), slots, purge=purge),
        "Serving": Serving("Serving", ("replicas", "verdict"), slots),
    }


class Fleet(provider_pb2_grpc.ResourceProviderServicer):
    """The provider `fleet`. Its settings: `parallel`, how many Ansible runs work at once; `purge`, what a delete takes that else stays."""

    version = "0.1.0"

    def __init__(self, engine: Engine, made: Mapping[str, Resource] | None = None) -> None:
        self._engine = engine
        self._made = made or kinds(Slots())
        self._fixed = made is not None
        self._parallel = PARALLEL
        self._notes = Notes()
        self._causes = Causes()
        self._working = 0
        self._lock = threading.Lock()
        self.cancelled = threading.Event()

    def busy(self) -> bool:
        """Whether any request that touches a machine is in hand."""
        with self._lock:
            return self._working > 0

    # --- the plugin itself

    def Handshake(
        self, request: provider_pb2.ProviderHandshakeRequest, context: Context
    ) -> provider_pb2.ProviderHandshakeResponse:
        return provider_pb2.ProviderHandshakeResponse()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: Context) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=self.version)

    def GetSchema(self, request: provider_pb2.GetSchemaRequest, context: Context) -> provider_pb2.GetSchemaResponse:
        return provider_pb2.GetSchemaResponse(schema="{}")

    def CheckConfig(self, request: provider_pb2.CheckRequest, context: Context) -> provider_pb2.CheckResponse:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: provider_pb2.DiffRequest, context: Context) -> provider_pb2.DiffResponse:
        """Other settings of the provider touch no resource; that they changed is told, or the engine would go on with those before."""
        found = to_dict(request.old_inputs) != to_dict(request.news)
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if found else provider_pb2.DiffResponse.DIFF_NONE
        )

    def Configure(self, request: provider_pb2.ConfigureRequest, context: Context) -> provider_pb2.ConfigureResponse:
        given = to_dict(request.args)
        self._parallel = int(given.get("parallel") or PARALLEL)
        if not self._fixed:
            self._made = kinds(Slots(self._parallel), str(given.get("purge") or "").split())
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    def Cancel(self, request: empty_pb2.Empty, context: Context) -> empty_pb2.Empty:
        self.cancelled.set()
        return empty_pb2.Empty()

    # --- resources

    def Check(self, request: provider_pb2.CheckRequest, context: Context) -> provider_pb2.CheckResponse:
        if request.olds.fields:
            self._notes.there(request.urn)
        before = to_dict(request.olds)
        news = {**{key: before[key] for key in GIVEN if key in before}, **to_dict(request.news)}
        resource = self._resource(request.urn)
        wrong = resource.check(news)
        return provider_pb2.CheckResponse(
            inputs=to_struct(news),
            failures=[provider_pb2.CheckFailure(property=key, reason=reason) for key, reason in wrong.items()],
        )

    def Diff(self, request: provider_pb2.DiffRequest, context: Context) -> provider_pb2.DiffResponse:
        """Compare with the old inputs and with the old state.

        After a failed update the old inputs are those of the last success; the state alone holds what a refresh found.
        """
        resource = self._resource(request.urn)
        olds = to_dict(request.olds)
        before, state, news = (
            {key: value for key, value in side.items() if key not in resource.ignored_inputs}
            for side in (to_dict(request.old_inputs), olds, to_dict(request.news))
        )
        found = diffs.changes(before, news, resource.replace)
        found |= diffs.changes(
            {key: value for key, value in state.items() if key not in resource.computed}, news, resource.replace
        )
        if olds.get("drift"):
            found["drift"] = diffs.Kind.UPDATE
        replaces = sorted(path for path, kind in found.items() if diffs.Kind.Kind.Name(kind).endswith("_REPLACE"))
        if replaces:
            self._notes.replaced(request.urn, [f"{path} changed" for path in replaces])
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if found else provider_pb2.DiffResponse.DIFF_NONE,
            diffs=sorted({path.split(".")[0].split("[")[0] for path in found}),
            replaces=replaces,
            detailedDiff={
                path: provider_pb2.PropertyDiff(kind=kind, inputDiff=path != "drift") for path, kind in found.items()
            },
            hasDetailedDiff=True,
            deleteBeforeReplace=True,
        )

    def Create(self, request: provider_pb2.CreateRequest, context: Context) -> provider_pb2.CreateResponse:
        resource, inputs = self._resource(request.urn), to_dict(request.properties)
        if request.preview:
            self._foretell(request.urn, resource.create_effects(inputs))
            return provider_pb2.CreateResponse(id="", properties=to_struct(resource.planned_outputs(inputs, {}, None)))
        # Deterministic: a second try after a crash finds the same thing.
        ident = f"{base.kind_of(request.urn).lower()}/{base.name_of(request.urn)}"
        with self._work(context, ident, request.urn, inputs) as work:
            made = resource.apply(work, inputs, None)
            return provider_pb2.CreateResponse(id=ident, properties=to_struct(made))

    def Update(self, request: provider_pb2.UpdateRequest, context: Context) -> provider_pb2.UpdateResponse:
        resource, inputs, olds = self._resource(request.urn), to_dict(request.news), to_dict(request.olds)
        if request.preview:
            old_inputs = to_dict(request.old_inputs)
            self._foretell(request.urn, resource.effects(old_inputs, inputs, olds), olds)
            return provider_pb2.UpdateResponse(properties=to_struct(resource.planned_outputs(inputs, old_inputs, olds)))
        with self._work(context, request.id, request.urn, inputs) as work:
            made = resource.apply(work, inputs, olds)
            return provider_pb2.UpdateResponse(properties=to_struct(made))

    def Read(self, request: provider_pb2.ReadRequest, context: Context) -> provider_pb2.ReadResponse:
        """Read the machine; the inputs stay those of the state, or a clean machine would show changes.

        A cause that another Read has reported already, and so failed the run with, is not reported again: the state stays as it was.
        """
        properties = to_dict(request.properties)
        with self._work(context, request.id, request.urn, properties) as work:
            try:
                now = self._resource(request.urn).read(work, properties)
            except errors.FleetError as error:
                if not self._causes.earlier(error, request.urn):
                    raise
                return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)
            if now is None:
                return provider_pb2.ReadResponse()
            return provider_pb2.ReadResponse(id=request.id, properties=to_struct(now), inputs=request.inputs)

    def Delete(self, request: provider_pb2.DeleteRequest, context: Context) -> empty_pb2.Empty:
        properties = to_dict(request.properties)
        with self._work(context, request.id, request.urn, properties) as work:
            self._resource(request.urn).delete(work, properties)
            return empty_pb2.Empty()

    def Invoke(self, request: provider_pb2.InvokeRequest, context: Context) -> provider_pb2.InvokeResponse:
        """The one function, `forecast`: tell beside the resource `beside` what the previews so far foretell, in a few lines."""
        if request.tok != "fleet:index:forecast":
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"no such function: {request.tok}")
        for line in self._notes.lines(self._parallel):
            self._engine.say(to_dict(request.args)["beside"], line)
        return provider_pb2.InvokeResponse()

    # --- helpers

    def _resource(self, urn: str) -> Resource:
        return self._made[base.kind_of(urn)]

    def _request(self, urn: str, keep: Callable[[Callable[[], Props]], None] = lambda half: None) -> Request:
        say = self._engine.say
        return Request(
            urn,
            lambda text, ephemeral: say(urn, text, ephemeral),
            self.cancelled,
            lambda text: say(urn, text, warning=True),
            keep,
        )

    def _foretell(self, urn: str, planned: Sequence[effects.Effect], olds: Props | None = None) -> None:
        """Note and tell what a preview foresees: of a create (no olds) mostly that it is new."""
        if olds is None and not planned:
            self._notes.created(urn)
            return
        self._notes.updated(urn, planned, (olds or {}).get("took") or {})
        for effect in reversed(planned):  # a status: the last, the strongest, stays
            self._engine.say(urn, effects.in_words(effect, base.name_of(urn)), ephemeral=True)

    @contextlib.contextmanager
    def _work(self, context: Context, ident: str, urn: str, given: Props) -> Iterator[Request]:
        """Count work in hand; turn our errors into gRPC's, with what the state should keep. Any other exception is a bug, and keeps it too."""
        half: list[Callable[[], Props]] = []
        work = self._request(urn, half.append)
        with self._lock:
            self._working += 1
        try:
            yield work
        except InitFailed as error:
            self._keep(context, ident, error.properties, self._causes.message(error.error, urn))
        except errors.FleetError as error:
            context.abort(grpc.StatusCode.UNKNOWN, self._causes.message(error, urn))
        except Exception as error:  # noqa: BLE001 # Here alone: gRPC would answer without the state, and what was made on the machine was lost.
            kept = half[-1]() if half else {}
            secrets = [str(given[name]) for name in SECRET if given.get(name)]
            bug = unexpected.explain(error, work, secrets, str(kept.get("log") or ""))
            if kept:
                self._keep(context, ident, kept, str(bug))
            context.abort(grpc.StatusCode.UNKNOWN, str(bug))
        finally:
            with self._lock:
                self._working -= 1

    def _keep(self, context: Context, ident: str, properties: Props, message: str) -> NoReturn:
        """Let the engine save what is known: the thing exists, is not right, and the next `up` goes on with it."""
        detail = provider_pb2.ErrorResourceInitFailed(id=ident, properties=to_struct(properties), reasons=[message])
        status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=message)
        status.details.add().Pack(detail)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.UNKNOWN, message)

"""Pulumi's protocol for the stand-in plugin: what the program says becomes objects on the server, and is read back from there.

At a preview the server judges the objects (dry run), and values that only it knows stay unknown. Started by __main__.py.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import provider_pb2

from fleet import errors
from fleet.cluster import Access, Cluster
from fleet.provider import diffs, protocol
from fleet.provider.engine import Engine
from fleet.provider.properties import has_unknown, to_dict, to_struct
from lab.kubernetes.plugin import awaiting, inputs
from lab.kubernetes.plugin.store import CONFLICT, GONE, INVALID, Manifest, Store, ident, name

Context = grpc.ServicerContext
VERSION = "4.34.2+standin"  # of the SDK that asks for it
INTERVAL = 0.3  # seconds between two looks
SECONDS = 600.0
FORGET = "PULUMI_K8S_DELETE_UNREACHABLE"  # of the environment; only the word `true` counts
GONE_CLUSTER = "configured Kubernetes cluster is unreachable"


class Kubernetes(protocol.Plugin):
    """The stand-in's provider `kubernetes`."""

    version = VERSION
    schema = json.dumps({"name": "kubernetes", "version": VERSION})

    def __init__(self, engine: Engine, resources: None = None) -> None:
        super().__init__()
        self._engine = engine
        self._configured: Store | None = None
        self._unreachable = ""  # why, decided once, when the engine configures this

    # --- the plugin itself

    def Configure(self, request: provider_pb2.ConfigureRequest, context: Context) -> provider_pb2.ConfigureResponse:
        settings = inputs.clear(to_dict(request.args))
        if not has_unknown(settings):
            access = Access(str(settings.get("context") or ""), str(settings.get("kubeconfig") or ""))
            try:
                store = Store(Cluster(access, self.cancelled))
                store.answers()
                self._configured = store
            except errors.FleetError as error:
                self._unreachable = str(error)
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    # --- objects

    def Check(self, request: provider_pb2.CheckRequest, context: Context) -> provider_pb2.CheckResponse:
        metadata = _plain(request.news).get("metadata")
        failures = []
        if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
            reason = "this stand-in makes no names: give one"
            failures.append(provider_pb2.CheckFailure(property="metadata.name", reason=reason))
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def Diff(self, request: provider_pb2.DiffRequest, context: Context) -> provider_pb2.DiffResponse:
        old, new = _plain(request.old_inputs), _plain(request.news)
        changes = diffs.changes(old, new, inputs.replace(new["kind"]))
        with self._work(context, new) as objects:
            if changes and not _replacing(changes) and objects and not has_unknown(new) and _is_fixed(objects, new):
                changes = diffs.changes(old, new, tuple(changes))
            again = awaiting.replaced(new) and objects and _is_unready(objects, new)
        replaces = [*_replacing(changes), *([f'metadata.annotations["{awaiting.REPLACE}"]'] if again else [])]
        some, none = provider_pb2.DiffResponse.DIFF_SOME, provider_pb2.DiffResponse.DIFF_NONE
        return provider_pb2.DiffResponse(
            changes=some if changes or again else none,
            diffs=sorted({path.split(".")[0].split("[")[0] for path in changes}),
            replaces=replaces,
            # Both cannot be there with one name; with another, the new one comes first.
            deleteBeforeReplace=bool(replaces) and old["kind"] == new["kind"] and ident(old) == ident(new),
            detailedDiff={path: provider_pb2.PropertyDiff(kind=kind, inputDiff=True) for path, kind in changes.items()},
            hasDetailedDiff=True,
        )

    def Create(self, request: provider_pb2.CreateRequest, context: Context) -> provider_pb2.CreateResponse:
        manifest = _plain(request.properties)
        with self._work(context, manifest) as objects:
            if request.preview:
                _judge(objects, manifest)
                return provider_pb2.CreateResponse(properties=_struct(manifest))
            objects = self._reached(objects)
            if objects.find(manifest):
                doing, seen = f"create {name(manifest)}", "it exists already, and is not in this stack's state"
                raise errors.FleetError(node=objects.cluster.name, doing=doing, seen=seen)
            live = self._wait(objects, manifest, request.urn, request.timeout, context)
            return provider_pb2.CreateResponse(id=ident(manifest), properties=_struct(live))

    def Update(self, request: provider_pb2.UpdateRequest, context: Context) -> provider_pb2.UpdateResponse:
        """At a preview fields that kubectl has changed are a conflict; an update takes them over."""
        manifest = _plain(request.news)
        with self._work(context, manifest) as objects:
            if request.preview:
                _judge(objects, manifest)
                return provider_pb2.UpdateResponse(properties=_struct(manifest))
            objects = self._reached(objects)
            objects.take_over(manifest)
            live = self._wait(objects, manifest, request.urn, request.timeout, context)
            return provider_pb2.UpdateResponse(properties=_struct(live))

    def Read(self, request: provider_pb2.ReadRequest, context: Context) -> provider_pb2.ReadResponse:
        wanted = _plain(request.inputs) or _plain(request.properties)
        with self._work(context, wanted) as objects:
            if self._forgets(request.urn):
                return provider_pb2.ReadResponse()
            objects = self._reached(objects)
            live = objects.find(wanted)
            if live is None:
                return provider_pb2.ReadResponse()
            shown = _struct(inputs.read_back(wanted, live))
            return provider_pb2.ReadResponse(id=request.id, properties=_struct(live), inputs=shown)

    def Delete(self, request: provider_pb2.DeleteRequest, context: Context) -> empty_pb2.Empty:
        manifest = _plain(request.properties)
        with self._work(context, manifest) as objects:
            if self._forgets(request.urn):
                return empty_pb2.Empty()
            objects = self._reached(objects)
            end = time.monotonic() + (request.timeout or SECONDS)
            with _unless_gone():
                objects.delete(manifest)
                while objects.find(manifest):
                    self._engine.report(request.urn, f"waits for the end of {name(manifest)}", ephemeral=True)
                    if time.monotonic() > end or self.cancelled.wait(INTERVAL):
                        raise errors.FleetError(
                            node=objects.cluster.name, doing=f"delete {name(manifest)}", seen="it is still there"
                        )
            return empty_pb2.Empty()

    # --- helpers

    @contextlib.contextmanager
    def _work(self, context: Context, manifest: Manifest) -> Iterator[Store | None]:
        """Count a request, and turn our errors into gRPC's. The store is None before the cluster is known."""
        with self._counting():
            try:
                yield self._configured
            except errors.FleetError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"resource {ident(manifest)}: {error}")

    def _reached(self, objects: Store | None) -> Store:
        """Return the store. Raises FleetError where the cluster did not answer."""
        if objects is None:
            raise errors.FleetError(seen=f"{GONE_CLUSTER}: {self._unreachable}")
        return objects

    def _forgets(self, urn: str) -> bool:
        """Return whether an object of a cluster that does not answer leaves the state. Raises FleetError if not."""
        if not self._unreachable:
            return False
        self._engine.report(urn, f"{GONE_CLUSTER}: {self._unreachable}", warning=True)
        if os.environ.get(FORGET) != "true":
            todo = f"if it was deleted, {FORGET}=true removes its objects from the state"
            raise errors.FleetError(seen=GONE_CLUSTER, next=todo)
        self._engine.report(urn, f"{GONE_CLUSTER} and {FORGET} is true: removes the object from the state")
        return True

    def _wait(self, objects: Store, manifest: Manifest, urn: str, seconds: float, context: Context) -> dict[str, Any]:
        """Apply an object; return it once it does what it is for, with messages until then; else fail with the state that it has."""
        live, said, end = objects.apply(manifest), "", time.monotonic() + (seconds or SECONDS)
        while not awaiting.skipped(live) and (lacks := awaiting.missing(objects.cluster, live)):
            text = "; ".join([lacks.text, *awaiting.lines(objects.cluster, live)])
            if text != said:
                said = text
                self._engine.report(urn, text, ephemeral=True)
            if lacks.failed or time.monotonic() > end or self.cancelled.wait(INTERVAL):
                protocol.fail_with_state(context, ident(live), _struct(live), text, inputs=_struct(manifest))
            live = objects.find(live) or live
        return live


def _judge(objects: Store | None, manifest: Manifest) -> None:
    """Let the server judge an object. What the same change will make first, as a namespace or a kind, is not there yet. Raises FleetError."""
    if objects and not has_unknown(manifest):
        with _unless_gone():
            objects.apply(manifest, dry_run=True)


def _is_unready(objects: Store, manifest: Manifest) -> bool:
    """Return whether an object exists and does not do what it is for; False where it cannot be read."""
    with contextlib.suppress(errors.FleetError):
        live = objects.find(manifest)
        return live is not None and awaiting.missing(objects.cluster, live) is not None
    return False


def _is_fixed(objects: Store, manifest: Manifest) -> bool:
    """Return whether the server refuses a change because a field cannot be changed."""
    try:
        objects.apply(manifest, dry_run=True)
    except errors.ClusterRefused as error:
        if error.code not in (CONFLICT, GONE, INVALID):
            raise
        return error.code == INVALID and "immutable" in error.seen
    return False


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    """Pass over an object, a namespace or a kind that is not there."""
    try:
        yield
    except errors.ClusterRefused as error:
        if error.code != GONE:
            raise


def _replacing(changes: Mapping[str, Any]) -> list[str]:
    kinds = provider_pb2.PropertyDiff.Kind
    return sorted(path for path, kind in changes.items() if kinds.Name(kind).endswith("_REPLACE"))


def _plain(content: struct_pb2.Struct) -> dict[str, Any]:
    plain: dict[str, Any] = inputs.clear(to_dict(content))
    return plain


def _struct(manifest: Mapping[str, Any]) -> struct_pb2.Struct:
    return to_struct(inputs.hidden(manifest))

"""Pulumi's resource provider protocol: check, diff, create, read, update, delete, cancel.

Knows gRPC and no machine. Needs the resources of the files beside it. Started by plugin.py; the lab's cloud extends it.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2

from fleet import errors
from fleet.impact import effects
from fleet.provider import base, cluster_nodes, diffs, protocol, unexpected
from fleet.provider.approval import Approval
from fleet.provider.base import FROM_RESOURCES, SECRET, InitFailed, Request, Resource
from fleet.provider.causes import Causes
from fleet.provider.change_in_turns import ChangeInTurns
from fleet.provider.engine import Engine
from fleet.provider.kinds import kinds
from fleet.provider.preview_record import PreviewRecord
from fleet.provider.preview_summary import PreviewSummary
from fleet.provider.properties import Props, leaves, to_dict, to_struct
from fleet.provider.slots import PARALLEL, Slots

Context = grpc.ServicerContext


class Fleet(protocol.Plugin):
    """The provider `fleet`.

    Its settings: `parallel`, the limit of Ansible runs; `purge`, what a delete removes in addition; `change`, how nodes take turns;
    `approval`, whether only `fleet apply` changes anything.
    """

    version = "0.1.0"
    turns: type[ChangeInTurns] = ChangeInTurns

    def __init__(self, engine: Engine, resources: Mapping[str, Resource] | None = None) -> None:
        super().__init__()
        self._engine = engine
        self._resources = resources or kinds(Slots())
        self._configurable = resources is None
        self._parallel = PARALLEL
        self._summary = PreviewSummary()
        self._record = PreviewRecord()
        self._approval = Approval()
        self._causes = Causes()
        self._turns = self.turns()

    # --- the plugin itself

    def Configure(self, request: provider_pb2.ConfigureRequest, context: Context) -> provider_pb2.ConfigureResponse:
        settings = to_dict(request.args)
        self._parallel = int(settings.get("parallel") or PARALLEL)
        if self._configurable:
            self._resources = kinds(Slots(self._parallel), str(settings.get("purge") or "").split())
        self._turns = self.turns(str(settings.get("change") or "{}"))  # the defaults
        self._approval = Approval(bool(settings.get("approval")))
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    # --- resources

    def Check(self, request: provider_pb2.CheckRequest, context: Context) -> provider_pb2.CheckResponse:
        self._turns.alive()
        if request.olds.fields:
            self._summary.add_existing(request.urn)
        olds = to_dict(request.olds)
        news = {**{key: olds[key] for key in FROM_RESOURCES if key in olds}, **to_dict(request.news)}
        problems = self._resource(request.urn).check(news)
        failures = [provider_pb2.CheckFailure(property=key, reason=reason) for key, reason in problems.items()]
        return provider_pb2.CheckResponse(inputs=to_struct(news), failures=failures)

    def Diff(self, request: provider_pb2.DiffRequest, context: Context) -> provider_pb2.DiffResponse:
        """Compare with the old inputs and with the old state; find what time alone makes old.

        After a failed update the old inputs are those of the last success; only the state has the drift of a refresh.
        """
        self._turns.alive()
        resource = self._resource(request.urn)
        olds = to_dict(request.olds)
        old_inputs, state, news = (
            {key: value for key, value in side.items() if key not in resource.ignored_inputs}
            for side in (to_dict(request.old_inputs), olds, to_dict(request.news))
        )
        self._record.add(request.urn, resource, news, state)
        changes = diffs.changes(old_inputs, news, resource.replace)
        changes |= diffs.changes(
            {key: value for key, value in state.items() if key not in resource.computed}, news, resource.replace
        )
        in_state = [*(["drift"] if olds.get("drift") else []), *resource.due(olds)]
        changes |= dict.fromkeys(in_state, diffs.Kind.UPDATE)
        replaces = sorted(path for path, kind in changes.items() if diffs.Kind.Kind.Name(kind).endswith("_REPLACE"))
        if replaces:
            self._summary.add_replacement(request.urn, [f"{path} changed" for path in replaces])
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if changes else provider_pb2.DiffResponse.DIFF_NONE,
            diffs=sorted({path.split(".")[0].split("[")[0] for path in changes}),
            replaces=replaces,
            detailedDiff={
                path: provider_pb2.PropertyDiff(kind=kind, inputDiff=path not in in_state)
                for path, kind in changes.items()
            },
            hasDetailedDiff=True,
            deleteBeforeReplace=True,
        )

    def Create(self, request: provider_pb2.CreateRequest, context: Context) -> provider_pb2.CreateResponse:
        resource, inputs = self._resource(request.urn), to_dict(request.properties)
        if request.preview:
            self._record.add(request.urn, resource, inputs, {})
            self._predict(request.urn, resource.create_effects(inputs))
            return provider_pb2.CreateResponse(id="", properties=to_struct(resource.planned_outputs(inputs, {}, None)))
        # Deterministic, so that a second try after a crash has the same ID.
        ident = f"{base.kind_of(request.urn).lower()}/{base.name_of(request.urn)}"
        with self._work(context, ident, request.urn, inputs) as work:
            self._approval.check_create(request.urn, resource, inputs)
            properties = resource.apply(work, inputs, None)
            return provider_pb2.CreateResponse(id=ident, properties=to_struct(properties))

    def Update(self, request: provider_pb2.UpdateRequest, context: Context) -> provider_pb2.UpdateResponse:
        resource, inputs, olds = self._resource(request.urn), to_dict(request.news), to_dict(request.olds)
        old_inputs = to_dict(request.old_inputs)
        if request.preview:
            replicas = len(resource.one_at_a_time(old_inputs, inputs, olds))
            with self._work(context, request.id, request.urn, inputs):  # an update that its resource refuses
                effects_of_run = resource.effects(old_inputs, inputs, olds)
            self._predict(request.urn, effects_of_run, olds, replicas)
            return provider_pb2.UpdateResponse(properties=to_struct(resource.planned_outputs(inputs, old_inputs, olds)))
        with self._work(context, request.id, request.urn, inputs) as work:
            self._approval.check_update(request.urn, resource, old_inputs, inputs, olds)
            properties = self._turns.update(resource, work, old_inputs, inputs, olds)
            return provider_pb2.UpdateResponse(properties=to_struct(properties))

    def Read(self, request: provider_pb2.ReadRequest, context: Context) -> provider_pb2.ReadResponse:
        """Read the machine. Return the inputs of the state unchanged, or a machine without drift would show changes.

        If another Read has failed for the same cause, return the old state: that error has already failed the run.
        """
        properties = to_dict(request.properties)
        with self._work(context, request.id, request.urn, properties) as work:
            try:
                current = self._resource(request.urn).read(work, properties)
            except errors.FleetError as error:
                if not self._causes.earlier(error, request.urn):
                    raise
                return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)
            if current is None:
                return provider_pb2.ReadResponse()
            return provider_pb2.ReadResponse(id=request.id, properties=to_struct(current), inputs=request.inputs)

    def Delete(self, request: provider_pb2.DeleteRequest, context: Context) -> empty_pb2.Empty:
        properties = to_dict(request.properties)
        with self._work(context, request.id, request.urn, properties) as work:
            self._approval.check(request.urn, ("delete", "replace"))
            self._turns.delete(work, properties)
            self._resource(request.urn).delete(work, properties)
            return empty_pb2.Empty()

    def Invoke(self, request: provider_pb2.InvokeRequest, context: Context) -> provider_pb2.InvokeResponse:
        """Call a function of the provider beside the resource `beside`: one of _FUNCTIONS."""
        call, arguments = self._FUNCTIONS.get(request.tok.removeprefix("fleet:index:")), to_dict(request.args)
        if call is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"no such function: {request.tok}")
        response = provider_pb2.InvokeResponse()
        getattr(response, "return").CopyFrom(to_struct(call(self, arguments)))
        return response

    def _forecast(self, arguments: Props) -> Props:
        """Show a summary of the preview: {order: the nodes that serve, the canary first, none without turns; proxies: whether they can drain}.

        `ports` are lines about ports that the user opens, shown where a change may need that. Of a cluster of own machines `planes` are its
        control planes, and `podless` those machines that take no pods of users.
        """
        planes, podless = arguments.get("planes") or (), arguments.get("podless") or ()
        turns = self._turns.forecast(arguments.get("order") or (), bool(arguments.get("proxies")), planes, podless)
        for line in self._summary.lines(self._parallel, turns, arguments.get("ports") or ()):
            self._engine.report(arguments["beside"], line)
        self._record.send(self._engine, arguments["beside"], self._summary.changes(turns), turns, self._parallel)
        return {}

    def _census(self, arguments: Props) -> Props:
        """Ask the nodes whether they serve: {order: names, the canary first; nodes: their connections; planes: of a cluster of own machines}."""
        request = self._request(arguments["beside"])
        with self._turns.request():
            self._turns.census(arguments["order"], arguments["nodes"], request, arguments.get("planes") or ())
        return {}

    def _passed(self, arguments: Props) -> Props:
        """End the turn of a `node` whose Serving is resolved, `ok` or not; return {error: message} if it does not serve then."""
        request = self._request(arguments["beside"])
        try:
            with self._turns.request():
                self._turns.passed(arguments["node"], arguments["ok"], request)
        except errors.FleetError as error:
            return {"error": self._causes.message(error, request.urn)}
        return {}

    _FUNCTIONS: Mapping[str, Callable[["Fleet", Props], Props]] = {
        "forecast": _forecast,
        "census": _census,
        "passed": _passed,
        "cluster_nodes": lambda self, arguments: cluster_nodes.ask(arguments, self._request(arguments["beside"])),
    }

    # --- helpers

    def _resource(self, urn: str) -> Resource:
        return self._resources[base.kind_of(urn)]

    def _request(self, urn: str, keep: Callable[[Callable[[], Props]], None] = lambda state: None) -> Request:
        report = self._engine.report
        return Request(
            urn,
            lambda text, ephemeral: report(urn, text, ephemeral),
            self.cancelled,
            lambda text: report(urn, text, warning=True),
            keep,
        )

    def _predict(
        self, urn: str, planned: Sequence[effects.Effect], olds: Props | None = None, replicas: int = 0
    ) -> None:
        """Add the effects of a create (no olds) or an update to the preview's summary, and show them beside the resource.

        `replicas` are those that it can change one after the other.
        """
        if olds is None and not planned:
            self._summary.add_create(urn)
            return
        self._summary.add_update(urn, planned, (olds or {}).get("took") or {}, replicas)
        for effect in reversed(planned):  # as its status, which in the end shows the strongest
            self._engine.report(urn, effects.in_words(effect, base.name_of(urn)), ephemeral=True)

    @contextlib.contextmanager
    def _work(self, context: Context, ident: str, urn: str, properties: Props) -> Iterator[Request]:
        """Count a request; turn our errors, and unexpected exceptions, into gRPC's, with the state to save."""
        states: list[Callable[[], Props]] = []
        work = self._request(urn, states.append)
        with self._counting():  # until the state of a failure is handed over
            try:
                with self._turns.request():
                    yield work
            except InitFailed as error:
                self._turns.alive(failed=True)
                message = self._causes.message(error.error, urn)
                protocol.fail_with_state(context, ident, to_struct(error.properties), message)
            except errors.FleetError as error:
                self._turns.alive(failed=True)
                context.abort(grpc.StatusCode.UNKNOWN, self._causes.message(error, urn))
            except Exception as error:  # noqa: BLE001 # only here: otherwise gRPC answers without the state, and it is lost
                state = states[-1]() if states else {}
                self._turns.alive(failed=True)
                secrets = [str(leaf) for name in SECRET for leaf in leaves(properties.get(name)) if leaf]
                bug = unexpected.explain(error, work, secrets, str(state.get("log") or ""))
                if state:
                    protocol.fail_with_state(context, ident, to_struct(state), str(bug))
                context.abort(grpc.StatusCode.UNKNOWN, str(bug))

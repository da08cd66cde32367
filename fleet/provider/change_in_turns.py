"""Change the nodes of a stack in turns: wait for the turn, drain, change, prove, give back, hold the canary; go back when it fails.

Called by the servicer around each update. turns.py decides the order, rotation.py and rollback.py work on the node, member_turns.py on a member of
a cluster. Where the program's census names no node, everything is changed at once, as its requests arrive.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fleet import errors, ssh
from fleet.impact import forecast_turns
from fleet.managed import rotation, snapshot
from fleet.managed.rotation import TURN
from fleet.managed.standing import Standing
from fleet.provider import canary_hold, replica_turns, rollback
from fleet.provider.base import InitFailed, Request, Resource, on_failure
from fleet.provider.member_turns import MemberTurns
from fleet.provider.properties import Props
from fleet.provider.replica_turns import ReplicaTurns
from fleet.provider.serving import Serving
from fleet.provider.turns import Change, Turns

# Seconds that replicas may take to be healthy where no run of Serving waits for them.
START = 3600.0


class ChangeInTurns:
    """The turns of one run, with the nodes' connections; `setting` is the provider's `change`, "" before it is configured: no turns."""

    def __init__(self, setting: str = "", turns: Turns | None = None) -> None:
        self._turns = turns or (Turns(Change.from_setting(setting)) if setting else None)
        self._targets: Mapping[str, ssh.Target | None] = {}
        self._members: MemberTurns | None = None  # in a stack whose machines are a cluster

    # --- what the Pulumi engine and the program ask

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Count a request in progress."""
        with self._turns.request() if self._turns else contextlib.nullcontext():
            yield

    def alive(self, failed: bool = False) -> None:
        """Record that the Pulumi engine has asked something, or that a request has `failed`."""
        if self._turns:
            self._turns.alive(failed)

    def census(
        self, order: Sequence[str], nodes: Mapping[str, Mapping[str, Any]], request: Request, planes: Sequence[str] = ()
    ) -> None:
        """Ask each node of the order whether it serves; `nodes` has the connections of those that have not failed in this run.

        Of a cluster of own machines one of its control planes, `planes`, is asked.
        """
        if not self._turns:
            return
        targets = {name: ssh.Target.from_inputs(nodes[name]) if name in nodes else None for name in order}
        if planes:
            self._members = MemberTurns(self._turns)
            self._members.census(order, {name: targets[name] for name in planes}, request)
        else:
            self._targets = targets
            self._turns.take_census(order, rotation.census(targets, lambda text: request.report(text, False)))

    def passed(self, node: str, ok: bool, request: Request) -> None:
        """End the turn of a node whose Serving needed no update, or did not get there. Raises FleetError for one that does not serve."""
        if not self._turns:
            return
        target = self._targets.get(node)
        unfinished = self._turns.standing(node) is Standing.UNFINISHED
        if target and ok and (self._turns.is_open(node) or unfinished):
            with self._ends_with_failure(node, request, target, serves_on=True):
                self._give_back(node, request, target, wait=True)
        elif target and self._turns.is_open(node):
            self._turns.failed(node, "failed", self._serves_on(node, request, target))
        self._turns.resolved(node, ok)

    def update(self, resource: Resource, request: Request, old_inputs: Props, inputs: Props, old: Props) -> Props:
        """Update a resource in its node's turn, if the update interrupts what the node serves. Raises InitFailed or FleetError."""
        if not self._turns or request.kind not in forecast_turns.KINDS:
            return resource.apply(request, inputs, old)
        node, target = request.name, ssh.Target.from_inputs(inputs["node"])
        effects = resource.effects(old_inputs, inputs, old)
        interrupts = any(forecast_turns.interrupts(request.kind, effect) for effect in effects)
        if interrupts:
            self._turns.enter(node, lambda text: request.report(text, True), request.cancelled)
        if not self._turns.is_open(node):
            return resource.apply(request, inputs, old)
        if self._members:
            return self._members.change(resource, request, inputs, old)
        with self._ends_with_failure(node, request, target, serves_on=request.kind != "Serving"):
            names = self._one_at_a_time(target, resource.one_at_a_time(old_inputs, inputs, old) if interrupts else ())
            if interrupts and not names:
                self._drain(request, target)
            if isinstance(resource, Serving):
                replicas = ReplicaTurns(resource, request, target, names, self._turns.change.drain) if names else None
                return self._update_serving(resource, request, old_inputs, inputs, old, replicas)
            return resource.apply(request, inputs, old)

    def delete(self, request: Request, properties: Props) -> None:
        """Drain a node before its Serving is deleted, in a run with a program; a node that cannot be drained is deleted all the same."""
        if not self._turns or request.kind != "Serving" or not self._turns.begun:
            return
        with contextlib.suppress(errors.Unreachable, errors.CommandFailed):
            self._drain(request, ssh.Target.from_inputs(properties["node"]))

    def forecast(
        self, order: Sequence[str], proxies: bool, planes: Sequence[str] = (), podless: Sequence[str] = ()
    ) -> forecast_turns.Turns | None:
        """Return the turns that a preview describes, for the nodes that serve, the canary first; None for a stack without turns."""
        if not self._turns or not order:
            return None
        change = self._turns.change
        nodes = {"planes": tuple(planes), "podless": tuple(podless)}
        return forecast_turns.Turns(
            tuple(order), change.at_once, change.canary, change.hold, change.drain, proxies, **nodes
        )

    # --- a turn

    def _one_at_a_time(self, target: ssh.Target, names: Sequence[str]) -> list[str]:
        """Return the replicas among the names in the order of their change; [] where the whole node must leave rotation."""
        if not names:
            return []
        with ssh.connect(target) as connection:
            return replica_turns.order(rotation.look(connection), names)

    def _update_serving(
        self,
        serving: Serving,
        request: Request,
        old_inputs: Props,
        inputs: Props,
        old: Props,
        replicas: ReplicaTurns | None = None,
    ) -> Props:
        """Update Serving and put the node back into rotation. A failed one goes back to what served before, and keeps no new state.

        With `replicas` these are changed one after the other, and the node stays in rotation.
        """
        assert self._turns
        node, target = request.name, ssh.Target.from_inputs(inputs["node"])
        served = self._turns.standing(node) in (Standing.SERVES, Standing.DRAINED)
        with ssh.connect(target) as connection:
            taken = rollback.keep(connection, old, served)
        # The files of an unfinished change are on the node, perhaps without their restart: the role sees no change.
        again = [replica["name"] for replica in inputs["vars"].get("vllm_replicas") or ()] if taken.unfinished else []
        if replicas and taken.unfinished:
            replicas.continues()
        try:
            properties = replicas.change(inputs, old) if replicas else serving.change(request, inputs, old, again)
            try:
                self._give_back(node, request, target, properties, key=str(inputs.get("api_key") or ""))
            except errors.FleetError as error:
                raise InitFailed(properties, error) from error
        except InitFailed as failure:
            failed = isinstance(failure.error, errors.ConvergeFailed | errors.ProbeFailed)
            if not (taken.kept and failed) or isinstance(failure.error, errors.Cancelled):
                raise
            raise self._went_back(serving, request, target, old_inputs, failure, replicas) from failure
        return properties

    def _went_back(
        self,
        serving: Serving,
        request: Request,
        target: ssh.Target,
        old_inputs: Props,
        failure: InitFailed,
        replicas: ReplicaTurns | None,
    ) -> errors.FleetError:
        """Put the node back to what served before; return the error of the update. Raises InitFailed if that fails, too."""
        assert self._turns
        try:
            if replicas:
                replicas.go_back(old_inputs, failure)
            else:
                self._drain(request, target)  # a canary that died in its hold is in rotation
            with ssh.connect(target) as connection:
                if not replicas:
                    rollback.go_back(serving, request, connection, old_inputs, failure)
                rotation.undrain(connection, TURN, request.cancelled, key=str(old_inputs.get("api_key") or ""))
                snapshot.drop(connection)
        except errors.FleetError as error:
            raise InitFailed(failure.properties, rollback.did_not_go_back(failure.error, error)) from error
        self._turns.failed(request.name, "failed", serves=True)
        return rollback.went_back(failure.error)

    def _drain(self, request: Request, target: ssh.Target) -> None:
        """Take the node out of rotation, and report what the drain's bound cuts. Raises FleetError."""
        assert self._turns
        replica_turns.drain(request, target, self._turns.change.drain)

    def _give_back(
        self,
        node: str,
        request: Request,
        target: ssh.Target,
        properties: Props | None = None,
        wait: bool = False,
        key: str = "",
    ) -> None:
        """Put the node back into rotation, and let a canary hold. `wait` for its replicas first; `properties` and `key` are of its Serving.

        Raises InitFailed for a canary that dies in its hold, with the properties.
        """
        assert self._turns
        with ssh.connect(target) as connection:
            if wait and not self._becomes_healthy(request, connection):
                raise _unhealthy(target, "put it back into rotation")
            back = rotation.undrain(connection, TURN, request.cancelled, key=key)
            if not back:
                request.report("stays out of rotation: an operator drained it", False)
            canary = back and node == self._turns.canary
            pause = canary_hold.hold(self._turns.change, request, connection, properties) if canary else ""
            snapshot.drop(connection)
        if pause:
            request.warn(f"{node} {pause}")
            self._turns.paused(node, pause)
        else:
            self._turns.passed(node)

    # --- the end of a turn that fails

    def _ends_with_failure(
        self, node: str, request: Request, target: ssh.Target, serves_on: bool
    ) -> contextlib.AbstractContextManager[None]:
        """End the node's turn if its work fails. `serves_on`: what it served is unchanged, and goes on where it is healthy."""
        turns = self._turns
        assert turns

        def end(error: errors.FleetError | None) -> None:
            if not turns.is_open(node):
                return
            if isinstance(error, errors.Cancelled):
                turns.failed(node, "was cancelled", serves=False)
            elif isinstance(error, errors.Unreachable | errors.CommandFailed):
                turns.failed(node, f"is inconclusive: {error.seen}", serves=False)
            else:
                serves = error is not None and serves_on and self._serves_on(node, request, target)
                turns.failed(node, "failed", serves)

        return on_failure(end)

    def _serves_on(self, node: str, request: Request, target: ssh.Target) -> bool:
        """Put a node whose Serving is unchanged back into rotation if its replicas are healthy; return whether it is."""
        try:
            with ssh.connect(target) as connection:
                if self._becomes_healthy(request, connection) and rotation.undrain(connection, TURN, request.cancelled):
                    request.report("its replicas are as before, and healthy: it is back in rotation", False)
                    return True
                seen = "its replicas are not healthy"
        except errors.FleetError as error:
            seen = error.seen
        request.warn(f"{node} stays out of rotation: {seen}")
        return False

    def _becomes_healthy(self, request: Request, connection: ssh.Connection) -> bool:
        """Wait while replicas start; return whether all are active."""
        for seen in rotation.watch(connection, START, request.cancelled):
            if not seen.inactive:
                return True
            if not any(seen.replicas[name]["unit"] in ("activating", "deactivating") for name in seen.inactive):
                return False
            request.report(f"waits for {', '.join(seen.inactive)}", True)
        return False


def _unhealthy(target: ssh.Target, doing: str) -> errors.ProbeFailed:
    return errors.ProbeFailed(
        node=target.name,
        doing=doing,
        seen="its replicas are not healthy",
        wanted="active units of all replicas",
        next=f"{target.login} systemctl status; then `pulumi up --refresh` repairs them",
    )

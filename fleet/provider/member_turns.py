"""Change a member of the stack's own cluster in its turn: cordon, evict its pods, change it, wait until it is ready, give it back.

For what interrupts its pods: an upgrade of Kubernetes (Member), and what Host reboots. turns.py decides whose turn it is, and the Pulumi engine
that the control planes go before the workers. Needs a control plane that answers. Called by change_in_turns.py.
"""

import contextlib
import time
from collections.abc import Collection, Mapping, Sequence

from fleet import errors, ssh
from fleet.managed import member_pods
from fleet.managed.member_pods import Owner
from fleet.managed.standing import Standing
from fleet.provider.base import InitFailed, Request, Resource, on_failure
from fleet.provider.member import Member
from fleet.provider.properties import Props
from fleet.provider.turns import Turns

# Seconds: between two looks; until a member that was changed is ready; until the pods that were on it are, which may load a model.
INTERVAL, READY, PODS = 3.0, 900.0, 3600.0
CONNECT = 10.0


class MemberTurns:
    """The turns of the members of one cluster. `plane` is the control plane that is asked, None before there is a cluster."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.plane: ssh.Target | None = None

    def census(self, order: Sequence[str], planes: Mapping[str, ssh.Target | None], request: Request) -> None:
        """Ask the first control plane that answers how the members stand; without a cluster nobody has a turn.

        Where none answers, each machine has its turn, which then fails.
        """
        unreached = dict.fromkeys(order, Standing.SERVES)
        standings = dict.fromkeys(order, Standing.NOTHING)
        for name, target in planes.items():
            if target is None:
                standings = unreached
                continue
            try:
                with ssh.connect(target, CONNECT) as connection:
                    if not member_pods.is_plane(connection):
                        continue
                    self.plane = target
                    members = member_pods.look(connection)
            except errors.FleetError as error:
                request.report(f"{name} does not say how the members are: {error.doing}: {error.seen}", False)
                self.plane = self.plane or target
                standings = unreached
                continue
            standings = {name: members[name].standing if name in members else Standing.NOTHING for name in order}
            break
        self._turns.take_census(order, standings)

    def change(self, resource: Resource, request: Request, inputs: Props, old: Props) -> Props:
        """Change a member whose turn has begun; it takes pods again afterwards. Raises InitFailed or FleetError."""
        with self._turn(request, ssh.Target.from_inputs(inputs["node"])):
            owners = self._drain(resource, request, inputs)
            properties = resource.apply(request, inputs, old)
            if owners is None:
                self._turns.passed(request.name)
                return properties
            try:
                self._give_back(request, owners)
            except errors.FleetError as error:
                raise InitFailed(properties, error) from error
        self._turns.passed(request.name)
        return properties

    # --- the steps of a turn

    def _drain(self, resource: Resource, request: Request, inputs: Props) -> Collection[Owner] | None:
        """Cordon the member and wait until its pods have ended; return the controllers of those that were ready.

        One that is not ready ends no pod: an upgrade waits for none, and anything else needs no drain, None.
        """
        name, seconds = request.name, self._turns.change.drain
        end, last = time.monotonic() + seconds, ""
        owners: set[Owner] = set()
        with self._connected() as connection:
            members = member_pods.look(connection)
            ready = name in members and members[name].ready
            if isinstance(resource, Member):
                resource.check_skew(inputs, members)
            elif not ready:
                return None
            if not member_pods.cordon(connection, name):
                request.report("somebody else has cordoned it: it stays so", False)
            while True:
                evicted = member_pods.evict(connection, name)
                owners |= evicted.owners
                if evicted.bare:
                    raise _bare(name, evicted.bare)
                if not ready or not (evicted.left or evicted.held):
                    return owners
                line = "; ".join(
                    [*(f"{pod} ends" for pod in evicted.left), *(f"{pod}: {why}" for pod, why in evicted.held.items())]
                )
                if line != last:
                    last = line
                    request.report(f"drains: {line}", True)
                if time.monotonic() > end:
                    raise _not_drained(name, line, seconds)
                self._pause(request, "drain it")

    def _give_back(self, request: Request, owners: Collection[Owner]) -> None:
        """Uncordon the member once it is ready, and wait for the pods that were on it."""
        name = request.name
        if not self._waits_for_member(request):
            raise _not_ready(name, f"it is not ready after {READY:g} s", "a Node that is ready", name)
        with self._connected() as connection:
            if not member_pods.uncordon(connection, name):
                request.report("stays cordoned: by somebody else", False)
                return
        end, last = time.monotonic() + PODS, ""
        while True:
            with self._connected() as connection:
                pods = member_pods.waiting(connection, name, owners)
            if not pods:
                return
            line = f"waits for {', '.join(pods)}"
            if line != last:
                last = line
                request.report(line, True)
            if time.monotonic() > end:
                seen = f"{', '.join(pods)}, which were there, are not ready after {PODS:g} s"
                raise _not_ready(name, seen, "the pods that it had, here or elsewhere", pods[0])
            self._pause(request, "wait for the pods that it had")

    def _waits_for_member(self, request: Request) -> bool:
        """Return whether the member becomes ready. Its own API server, and its sshd, may have restarted meanwhile."""
        end = time.monotonic() + READY
        while time.monotonic() < end:
            with contextlib.suppress(errors.Unreachable, errors.CommandFailed), self._connected() as connection:
                members = member_pods.look(connection)
                if request.name in members and members[request.name].ready:
                    return True
            self._pause(request, "wait until it is ready")
        return False

    # --- the end of a turn that fails

    def _turn(self, request: Request, machine: ssh.Target) -> contextlib.AbstractContextManager[None]:
        """End the turn if its work fails, and hold back the others."""

        def end(error: errors.FleetError | None) -> None:
            cancelled = isinstance(error, errors.Cancelled)
            back = error is not None and not cancelled and self._comes_back(request, machine)
            self._turns.failed(request.name, "was cancelled" if cancelled else "failed", serves=back)

        return on_failure(end)

    def _comes_back(self, request: Request, machine: ssh.Target) -> bool:
        """Uncordon a member that is ready and not between two versions; return whether it takes pods."""
        name = request.name
        try:
            with ssh.connect(machine, CONNECT) as connection:
                upgrading = member_pods.is_upgrading(connection)
            with self._connected() as connection:
                member = member_pods.look(connection).get(name)
                if member and not member.cordoned:
                    return True
                if upgrading:
                    seen = "it is between two versions, and `pulumi up` continues there"
                elif not member or not member.ready:
                    seen = "it is not ready"
                elif member_pods.uncordon(connection, name):
                    request.report("it is as before, and ready: it takes pods again", False)
                    return True
                else:
                    seen = "somebody else has cordoned it"
        except errors.FleetError as error:
            seen = error.seen
        request.warn(f"{name} stays cordoned: {seen}")
        return False

    # --- helpers

    def _connected(self) -> contextlib.AbstractContextManager[ssh.Connection]:
        """Return a connection to the control plane that is asked. Raises Unreachable."""
        if self.plane is None:
            raise errors.Unreachable(doing="ask a control plane", seen="none of them answers")
        return ssh.connect(self.plane, CONNECT)

    def _pause(self, request: Request, doing: str) -> None:
        if request.cancelled.wait(INTERVAL):
            raise errors.Cancelled(node=request.name, doing=doing, seen="cancelled")


def _bare(name: str, pods: Sequence[str]) -> errors.FleetError:
    return errors.NotReady(
        node=name,
        doing="drain it",
        seen=f"{', '.join(pods)}: no controller would make {'it' if len(pods) == 1 else 'them'} again elsewhere",
        wanted="pods of a Deployment, a StatefulSet or a Job",
        next=f"`kubectl delete pod -n {pods[0].replace('/', ' ')}` if nobody needs it; then `pulumi up`",
    )


def _not_drained(name: str, line: str, seconds: float) -> errors.FleetError:
    return errors.NotReady(
        node=name,
        doing="drain it",
        seen=f"after {seconds:g} s {line}",
        wanted=f"its pods elsewhere within {seconds:g} s (`drain` of glm-fleet:change), as their disruption budgets allow",
        next="`kubectl get pdb --all-namespaces` and `kubectl get pods --all-namespaces` show what is short; then `pulumi up`",
    )


def _not_ready(name: str, seen: str, wanted: str, about: str) -> errors.FleetError:
    kind, _, rest = ("pod -n", "", about.replace("/", " ")) if "/" in about else ("node", "", about)
    return errors.NotReady(
        node=name,
        doing="give it back",
        seen=seen,
        wanted=wanted,
        next=f"`kubectl describe {kind} {rest}`; then `pulumi up`",
    )

"""The Ansible resources Host, Image, Weights, Serving and Gateway: a playbook run, the things that it declared, their drift, their teardown.

Called by the servicer. Needs fleet.ansible, fleet.managed, playbooks/ and roles/. image.py, weights.py, serving.py and
gateway.py extend it.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet import drift, errors, ssh
from fleet.ansible import converge, progress
from fleet.impact import effects
from fleet.impact.effects import Effect, Reason
from fleet.managed import daemon_options, differences, managed_set, reader, revert
from fleet.provider import base, outputs, preview_summary, teardown
from fleet.provider.base import ROOT, BaseResource, InitFailed, Request
from fleet.provider.node import CONNECTION_CHANGED, REINSTALLED, is_reinstalled
from fleet.provider.properties import UNKNOWN, Props, has_unknown, readable
from fleet.provider.slots import Slots
from fleet.stack import resource_roles

# `took`: seconds of the last run by level of fleet.impact.effects; `new` is the first run.
BASE = ("managed", "drift", "seconds", "took", "log")
# Results that each restart changes, and nothing else.
RESTARTED = ("engine",)
# Secret inputs, and the environment variable that passes each to the playbook.
SECRETS = {"api_key": "VLLM_API_KEY", "token": "WEIGHTS_TOKEN"}

Converge = Callable[[converge.Job, Callable[[progress.Note], None], threading.Event], converge.Outcome]
Read = Callable[[ssh.Target, Sequence[managed_set.Declared]], list[managed_set.State]]


class Playbook(BaseResource):
    """One kind of Ansible resource: its playbook is playbooks/KIND.yml, its results are the run's fleet_KIND."""

    replace: Collection[str] = ("node.name",)

    def __init__(
        self,
        kind: str,
        outputs: Sequence[str],
        slots: Slots,
        run: Converge = converge.converge,
        read: Read = reader.read_many,
        purge: Collection[str] = (),
    ) -> None:
        self._kind, self._outputs, self._slots, self._run, self._read = kind.lower(), tuple(outputs), slots, run, read
        self.name = kind
        self._purge = purge  # `weights`, `driver`: a teardown keeps these otherwise
        self.computed: Collection[str] = (*BASE, *outputs)

    def check(self, inputs: Props) -> Mapping[str, str]:
        """Require objects; fleet.stack validates the variables. After a failure the Pulumi engine omits some: see FROM_RESOURCES."""
        absent = {"roles": None, "node": UNKNOWN, "vars": UNKNOWN}
        return {
            key: "must be an object"
            for key, nothing in absent.items()
            if not isinstance(value := inputs.get(key, nothing), dict) and value != UNKNOWN
        }

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """Return the old results, UNKNOWN where a change decides them (roles/ROLE/meta/effects.yml: results)."""
        old = _same_installation(inputs, old)
        if old is None:
            return {**inputs, **dict.fromkeys(self.computed, UNKNOWN), "drift": []}
        undetermined = inputs.get("vars") == UNKNOWN or effects.decides([old_inputs, old], inputs, ROOT / "roles")
        unknown = set(self._outputs) - {*RESTARTED} if undetermined else set()
        by_restart = {*RESTARTED} & {*self._outputs}
        effects_of_run = self.effects(old_inputs, inputs, old) if by_restart else []
        if any(effect.level in ("restart", "reboot") for effect in effects_of_run):
            unknown |= by_restart
        results = {key: UNKNOWN if key in unknown else old.get(key, UNKNOWN) for key in self._outputs}
        return {**inputs, **{key: old.get(key, UNKNOWN) for key in BASE}, "drift": [], **results}

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """Return the effects that the roles state for changed inputs, and for the repair of drift."""
        if _same_installation(inputs, old) is None:
            return [Effect("recreate", (self._kind.capitalize(),), (REINSTALLED,))]
        olds, roles = [old_inputs, old], ROOT / "roles"  # after a failed update both still matter, as in Diff
        more = self.reasons(old_inputs, inputs, old)
        if has_unknown(inputs.get("node")):
            return [effects.at_worst(olds, "its machine does not exist yet", roles)]
        if inputs["vars"] == UNKNOWN:
            *before, after = ({**side, "vars": old.get("vars")} for side in (*olds, inputs))
            predicted = effects.predict(before, after, drift.recorded(old), roles, more)
            return [self._effect_of_unknown(olds, inputs, roles), *predicted]
        after = {**inputs, "vars": readable(inputs["vars"])}
        predicted = effects.predict(olds, after, drift.recorded(old), roles, more)
        changed = [key for key in inputs if any(side.get(key) != inputs[key] for side in olds)]
        if not predicted and not changed:
            return [effects.at_worst(olds, "goes on where its last run stopped", roles)]
        reason = CONNECTION_CHANGED if changed == ["node"] else f"{', '.join(changed)} changed"
        return predicted or [Effect("none", (), (reason,))]

    def reasons(self, old_inputs: Props, inputs: Props, old: Props) -> Sequence[Reason]:
        """Return reasons for effects that no role states; none for most kinds."""
        return ()

    def _effect_of_unknown(self, olds: Sequence[Props], inputs: Props, roles: Path) -> Effect:
        """Return the effect of unknown variables. Image and Weights plan unknown outputs only if these will change."""
        words = {"image": "a new image", "weights": "new weights"}
        new = [text for name, text in words.items() if has_unknown(inputs.get(name))]
        if new:
            return effects.at_worst(olds, f"it gets {' and '.join(new)}", roles, sure=True)
        return effects.at_worst(olds, "its variables are known only during the update", roles)

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Run the playbook, then read the things that it declared: their state is the expected state. Raises InitFailed."""
        return self.run(request, inputs, old, {})

    def run(self, request: Request, inputs: Props, old: Props | None, more: Mapping[str, Any]) -> Props:
        """Do what `apply` does, with `more` variables for the roles of this run alone. Raises InitFailed."""
        target, old = ssh.Target.from_inputs(inputs["node"]), _same_installation(inputs, old)
        old_managed = (old or {}).get("managed") or {}
        old_declared = outputs.well_formed(managed_set.Declared.from_json(old_managed.get("declared") or {}))
        log = self._log(request)
        state = {
            **inputs,
            **{key: (old or {}).get(key) for key in self._outputs},
            "log": str(log),
            "drift": [],
            "seconds": {},
            "took": (old or {}).get("took") or {},
            **self.made_outputs(request, inputs, old),
        }
        all_declared = old_declared

        def partial_state() -> Props:
            """Return the state of an unfinished run."""
            managed = {"declared": all_declared.to_json(), "expected": old_managed.get("expected") or {}}
            return {**state, "managed": managed, "drift": (old or {}).get("drift") or []}

        request.keep(partial_state)
        try:
            with self._slots.hold(request):
                drifted = self._drifted(target, old or {}, old_declared)
                job = converge.Job(
                    target=target,
                    playbook=ROOT / "playbooks" / f"{self._kind}.yml",
                    variables=_stack_variables(inputs["vars"]),
                    data={
                        **_result_variables(inputs["vars"]),
                        **self.state_variables(old),
                        **drifted.variables,
                        "fleet_roles": [*inputs["roles"]],
                        **more,
                    },
                    log=log,
                    secrets=self.environment(state),
                    roles=resource_roles.ROLES[self._kind],
                )
                outcome = self._run(job, lambda note: request.report(note.text, note.ephemeral), request.cancelled)
            all_declared = all_declared.merge(outputs.well_formed(outcome.declared))
            next_step = f"see {log}; {job.next_step}"
            declared = outputs.check_declared(self.name, target, outcome.declared, next_step)
            results = outcome.results.get(f"fleet_{self._kind}") or {}
            results = outputs.check_results(self.name, target, results, next_step)
            declared = declared.merge(_restrict(old_declared, declared))
            actual = self._read(target, [declared])[0]
            expected = self._expected(actual, old_managed.get("expected") or {}, inputs)
        except errors.FleetError as error:
            all_declared = all_declared.merge(outputs.well_formed(managed_set.Declared.from_json(error.partial)))
            raise InitFailed(partial_state(), error) from error
        undeclared = differences.drift(expected, actual)
        for difference in undeclared:
            text = "kept, and reported as drift until docker_daemon_options has it or somebody removes it"
            request.report(f"{text}: {difference}", False)
        for difference in drifted.left(actual):
            if not undeclared or difference.thing not in (daemon_options.FILE, daemon_options.OPTIONS):
                request.report(f"not reverted, and expected from now on: {difference}", False)
        done = {
            **state,
            **results,
            "managed": {"declared": declared.to_json(), "expected": expected},
            "seconds": outcome.seconds,
            "took": preview_summary.add_seconds(
                self.effects(old, inputs, old) if old else [], sum(outcome.seconds.values()), state["took"]
            ),
        }
        request.keep(lambda: done)
        return done

    def _expected(self, actual: managed_set.State, old: managed_set.State, inputs: Props) -> managed_set.State:
        """Return the expected state after a run: the actual one without Docker daemon options that nobody declared."""
        if daemon_options.OPTIONS not in actual:
            return actual
        options = teardown.variable(inputs, "docker", "docker_daemon_options")
        return daemon_options.accepted(actual, old, options or {})

    def state_variables(self, old: Props | None) -> Props:
        """Return role variables from the old state; none for most kinds."""
        return {}

    def made_outputs(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Return outputs that the provider makes before the run; none for most kinds."""
        return {}

    def environment(self, properties: Props) -> dict[str, str]:
        """Return the secrets that the playbook gets in its environment, of the inputs and the outputs that were made."""
        return {variable: properties[key] for key, variable in SECRETS.items() if properties.get(key)}

    def _drifted(self, target: ssh.Target, old: Props, declared: managed_set.Declared) -> revert.Drifted:
        """Return the drift of the last refresh, with the actual state of these things."""
        things = {entry.thing for entry in drift.recorded(old) if entry.attribute not in drift.IN_WORDS}
        if not things:
            return revert.Drifted()
        return revert.Drifted(things, old["managed"].get("expected") or {}, self._read(target, [declared])[0])

    def read(self, request: Request, properties: Props) -> Props:
        """Compare the managed set with the host; return the properties with the differences as `drift`."""
        managed = properties.get("managed") or {}
        declared = outputs.well_formed(managed_set.Declared.from_json(managed.get("declared") or {}))
        actual = self._read(ssh.Target.from_inputs(properties["node"]), [declared])[0]
        drifted = differences.drift(managed.get("expected") or {}, actual)
        return {**properties, "drift": [difference.to_json() for difference in drifted]}

    def delete(self, request: Request, properties: Props) -> None:
        """Remove what our runs created, restore what they replaced, and report what remains.

        Ignores things with a malformed name: an older release may have copied them from a node into the state.
        """
        target = ssh.Target.from_inputs(properties["node"])
        managed = properties.get("managed") or {}
        declared = outputs.well_formed(managed_set.Declared.from_json(managed.get("declared") or {}))
        properties = {**properties, "managed": {**managed, "declared": declared.to_json()}}
        job = converge.Job(
            target=target,
            playbook=ROOT / "playbooks" / "teardown.yml",
            variables={},
            data={"managed": teardown.request(self._kind, properties, self._purge)},
            log=self._log(request),
        )
        with self._slots.hold(request):
            outcome = self._run(job, lambda note: request.report(note.text, note.ephemeral), request.cancelled)
        for line in outputs.remains(outcome.results):
            request.report(f"remains: {line}", False)

    def _log(self, request: Request) -> Path:
        """Return the path of a new log."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        return base.state_dir() / "logs" / f"{request.stack}-{self._kind}-{request.name}-{stamp}.log"


def _same_installation(inputs: Props, old: Props | None) -> Props | None:
    """Return the old properties, or None if they describe another installation of the machine."""
    before, node = (old or {}).get("node"), inputs.get("node")
    if isinstance(before, Mapping) and isinstance(node, Mapping) and is_reinstalled(dict(before), dict(node)):
        return None
    return old


def _stack_variables(variables: Mapping[str, Any]) -> Props:
    """Return the variables of the stack file, in which Ansible evaluates expressions."""
    return {name: value for name, value in variables.items() if name not in resource_roles.SET_BY_PROGRAM}


def _result_variables(variables: Mapping[str, Any]) -> Props:
    """Return the variables from results of other runs: a node sent them, so Ansible must not evaluate them."""
    return {name: value for name, value in variables.items() if name in resource_roles.SET_BY_PROGRAM}


def _restrict(old: managed_set.Declared, new: managed_set.Declared) -> managed_set.Declared:
    """Return the old declarations of the things in `new`: what an earlier run created remains ours."""
    return managed_set.Declared({name: ours for name, ours in old.things.items() if name in new.things})

"""The four Ansible resources Host, Image, Weights and Serving: one playbook run each, what it left there, and taking it off.

Used by the servicer. Needs fleet.ansible, fleet.managed, playbooks/ and roles/; serving.py adds the probes.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet import drift, errors, ssh
from fleet.ansible import converge, progress
from fleet.impact import effects
from fleet.impact.effects import Effect
from fleet.managed import daemon_options, differences, managed_set, reader, revert
from fleet.provider import base, outputs, preview_summary, teardown
from fleet.provider.base import ROOT, BaseResource, InitFailed, Request
from fleet.provider.node import REACHED, REINSTALLED, reinstalled
from fleet.provider.properties import UNKNOWN, Props, has_unknown, spoken
from fleet.provider.slots import Slots
from fleet.stack import resource_roles

# `took`: seconds of the latest run of each level of fleet.impact.effects; of the whole set-up as `new`.
BASE = ("managed", "drift", "seconds", "took", "log")
# Results that every restart makes anew, whatever was changed; no other change does.
RESTARTED = ("engine",)
# Secret inputs, and the environment variable by which the playbook gets each.
SECRETS = {"api_key": "VLLM_API_KEY", "token": "WEIGHTS_TOKEN"}

Converge = Callable[[converge.Job, Callable[[progress.Note], None], threading.Event], converge.Outcome]
Read = Callable[[ssh.Target, Sequence[managed_set.Declared]], list[managed_set.State]]


class Playbook(BaseResource):
    """One kind of Ansible resource: its playbook is playbooks/KIND.yml, its results stand in the run's fleet_KIND."""

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
        self._purge = purge  # `weights`, `driver`: what else stays on a machine that is taken off
        self.computed: Collection[str] = (*BASE, *outputs)

    def check(self, inputs: Props) -> Mapping[str, str]:
        """Variables were judged with the stack file; here only the form that the run needs. Left out is what a failure did (GIVEN)."""
        absent = {"roles": None, "node": UNKNOWN, "vars": UNKNOWN}
        return {
            key: "must be an object"
            for key, nothing in absent.items()
            if not isinstance(value := inputs.get(key, nothing), dict) and value != UNKNOWN
        }

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """Results are known before the run only where nothing that decides them changes (roles/ROLE/meta/effects.yml: results)."""
        old = _still_there(inputs, old)
        if old is None:
            return {**inputs, **dict.fromkeys(self.computed, UNKNOWN), "drift": []}
        open_still = inputs.get("vars") == UNKNOWN or effects.decides([old_inputs, old], inputs, ROOT / "roles")
        undecided = set(self._outputs) - {*RESTARTED} if open_still else set()
        restarted = {*RESTARTED} & {*self._outputs}
        if restarted and any(one.level in ("restart", "reboot") for one in self.effects(old_inputs, inputs, old)):
            undecided |= restarted
        results = {key: UNKNOWN if key in undecided else old.get(key, UNKNOWN) for key in self._outputs}
        return {**inputs, **{key: old.get(key, UNKNOWN) for key in BASE}, "drift": [], **results}

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """The effects that the roles state for what changed, and for what is mended."""
        if _still_there(inputs, old) is None:
            return [Effect("recreate", (self._kind.capitalize(),), (REINSTALLED,))]
        olds, roles = (
            [old_inputs, old],
            ROOT / "roles",
        )  # as in Diff: after a failed update the state has what that one tried
        if has_unknown(inputs.get("node")):
            return [effects.at_worst(olds, "its machine is still to be made", roles)]
        if inputs["vars"] == UNKNOWN:
            *before, after = ({**one, "vars": old.get("vars")} for one in (*olds, inputs))
            found = effects.predict(before, after, drift.recorded(old), roles)
            return [self._open(olds, inputs, roles), *found]
        found = effects.predict(olds, {**inputs, "vars": spoken(inputs["vars"])}, drift.recorded(old), roles)
        changed = [key for key in inputs if any(one.get(key) != inputs[key] for one in olds)]
        if not found and not changed:
            return [effects.at_worst(olds, "goes on where its last run stopped", roles)]
        names = REACHED if changed == ["node"] else f"{', '.join(changed)} changed"
        return found or [Effect("none", (), (names,))]

    def _open(self, olds: Sequence[Props], inputs: Props, roles: Path) -> Effect:
        """The effect of variables that are not known yet. What makes an image or a model's folder lets it be unknown only where it differs."""
        named = {"image": "another image", "weights": "other weights"}
        anew = [words for name, words in named.items() if has_unknown(inputs.get(name))]
        if anew:
            return effects.at_worst(olds, f"{' and '.join(anew)} will be there", roles, sure=True)
        return effects.at_worst(olds, "its variables are known once what they come from is there", roles)

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Run the playbook; after it, read what it declared: that is how the host should look from now on."""
        target, old = ssh.Target.from_inputs(inputs["node"]), _still_there(inputs, old)
        before = (old or {}).get("managed") or {}
        declared = outputs.sound(managed_set.Declared.from_json(before.get("declared") or {}))
        log = self._log(request)
        known = {
            **inputs,
            **{key: (old or {}).get(key) for key in self._outputs},
            "log": str(log),
            "drift": [],
            "seconds": {},
            "took": (old or {}).get("took") or {},
        }
        tried = declared

        def half() -> Props:
            """What is known of a run that does not come to its end."""
            kept = {"declared": tried.to_json(), "expected": before.get("expected") or {}}
            return {**known, "managed": kept, "drift": (old or {}).get("drift") or []}

        request.keep(half)
        try:
            with self._slots.one(request):
                drifted = self._drifted(target, old or {}, declared)
                job = converge.Job(
                    target=target,
                    playbook=ROOT / "playbooks" / f"{self._kind}.yml",
                    variables=_of_stack(inputs["vars"]),
                    data={**_of_nodes(inputs["vars"]), **self.remembered(old), **drifted.variables},
                    log=log,
                    secrets={variable: inputs[key] for key, variable in SECRETS.items() if inputs.get(key)},
                    roles=resource_roles.ROLES[self._kind],
                )
                outcome = self._run(job, lambda note: request.say(note.text, note.ephemeral), request.cancelled)
            tried = tried.merge(outputs.sound(outcome.declared))
            now = outputs.judge(self.name, target, outcome.declared, f"see {log}; {job.next_step}")
            found = outcome.results.get(f"fleet_{self._kind}") or {}
            results = outputs.checked(self.name, target, found, f"see {log}; {job.next_step}")
            now = now.merge(_still(declared, now))
            seen = self._read(target, [now])[0]
            expected = self._expected(seen, before.get("expected") or {}, inputs)
        except errors.FleetError as error:
            tried = tried.merge(outputs.sound(managed_set.Declared.from_json(error.partial)))
            raise InitFailed(half(), error) from error
        undeclared = differences.drift(expected, seen)
        for one in undeclared:
            request.say(f"kept, and drift until docker_daemon_options has it or it is taken out: {one}", False)
        for one in drifted.left(seen):
            if not undeclared or one.thing not in (daemon_options.FILE, daemon_options.OPTIONS):
                request.say(f"not put back, and taken as it is from now on: {one}", False)
        done = {
            **known,
            **results,
            "managed": {"declared": now.to_json(), "expected": expected},
            "seconds": outcome.seconds,
            "took": preview_summary.measured(
                self.effects(old, inputs, old) if old else [], sum(outcome.seconds.values()), known["took"]
            ),
        }
        request.keep(lambda: done)
        return done

    def _expected(self, seen: managed_set.State, before: managed_set.State, inputs: Props) -> managed_set.State:
        """Return how the host should look from now on: as it was seen, but for options of Docker that nobody declared."""
        if daemon_options.OPTIONS not in seen:
            return seen
        declared = teardown.variable(inputs, "docker", "docker_daemon_options")
        return daemon_options.accepted(seen, before, declared or {})

    def remembered(self, old: Props | None) -> Props:
        """Return variables of a run that the state has; here none."""
        return {}

    def _drifted(self, target: ssh.Target, old: Props, declared: managed_set.Declared) -> revert.Drifted:
        """What a refresh found changed by hand, as it is now."""
        things = {one.thing for one in drift.recorded(old)}
        if not things:
            return revert.Drifted()
        return revert.Drifted(things, old["managed"].get("expected") or {}, self._read(target, [declared])[0])

    def read(self, request: Request, properties: Props) -> Props:
        """Compare the managed set with the host; what differs is `drift`."""
        kept = properties.get("managed") or {}
        declared = outputs.sound(managed_set.Declared.from_json(kept.get("declared") or {}))
        seen = self._read(ssh.Target.from_inputs(properties["node"]), [declared])[0]
        found = differences.drift(kept.get("expected") or {}, seen)
        return {**properties, "drift": [one.to_json() for one in found]}

    def delete(self, request: Request, properties: Props) -> None:
        """Take off what our runs put there; keep what was there before them; report what stays on purpose.

        A thing of another name than it may have is no thing of ours: an older release may have taken it from a node into the state.
        """
        target = ssh.Target.from_inputs(properties["node"])
        kept = properties.get("managed") or {}
        declared = outputs.sound(managed_set.Declared.from_json(kept.get("declared") or {}))
        properties = {**properties, "managed": {**kept, "declared": declared.to_json()}}
        job = converge.Job(
            target=target,
            playbook=ROOT / "playbooks" / "teardown.yml",
            variables={},
            data={"managed": teardown.asked(self._kind, properties, self._purge)},
            log=self._log(request),
        )
        with self._slots.one(request):
            outcome = self._run(job, lambda note: request.say(note.text, note.ephemeral), request.cancelled)
        for words in outputs.stays(outcome.results):
            request.say(f"stays: {words}", False)

    def _log(self, request: Request) -> Path:
        """A log of its own for each run, never an older one's."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        return base.state_dir() / "logs" / f"{request.stack}-{self._kind}-{request.name}-{stamp}.log"


def _still_there(inputs: Props, old: Props | None) -> Props | None:
    """Return what the state has of the machine, None where that was another installation of it."""
    before, node = (old or {}).get("node"), inputs.get("node")
    if isinstance(before, Mapping) and isinstance(node, Mapping) and reinstalled(dict(before), dict(node)):
        return None
    return old


def _of_stack(variables: Mapping[str, Any]) -> Props:
    """Return the variables that the stack file holds: these may be expressions, for Ansible to evaluate."""
    return {name: value for name, value in variables.items() if name not in resource_roles.SET_BY_PROGRAM}


def _of_nodes(variables: Mapping[str, Any]) -> Props:
    """Return the variables that results of other runs have given: a node has said them, so they are text and nothing else."""
    return {name: value for name, value in variables.items() if name in resource_roles.SET_BY_PROGRAM}


def _still(old: managed_set.Declared, new: managed_set.Declared) -> managed_set.Declared:
    """What earlier runs say about the things that the newest one declares: that we made them stays true."""
    return managed_set.Declared({what: made for what, made in old.things.items() if what in new.things})

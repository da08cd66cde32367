"""The resource BareMetal: a machine with a BMC. Looked at, and installed anew where the stack file says so with a nonce of its own.

Used by the servicer. Needs fleet.bare_metal. Deleting it touches nothing: it neither wipes nor powers off.
"""

from collections.abc import Mapping, Sequence

from fleet import errors, ssh
from fleet.bare_metal import bios, bmc, install, seed
from fleet.impact.effects import Effect
from fleet.provider.base import BaseResource, InitFailed, Request
from fleet.provider.properties import UNKNOWN, Props

# Inputs without which no installation can be.
NEEDED = ("installer", "serve", "seed", "private")


class BareMetal(BaseResource):
    """One machine behind a BMC. `installed` is the nonce of the installation that it bears, `attempt` one that has not come to its end."""

    computed = ("installed", "attempt", "power", "settings", "differences")
    # Another installation is another machine: so what protects a machine from being replaced protects its disks, too.
    replace = ("name", "reinstall")
    ignored_inputs = ("released", "final_public")  # these only permit

    def check(self, inputs: Props) -> Mapping[str, str]:
        """What an installation needs must be there when one is asked for."""
        wanted = ("name", "bmc", "address", *(NEEDED if inputs.get("reinstall") else ()))
        return {key: "is needed" for key in wanted if not inputs.get(key)}

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """It will bear the installation that is asked for."""
        before = old or {}
        looked = {key: before.get(key, UNKNOWN) for key in ("power", "settings", "differences")}
        return {
            **inputs,
            "installed": inputs.get("reinstall") or before.get("installed") or "",
            "attempt": {},
            **looked,
        }

    def create_effects(self, inputs: Props) -> Sequence[Effect]:
        """A new one is wiped where a nonce says so."""
        return self.effects({}, inputs, {}) if _pending(inputs, {}) else ()

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """An installation that is asked for and not done wipes the machine, or goes on; all else only looks."""
        if not _pending(inputs, old):
            return [Effect("none", (), ("its BMC and its BIOS settings are looked at",))]
        if _stage(inputs, old):
            return [Effect("reinstall", (), ("goes on with the installation that was begun",))]
        return [Effect("reinstall", (), ("wipes its disks",))]

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Install it where that is asked for and not done; look at it."""
        before = old or {}
        known = {
            **self.planned_outputs(inputs, {}, old),
            **dict.fromkeys(("power", "settings", "differences")),
            "installed": before.get("installed") or "",
        }
        if _pending(inputs, before):
            run = install.Installation(
                _job(inputs), _stage(inputs, before), lambda text: request.say(text, True), request.cancelled
            )

            def half() -> Props:
                """What is known of an installation that does not come to its end; nothing where it was not begun."""
                attempt = {"nonce": inputs["reinstall"], "stage": run.stage}
                return {**known, "attempt": attempt} if run.stage else {}

            request.keep(half)
            try:
                run.run()
            except errors.FleetError as error:
                if not run.stage:
                    raise
                raise InitFailed(half(), error) from error
            known["installed"] = inputs["reinstall"]
            request.keep(lambda: known)
        try:
            return {**known, **self._look(request, inputs)}
        except errors.FleetError as error:
            if not known["installed"]:
                raise
            raise InitFailed(known, error) from error

    def read(self, request: Request, properties: Props) -> Props:
        """Look at it. A BMC that does not answer is told and fails nothing: what runs on the machine does not need it."""
        try:
            return {**properties, **self._look(request, properties)}
        except errors.BmcFailed as error:
            request.warn(str(error))
            return properties

    def delete(self, request: Request, properties: Props) -> None:
        """The machine stays as it is: what was put on it is taken off by the resources on it."""

    def _look(self, request: Request, inputs: Props) -> Props:
        """Return power, BIOS settings and how these differ from those that it should have; tell the differences."""
        with bmc.reach(_access(inputs), request.cancelled) as machine:
            power, settings = machine.power(), machine.bios()
        if settings is None:
            request.warn("BIOS: its BMC tells no settings; compare them in its set-up")
        found = [] if settings is None else bios.compare(settings, inputs.get("bios") or {})
        for one in found:
            request.warn(str(one))
        if power != "On":
            request.warn(f"its power is {power.lower()}")
        told = [{"name": one.name, "seen": one.seen, "wanted": one.wanted} for one in found]
        return {"power": power, "settings": dict(settings or {}), "differences": told}


def _pending(inputs: Props, old: Props) -> bool:
    """Whether an installation is asked for that the machine does not bear."""
    return bool(inputs.get("reinstall")) and old.get("installed") != inputs["reinstall"]


def _stage(inputs: Props, old: Props) -> str:
    """Return what an earlier try of the same installation has reached."""
    attempt = old.get("attempt") or {}
    return str(attempt.get("stage") or "") if attempt.get("nonce") == inputs["reinstall"] else ""


def _access(inputs: Props) -> bmc.Access:
    given = {key: str(inputs.get(key) or "") for key in ("username", "password", "system", "ca")}
    return bmc.Access(str(inputs["name"]), str(inputs["bmc"]), **given)


def _job(inputs: Props) -> install.Job:
    told = inputs["seed"]
    return install.Job(
        access=_access(inputs),
        target=ssh.Target.from_inputs(inputs),
        seed=seed.Seed(
            kind=told["kind"],
            name=inputs["name"],
            nonce=inputs["reinstall"],
            user=str(inputs.get("user") or "root"),
            authorized=told["authorized_keys"],
            public=inputs["host_key"],
            private=inputs["private"],
            autoinstall=told.get("autoinstall") or {},
            preseed=told.get("preseed") or "",
        ),
        installer=inputs["installer"]["url"],
        sha256=inputs["installer"]["sha256"],
        serve=inputs["serve"],
        final_key=str(inputs.get("final_public") or ""),
        certificate=str(inputs.get("serve_certificate") or ""),
        within=float(inputs.get("within") or 3600),
        boot=float(inputs.get("wait") or install.BOOT),
        released=bool(inputs.get("released")),
    )

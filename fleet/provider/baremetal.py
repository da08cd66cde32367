"""The resource BareMetal: reads a machine through its BMC, and installs it once for each nonce in the stack file.

Called by the servicer. Needs fleet.bare_metal.
"""

from collections.abc import Mapping, Sequence

from fleet import errors, ssh
from fleet.bare_metal import bios, bmc, install, seed
from fleet.impact.effects import Effect
from fleet.provider.base import BaseResource, InitFailed, Request
from fleet.provider.properties import UNKNOWN, Props

# Inputs that an installation needs.
NEEDED = ("installer", "serve", "seed", "private")


class BareMetal(BaseResource):
    """One machine with a BMC. `installed` is the nonce of its installation, `attempt` one that has not finished."""

    computed = ("installed", "attempt", "power", "settings", "differences")
    # A new nonce is a replacement, so that the protection from replacement also protects the disks.
    replace = ("name", "reinstall")
    ignored_inputs = ("released", "final_public")  # these only permit an installation

    def check(self, inputs: Props) -> Mapping[str, str]:
        """Require name, bmc and address; with a nonce also NEEDED."""
        required = ("name", "bmc", "address", *(NEEDED if inputs.get("reinstall") else ()))
        return {key: "is required" for key in required if not inputs.get(key)}

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """Return them with the requested installation."""
        before = old or {}
        readings = {key: before.get(key, UNKNOWN) for key in ("power", "settings", "differences")}
        installed = inputs.get("reinstall") or before.get("installed") or ""
        return {**inputs, "installed": installed, "attempt": {}, **readings}

    def create_effects(self, inputs: Props) -> Sequence[Effect]:
        """Return the installation, if a nonce requests one."""
        return self.effects({}, inputs, {}) if _pending(inputs, {}) else ()

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """Return the installation, if one is requested and not done; all else only reads."""
        if not _pending(inputs, old):
            return [Effect("none", (), ("only reads its BMC and BIOS settings",))]
        if _stage(inputs, old):
            return [Effect("reinstall", (), ("continues an installation",))]
        return [Effect("reinstall", (), ("wipes its disks",))]

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Install the machine, if that is requested and not done; read it."""
        before = old or {}
        state = {
            **self.planned_outputs(inputs, {}, old),
            **dict.fromkeys(("power", "settings", "differences")),
            "installed": before.get("installed") or "",
        }
        if _pending(inputs, before):
            run = install.Installation(
                _job(inputs), _stage(inputs, before), lambda text: request.report(text, True), request.cancelled
            )

            def partial_state() -> Props:
                """Return the state of an unfinished installation; {} before its first stage."""
                attempt = {"nonce": inputs["reinstall"], "stage": run.stage}
                return {**state, "attempt": attempt} if run.stage else {}

            request.keep(partial_state)
            try:
                run.run()
            except errors.FleetError as error:
                if not run.stage:
                    raise
                raise InitFailed(partial_state(), error) from error
            state["installed"] = inputs["reinstall"]
            request.keep(lambda: state)
        try:
            return {**state, **self._observe(request, inputs)}
        except errors.FleetError as error:
            if not state["installed"]:
                raise
            raise InitFailed(state, error) from error

    def read(self, request: Request, properties: Props) -> Props:
        """Read the machine. Only warn about a BMC that does not answer: what runs on the machine does not need it."""
        try:
            return {**properties, **self._observe(request, properties)}
        except errors.BmcFailed as error:
            request.warn(str(error))
            return properties

    def delete(self, request: Request, properties: Props) -> None:
        """Do nothing: neither wipe the machine nor power it off."""

    def _observe(self, request: Request, inputs: Props) -> Props:
        """Return power, BIOS settings and their differences from the expected ones; warn about these. Raises BmcFailed."""
        with bmc.reach(_access(inputs), request.cancelled) as machine:
            power, settings = machine.power(), machine.bios()
        if settings is None:
            request.warn("BIOS: its BMC reports no settings; compare them in the setup menu")
        differences = [] if settings is None else bios.compare(settings, inputs.get("bios") or {})
        for difference in differences:
            request.warn(str(difference))
        if power != "On":
            request.warn(f"its power is {power.lower()}")
        records = [{"name": entry.name, "seen": entry.seen, "wanted": entry.wanted} for entry in differences]
        return {"power": power, "settings": dict(settings or {}), "differences": records}


def _pending(inputs: Props, old: Props) -> bool:
    """Return whether an installation is requested and not done."""
    return bool(inputs.get("reinstall")) and old.get("installed") != inputs["reinstall"]


def _stage(inputs: Props, old: Props) -> str:
    """Return the stage that an earlier try of the same installation reached, or ""."""
    attempt = old.get("attempt") or {}
    return str(attempt.get("stage") or "") if attempt.get("nonce") == inputs["reinstall"] else ""


def _access(inputs: Props) -> bmc.Access:
    options = {key: str(inputs.get(key) or "") for key in ("username", "password", "system", "ca")}
    return bmc.Access(str(inputs["name"]), str(inputs["bmc"]), **options)


def _job(inputs: Props) -> install.Job:
    options = inputs["seed"]
    return install.Job(
        access=_access(inputs),
        target=ssh.Target.from_inputs(inputs),
        seed=seed.Seed(
            kind=options["kind"],
            name=inputs["name"],
            nonce=inputs["reinstall"],
            user=str(inputs.get("user") or "root"),
            authorized=options["authorized_keys"],
            public=inputs["host_key"],
            private=inputs["private"],
            autoinstall=options.get("autoinstall") or {},
            preseed=options.get("preseed") or "",
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

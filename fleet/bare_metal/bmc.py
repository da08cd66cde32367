"""One machine's BMC over Redfish: power, what it boots from next, virtual media, its BIOS settings as they are.

Owns the session, not what is done with it. The BMC's certificate is always verified; who asks is told by Basic authentication, so no
session of ours stays there. Needs sushy (imported at the first request). Called by install, and by the provider's BareMetal.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fleet import errors

if TYPE_CHECKING:
    from sushy.resources.manager import virtual_media
    from sushy.resources.system import system

# Seconds for the connection and for an answer: a BMC that fetches a medium answers after it has looked at it.
CONNECT, ANSWER = 5, 60
Device = Literal["Cd", "Hdd"]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Access:
    """Where one machine's BMC is, and who we are there.

    `system` is the id or path of the machine ("" where the BMC has one only), `ca` the file with the authority that signed the BMC's
    certificate ("" for those that this machine trusts).
    """

    node: str
    url: str
    username: str
    password: str = field(repr=False)
    system: str = ""
    ca: str = ""

    def failed(self, doing: str, seen: str, wanted: str = "", next: str = "") -> errors.BmcFailed:
        """Return an error of this BMC."""
        where = f"{doing} over its BMC {self.url}"
        return errors.BmcFailed(node=self.node, doing=where, seen=seen, wanted=wanted, next=next)

    def silent(self, doing: str, seen: str) -> errors.BmcSilent:
        """Return that this BMC does not answer."""
        return errors.BmcSilent(
            node=self.node,
            doing=f"{doing} over its BMC {self.url}",
            seen=seen,
            wanted="a Redfish service, from this machine",
            next=f"curl -I {self.url}/redfish/v1/",
        )


class Bmc:
    """An open BMC. Each request ends within ANSWER seconds, and at once when `cancelled` is set."""

    def __init__(self, access: Access, cancelled: threading.Event, worker: futures.Executor) -> None:
        self._access, self._cancelled, self._worker = access, cancelled, worker
        self._system: system.System | None = None

    def power(self) -> str:
        """Return `On`, `Off`, or what is between them."""

        def look(machine: "system.System") -> str:
            machine.refresh(force=True)
            return str(machine.power_state.value) if machine.power_state else "unknown"

        return self._ask("read its power", look)

    def turn(self, on: bool) -> None:
        """Ask for power; off is at once, as by its switch. What is so already is not asked for."""

        def reset(machine: "system.System") -> None:
            from sushy import ResetType

            machine.reset_system(ResetType.ON if on else ResetType.FORCE_OFF)

        if self.power() != ("On" if on else "Off"):
            self._ask(f"turn it {'on' if on else 'off'}", reset)

    def boot_once(self, device: Device) -> None:
        """Let the next start be from this device; how it boots (UEFI, legacy) stays.

        A BMC that offers no Hdd boots from the disk by itself.
        """

        def choose(machine: "system.System") -> None:
            from sushy import BootSource, BootSourceOverrideEnabled

            if device == "Hdd" and BootSource.HDD not in machine.get_allowed_system_boot_source_values():
                return
            machine.set_system_boot_options(BootSource(device), BootSourceOverrideEnabled.ONCE)

        self._ask(f"let it boot from {device}", choose)

    def media(self) -> list[str]:
        """Return the URLs of the media that are inserted."""
        return self._ask("read its virtual media", lambda machine: [one.image for one in _slots(machine) if one.image])

    def insert(self, installer: str, seed: Callable[[str], str]) -> None:
        """Insert the installer as CD, and in a second device the seed: `seed` gives its URL for a suffix, iso or img.

        What was inserted before goes first. BmcFailed where the BMC has no two devices.
        """

        def choose(machine: "system.System") -> tuple[Any, Any] | None:
            slots = _slots(machine)
            drive = next((one for one in slots if _is(one, "CD", "DVD")), None)
            others = sorted((one for one in slots if one is not drive), key=lambda one: not _is(one, "USBStick"))
            return (drive, others[0]) if drive and others else None

        doing = "insert virtual media"
        self.eject()
        found = self._ask(doing, choose)
        if found is None:
            wanted = "two: the installer's CD, and another for the seed"
            raise self._access.failed(
                doing, "it has no two devices for them", wanted, "look at its licence and firmware"
            )
        drive, other = found
        suffix = "iso" if _is(other, "CD", "DVD") else "img"
        self._ask(f"insert {installer}", lambda _: drive.insert_media(installer))
        self._ask("insert the seed", lambda _: other.insert_media(seed(suffix)))

    def eject(self) -> None:
        """Take out whatever is inserted."""

        def clear(machine: "system.System") -> None:
            for one in _slots(machine):
                if one.inserted or one.image:
                    one.eject_media()

        self._ask("eject its virtual media", clear)

    def bios(self) -> Mapping[str, Any] | None:
        """Return the BIOS attributes by the vendor's names, None where the BMC does not tell them."""

        def read(machine: "system.System") -> Mapping[str, Any] | None:
            from sushy import exceptions

            try:
                told: Mapping[str, Any] | None = machine.bios.attributes
            except (exceptions.MissingAttributeError, exceptions.ResourceNotFoundError):
                return None
            except exceptions.HTTPError as error:
                if error.status_code in (500, 501):  # how services say that they have none
                    return None
                raise
            return told

        return self._ask("read its BIOS settings", read)

    def _ask(self, doing: str, work: Callable[["system.System"], Answer]) -> Answer:
        """Do a piece of work with the machine as the BMC shows it; raise in our words what the library raises."""
        from sushy import exceptions

        asked = self._worker.submit(lambda: work(self._there()))
        while not asked.done():
            if self._cancelled.is_set():
                raise errors.Cancelled(node=self._access.node, doing=doing, seen="cancelled")
            futures.wait([asked], 0.1)
        try:
            return asked.result()
        except exceptions.AccessError as error:
            todo = "`pulumi config set --secret redfish_password`, or unlock the user there"
            raise self._access.failed(doing, "it refuses us", "a user and password that it accepts", todo) from error
        except exceptions.ConnectionError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                seen = "its certificate is not signed for this address by an authority that we trust"
                todo = "`ca` of the machine names the file with its authority; nothing was sent to it"
                raise self._access.failed(doing, seen, "a trusted certificate", todo) from error
            raise self._access.silent(doing, "no answer") from error
        except exceptions.ServerSideError as error:
            raise self._access.silent(doing, f"{error.status_code}: {error.detail or 'no reason told'}") from error
        except exceptions.HTTPError as error:
            seen = f"{error.status_code}: {error.detail or 'no reason told'}"
            known = f"`system` of the machine; {self._access.url}/redfish/v1/Systems lists those that it has"
            todo = known if error.status_code == 404 else "look at the BMC's own log"
            raise self._access.failed(doing, seen, next=todo) from error
        except exceptions.SushyError as error:
            raise self._access.failed(
                doing, str(error).splitlines()[0], "", "look at its firmware's release"
            ) from error

    def _there(self) -> "system.System":
        """Return the machine; look for it at first."""
        import sushy
        from sushy import auth

        if self._system is None:
            access = self._access
            root = sushy.Sushy(
                access.url,
                auth=auth.BasicAuth(access.username, access.password),
                verify=access.ca or True,
                server_side_retries=1,
                server_side_retries_delay=1,
                connect_timeout=CONNECT,
                read_timeout=ANSWER,
            )
            self._system = root.get_system(_path(access.system))
        return self._system


@contextlib.contextmanager
def reach(access: Access, cancelled: threading.Event) -> Iterator[Bmc]:
    """Open a BMC; nothing is asked of it before the first request."""
    import logging

    # Without this the library's log of a failed request would reach stderr beside our message.
    logging.getLogger("sushy").propagate = False
    if access.ca and not Path(access.ca).is_file():
        raise access.failed("look at it", f"there is no file {access.ca}", "`ca`: a file with certificates in PEM form")
    worker = futures.ThreadPoolExecutor(1, "bmc")
    try:
        yield Bmc(access, cancelled, worker)
    finally:
        worker.shutdown(wait=False, cancel_futures=True)


def _path(system: str) -> str | None:
    return system if system.startswith("/") else f"/redfish/v1/Systems/{system}" if system else None


def _slots(machine: "system.System") -> "list[virtual_media.VirtualMedia]":
    """Return the virtual media devices, which are the system's or, in older services, its manager's."""
    from sushy import exceptions

    machine.refresh(force=True)  # what was read below it before is read again when it is asked for
    for owners in (lambda: [machine], lambda: machine.managers):
        for one in owners():
            try:
                members: list[virtual_media.VirtualMedia] = one.virtual_media.get_members()
            except (exceptions.MissingAttributeError, exceptions.ResourceNotFoundError):
                continue
            if members:
                return members
    return []


def _is(slot: "virtual_media.VirtualMedia", *types: str) -> bool:
    return any(one.value in types for one in slot.media_types)

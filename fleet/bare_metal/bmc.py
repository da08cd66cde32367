"""Talks to one machine's BMC over Redfish: power, next boot device, virtual media, reading BIOS settings.

Owns the connection, not the order of an installation (install). Always verifies the BMC's certificate; logs in by Basic authentication, which
leaves no session on the BMC. Needs sushy (imported at the first request). Called by install and fleet.provider.baremetal.
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

# Seconds for the connection and for an answer: a BMC reads an inserted medium before it answers.
CONNECT, ANSWER = 5, 60
Device = Literal["Cd", "Hdd"]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Access:
    """Address and login of one machine's BMC.

    `system` is the id or path of the machine ("" where the BMC has only one), `ca` the file of the authority that signed the BMC's
    certificate ("" for those that this machine trusts).
    """

    node: str
    url: str
    username: str
    password: str = field(repr=False)
    system: str = ""
    ca: str = ""

    def failure(self, doing: str, seen: str, wanted: str = "", next: str = "") -> errors.BmcFailed:
        """Return the error for a BMC that answers and fails."""
        where = f"{doing} over its BMC {self.url}"
        return errors.BmcFailed(node=self.node, doing=where, seen=seen, wanted=wanted, next=next)

    def silence(self, doing: str, seen: str) -> errors.BmcSilent:
        """Return the error for a BMC that does not answer."""
        return errors.BmcSilent(
            node=self.node,
            doing=f"{doing} over its BMC {self.url}",
            seen=seen,
            wanted="a Redfish service, from this machine",
            next=f"curl -I {self.url}/redfish/v1/",
        )


class Bmc:
    """A BMC's requests. Each ends within ANSWER seconds, and at once when `cancelled` is set.

    All raise BmcFailed, BmcSilent or Cancelled.
    """

    def __init__(self, access: Access, cancelled: threading.Event, worker: futures.Executor) -> None:
        self._access, self._cancelled, self._worker = access, cancelled, worker
        self._system: system.System | None = None

    def power(self) -> str:
        """Return `On`, `Off` or a state between them, such as `PoweringOn`."""

        def read(machine: "system.System") -> str:
            machine.refresh(force=True)
            return str(machine.power_state.value) if machine.power_state else "unknown"

        return self._request("read its power", read)

    def set_power(self, on: bool) -> None:
        """Switch the machine on, or off at once as by its switch; do nothing where it is so already."""

        def reset(machine: "system.System") -> None:
            from sushy import ResetType

            machine.reset_system(ResetType.ON if on else ResetType.FORCE_OFF)

        if self.power() != ("On" if on else "Off"):
            self._request(f"turn it {'on' if on else 'off'}", reset)

    def boot_once(self, device: Device) -> None:
        """Set the device of the next boot only; the boot mode (UEFI, legacy) stays as it is.

        A BMC that does not offer Hdd boots from the disk anyway.
        """

        def override(machine: "system.System") -> None:
            from sushy import BootSource, BootSourceOverrideEnabled

            if device == "Hdd" and BootSource.HDD not in machine.get_allowed_system_boot_source_values():
                return
            machine.set_system_boot_options(BootSource(device), BootSourceOverrideEnabled.ONCE)

        self._request(f"let it boot from {device}", override)

    def media(self) -> list[str]:
        """Return the URLs of the inserted media."""
        return self._request(
            "read its virtual media", lambda machine: [slot.image for slot in _slots(machine) if slot.image]
        )

    def insert(self, installer: str, seed_url: Callable[[str], str]) -> None:
        """Eject all media, then insert the installer as CD, and the seed in a second device.

        `seed_url` returns the seed's URL for a suffix, iso or img. Raises BmcFailed where the BMC lacks two devices.
        """

        def choose(machine: "system.System") -> tuple[Any, Any] | None:
            slots = _slots(machine)
            drive = next((slot for slot in slots if _is(slot, "CD", "DVD")), None)
            others = sorted((slot for slot in slots if slot is not drive), key=lambda slot: not _is(slot, "USBStick"))
            return (drive, others[0]) if drive and others else None

        doing = "insert virtual media"
        self.eject()
        devices = self._request(doing, choose)
        if devices is None:
            seen, wanted = "it has no two devices for them", "two: the installer's CD, and another for the seed"
            raise self._access.failure(doing, seen, wanted, "look at its licence and firmware")
        drive, other = devices
        suffix = "iso" if _is(other, "CD", "DVD") else "img"
        self._request(f"insert {installer}", lambda _: drive.insert_media(installer))
        self._request("insert the seed", lambda _: other.insert_media(seed_url(suffix)))

    def eject(self) -> None:
        """Eject all inserted media."""

        def clear(machine: "system.System") -> None:
            for slot in _slots(machine):
                if slot.inserted or slot.image:
                    slot.eject_media()

        self._request("eject its virtual media", clear)

    def bios(self) -> Mapping[str, Any] | None:
        """Return the BIOS attributes by the vendor's names, None where the BMC does not report them."""

        def read(machine: "system.System") -> Mapping[str, Any] | None:
            from sushy import exceptions

            try:
                attributes: Mapping[str, Any] | None = machine.bios.attributes
            except (exceptions.MissingAttributeError, exceptions.ResourceNotFoundError):
                return None
            except exceptions.HTTPError as error:
                if error.status_code in (500, 501):  # the answer of services without BIOS settings
                    return None
                raise
            return attributes

        return self._request("read its BIOS settings", read)

    def _request(self, doing: str, work: Callable[["system.System"], Answer]) -> Answer:
        """Call `work` with the machine as the BMC shows it; turn the library's exceptions into our errors."""
        from sushy import exceptions

        future = self._worker.submit(lambda: work(self._machine()))
        while not future.done():
            if self._cancelled.is_set():
                raise errors.Cancelled(node=self._access.node, doing=doing, seen="cancelled")
            futures.wait([future], 0.1)
        try:
            return future.result()
        except exceptions.AccessError as error:
            todo = "`pulumi config set --secret redfish_password`, or unlock the user there"
            raise self._access.failure(doing, "it refuses us", "a user and password that it accepts", todo) from error
        except exceptions.ConnectionError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                seen = "its certificate is not signed for this address by an authority that we trust"
                todo = "`ca` of the machine names the file with its authority; nothing was sent to it"
                raise self._access.failure(doing, seen, "a trusted certificate", todo) from error
            raise self._access.silence(doing, "no answer") from error
        except exceptions.ServerSideError as error:
            raise self._access.silence(doing, f"{error.status_code}: {error.detail or 'no reason given'}") from error
        except exceptions.HTTPError as error:
            seen = f"{error.status_code}: {error.detail or 'no reason given'}"
            systems = f"`system` of the machine; {self._access.url}/redfish/v1/Systems lists those that it has"
            todo = systems if error.status_code == 404 else "look at the BMC's own log"
            raise self._access.failure(doing, seen, next=todo) from error
        except exceptions.SushyError as error:
            todo = "look at its firmware's release"
            raise self._access.failure(doing, str(error).splitlines()[0], next=todo) from error

    def _machine(self) -> "system.System":
        """Return the machine, looked up at the first call."""
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
    """Yield the BMC; the first request connects to it. Raises BmcFailed where the file `ca` does not exist."""
    import logging

    # Otherwise the library logs a failed request to stderr, beside our message.
    logging.getLogger("sushy").propagate = False
    if access.ca and not Path(access.ca).is_file():
        seen, wanted = f"there is no file {access.ca}", "`ca`: a file with certificates in PEM form"
        raise access.failure("look at it", seen, wanted)
    worker = futures.ThreadPoolExecutor(1, "bmc")
    try:
        yield Bmc(access, cancelled, worker)
    finally:
        worker.shutdown(wait=False, cancel_futures=True)


def _path(system: str) -> str | None:
    return system if system.startswith("/") else f"/redfish/v1/Systems/{system}" if system else None


def _slots(machine: "system.System") -> "list[virtual_media.VirtualMedia]":
    """Return the virtual media devices of the system or, in older services, of its managers."""
    from sushy import exceptions

    machine.refresh(force=True)  # drops what the library cached below it
    for owners in (lambda: [machine], lambda: machine.managers):
        for owner in owners():
            try:
                members: list[virtual_media.VirtualMedia] = owner.virtual_media.get_members()
            except (exceptions.MissingAttributeError, exceptions.ResourceNotFoundError):
                continue
            if members:
                return members
    return []


def _is(slot: "virtual_media.VirtualMedia", *types: str) -> bool:
    return any(media_type.value in types for media_type in slot.media_types)

"""A machine behind a BMC: sushy-emulator with its fake driver, over HTTPS with Basic authentication. Switched on, it boots its installer, which
runs the seed's own script, or the installed system, which answers SSH with the seed's host key.

Owns the port of the BMC, its certificate and authority, a mirror with one image, the machine's thread. Used by tests/machine/test_redfish.py
and tests/provider/test_baremetal.py. One a process at a time: the emulator is a module with one application.
"""

import contextlib
import hashlib
import os
import re
import socket
import subprocess
import threading
import time
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import pycdlib
import werkzeug.serving

from fleet.bare_metal import bmc
from tests.support.http_server import Handler, LoopbackServer
from tests.support.ssh_server import Server, make_key

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of webob, which imports cgi
    from sushy_tools.emulator import main as emulator
    from sushy_tools.emulator.resources.systems import fakedriver

GOLDEN = Path(__file__).parents[1] / "machine" / "golden" / "redfish"
UUID = "6e3c1c2b-41fd-4c32-8f0d-2b1f5b1c3a10"
USER, WORD = "admin", "a-word-that-nobody-may-read"
IMAGE = b"an installer" * 1000
SETTINGS = {
    "Above4GDecoding": "Enabled",
    "SriovGlobalEnable": "Enabled",
    "PcieLinkSpeed": "Gen5",
    "NumaNodesPerSocket": "NPS1",
    "IommuSupport": "Enabled",
    "AspmSupport": "Disabled",
    "DeterminismSlider": "PowerDeterminism",
}


class Machine:
    """Switched off, with an empty disk. Set `works`, `answers` and `host` before it boots.

    `switch_on`, `switch_off` and `ended` imitate the hardware; tests/support/qemu_machine.py has those of QEMU.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.disk = folder, folder / "disk"
        self.works = True  # whether its installer ends
        self.answers = True  # whether the installed system boots
        self.host: Path | None = None  # a folder with another host key than the installed one
        self.seconds = 0.2  # of the installer
        self._looked = False  # whether a request has read that it is on
        self.bios: dict[str, Any] | None = dict(SETTINGS)
        self.requests, self.wiped = 0, 0  # to its BMC; installations that began
        self.boots, self.orders = list[str](), list[str]()  # devices; requests to its BMC that change something
        _certify(folder)
        (folder / "users").write_text(f"{USER}:{bcrypt.hashpw(WORD.encode(), bcrypt.gensalt(4)).decode()}\n")
        self.mirror = _Mirror()
        self._port, self.ssh_port, serve = _free_ports(3)
        self.serve = f"127.0.0.1:{serve}"
        self.driver = self._driver()
        self._over, self._until = threading.Event(), 0.0
        self._server: Server | None = None
        self._web: Any = None
        self.open()
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    @property
    def url(self) -> str:
        """The URL of its BMC."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def access(self) -> bmc.Access:
        """How to reach its BMC."""
        return bmc.Access("prod-3", self.url, USER, WORD, UUID, str(self.folder / "ca.pem"))

    @property
    def installer(self) -> dict[str, str]:
        """The site's image."""
        return {"url": self.mirror.url, "sha256": hashlib.sha256(self.mirror.image).hexdigest()}

    def pool(self, name: str = "prod-3", **more: Any) -> dict[str, Any]:
        """Return a pool of a stack file that has this machine alone; `more` are other keys of it."""
        user, pin = ((self.folder / f"{key}.pub").read_text().strip() for key in ("user", "pin"))
        defaults = {
            "ca": str(self.folder / "ca.pem"),
            "identity": str(self.folder / "user"),
            "serve": self.serve,
            "installer": self.installer,
            "seed": {"kind": "ubuntu", "authorized_keys": [user]},
            "wait": 20,
        }
        place = {"address": "127.0.0.1", "port": self.ssh_port, "bmc": self.url, "system": UUID, "host_key": pin}
        return {"source": "redfish", "defaults": {**defaults, **more}, "machines": {name: place}}

    def open(self) -> None:
        """Let its BMC answer."""
        files = (str(self.folder / "bmc.pem"), str(self.folder / "bmc.key"))
        self._web = werkzeug.serving.make_server(
            "127.0.0.1", self._port, self._ask, threaded=True, ssl_context=files, request_handler=_Quiet
        )
        threading.Thread(target=self._web.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def shut(self) -> None:
        """Let its BMC answer no more, as during its restart."""
        self._web.shutdown()
        self._web.server_close()

    def close(self) -> None:
        """End everything."""
        self._over.set()
        self._thread.join()
        self.shut()
        self.mirror.close()

    def finish(self) -> None:
        """Let an installer that hangs end."""
        self.works, self._until = True, time.monotonic()

    def media(self) -> list[str]:
        """Return the URLs of the inserted media."""
        return [device["Image"] for device in self._devices().values() if device.get("Image")]

    def _ask(self, environ: dict[str, Any], answer: Any) -> Any:
        self.requests += 1
        if environ["REQUEST_METHOD"] != "GET":
            self.orders.append(environ["PATH_INFO"].rpartition("/")[2])
        body = emulator.app(environ, answer)
        self._looked |= environ["PATH_INFO"].endswith(UUID) and self.driver.get_power_state(UUID) == "On"
        return body

    def _driver(self) -> Any:
        state = {"uuid": UUID, "name": "prod-3", "power_state": "Off", "nics": [], "external_notifier": False}
        emulator.app.configure(
            extra_config={
                "SUSHY_EMULATOR_FAKE_DRIVER": True,
                "SUSHY_EMULATOR_STATE_DIR": str(self.folder),
                "SUSHY_EMULATOR_AUTH_FILE": str(self.folder / "users"),
                "SUSHY_EMULATOR_FAKE_SYSTEMS": [state],
            }
        )
        vars(emulator.app).pop("_cache", None)  # the drivers of the previous machine
        if isinstance(emulator.app.wsgi_app, emulator.RedfishAuthMiddleware):
            emulator.app.wsgi_app.auth_file = str(self.folder / "users")
        fakedriver.random = types.SimpleNamespace(randint=lambda *_: 0)  # or a power button takes up to 11 s
        fakedriver.FakeDriver.get_bios = lambda driver, identity: self._bios()
        return emulator.app.systems

    def _bios(self) -> dict[str, Any]:
        if self.bios is None:
            raise fakedriver.error.NotSupportedError("Not implemented")
        return self.bios

    def inserted(self, device: str) -> Path:
        """Return the medium in a device, which the BMC has fetched."""
        return Path(self._devices()[device]["_local_file"])

    def _devices(self) -> dict[str, Any]:
        return {device: emulator.app.vmedia._get_device(UUID, device) for device in emulator.app.vmedia.devices}

    def _live(self) -> None:
        """Act as hardware: the power decides what runs, the boot device from where."""
        on = False
        while not self._over.wait(0.05):
            now = self.driver.get_power_state(UUID) == "On"
            if now and not on:
                self._looked = False
                self.boots.append(self.driver.get_boot_device(UUID))
                self.switch_on(self.boots[-1])
            elif on and not now:
                self.switch_off()
            if now and self.ended() and self._looked:
                self._looked = False
                self.driver._update(UUID, power_state="Off")
            on = now
        self.switch_off()

    def switch_on(self, device: str) -> None:
        """Boot from this device."""
        if device == "Cd" and len(self.media()) == 2:
            self._wipe()
            self._until = time.monotonic() + self.seconds if self.works else 0
        elif self.answers and (self.disk / "etc" / "glm-fleet-installed").exists():
            self._server = Server(self.host or self._identity(), self.ssh_port, self.disk, rereads=not self.host)

    def switch_off(self) -> None:
        """End what runs."""
        self._until = 0
        if self._server:
            self._server.close()
            self._server = None

    def ended(self) -> bool:
        """Return whether the installer has switched the machine off, once a request has read that it was on."""
        if not self._until or time.monotonic() < self._until or not self._looked:
            return False
        self._until = 0
        self._install()
        return True

    def _wipe(self) -> None:
        self.wiped += 1
        subprocess.run(["rm", "-rf", self.disk], check=True)
        (self.disk / "etc").mkdir(parents=True)
        (self.disk / "etc" / "passwd").write_text(f"root:x:{os.getuid()}:{os.getgid()}:root:/root:/bin/sh\n")

    def _install(self) -> None:
        """Run the medium's late_command.sh as Debian's and Ubuntu's installers do."""
        medium = pycdlib.PyCdlib()
        medium.open(str(self.inserted("Floppy")))
        assert medium.pvd.volume_identifier.decode().strip() == "CIDATA"
        for name in ("late_command.sh", "values"):
            medium.get_file_from_iso(str(self.folder / name), rr_path=f"/{name}")
        medium.close()
        subprocess.run(["sh", self.folder / "late_command.sh", self.disk], check=True)

    def _identity(self) -> Path:
        """Return a folder with the installed host key, for the server."""
        folder = self.folder / "host-of-the-disk"
        folder.mkdir(exist_ok=True)
        (folder / "host").write_bytes((self.disk / "etc" / "ssh" / "ssh_host_ed25519_key").read_bytes())
        (folder / "host").chmod(0o600)
        (folder / "user").write_bytes((self.folder / "user").read_bytes())
        return folder


class _Mirror(LoopbackServer):
    def __init__(self) -> None:
        self.image = IMAGE
        super().__init__(_Image)
        self.url = f"{self.url}/installer.iso"


class _Image(Handler):
    server: _Mirror

    def do_GET(self) -> None:
        self.reply(200, self.server.image)


class _Quiet(werkzeug.serving.WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Log nothing."""


def _free_ports(count: int) -> list[int]:
    """Return different ports of the loopback that nobody uses."""
    with contextlib.ExitStack() as sockets:
        servers = [sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


def _certify(folder: Path) -> None:
    """Make an authority, and the BMC's certificate by it."""
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    authority = f"openssl req -x509 {key} -subj /CN=bmc-ca -addext keyUsage=critical,keyCertSign -keyout {folder}/ca.key -out {folder}/ca.pem"
    request = f"openssl req {key} -subj /CN=bmc -keyout {folder}/bmc.key -out {folder}/bmc.csr"
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    sign = f"openssl x509 -req -in {folder}/bmc.csr -CA {folder}/ca.pem -CAkey {folder}/ca.key -CAcreateserial -days 2"
    for command in (authority, request, f"{sign} -extfile {folder}/san -out {folder}/bmc.pem"):
        subprocess.run(command.split(), check=True, capture_output=True)


@contextlib.contextmanager
def machine(folder: Path, kind: type[Machine] = Machine) -> Iterator[Machine]:
    """Yield a machine with `user`, a user's key, and `pin`, the host key to be pinned, in its folder."""
    for name in ("user", "pin"):
        make_key(folder, name)
    machine = kind(folder)
    try:
        yield machine
    finally:
        machine.close()


def expect_golden(claim: str, error: BaseException, bare: Machine) -> None:
    """Compare a message, less the test's own ports, paths and key, with the golden text."""
    text = re.sub(rf"127\.0\.0\.1:{bare.url.rpartition(':')[2]}", "bmc.example", f"{error}\n")
    text = text.replace(bare.mirror.url, "https://mirror.example/installer.iso").replace(str(bare.folder), "/keys")
    text = re.sub(r"127\.0\.0\.1:\d+|-p \d+", lambda match: re.sub(r"\d+$", "22", match[0]), text)
    assert re.sub(r"SHA256:\S+", "SHA256:…", text) == (GOLDEN / f"{claim}.txt").read_text()

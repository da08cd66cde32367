"""A machine behind a BMC: sushy-emulator with its fake driver, over HTTPS with Basic authentication, and what a machine does when it is
switched on. Its installer runs the seed's own script; what that leaves answers SSH with the host key that the seed brought.

Owns the port of the BMC, its certificate and authority, a mirror with one image, the machine's thread. Used by tests/machine/test_redfish.py
and tests/provider/test_baremetal.py. One a process at a time: the emulator is a module with one application.
"""

import contextlib
import hashlib
import http.server
import os
import re
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
from tests.support.ssh_server import Server

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
    """Switched off, with an empty disk. Set what it does (`works`, `answers`, `host`) before it is switched on.

    What it does then is in `switch_on`, `switch_off` and `ended`: tests/support/qemu_machine.py has others, of a real one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.disk = folder, folder / "disk"
        self.works = True  # whether its installer comes to an end
        self.answers = True  # whether what is installed starts
        self.host: Path | None = None  # a folder with another host key than the installed one
        self.seconds = 0.2  # that the installer takes
        self._looked = False  # whether anybody has seen that it is on
        self.bios: dict[str, Any] | None = dict(SETTINGS)
        self.asked, self.wiped = 0, 0  # requests that its BMC got, installations that began
        self.started, self.told = (
            list[str](),
            list[str](),
        )  # from which devices; what else than to read its BMC was told
        _certify(folder)
        (folder / "users").write_text(f"{USER}:{bcrypt.hashpw(WORD.encode(), bcrypt.gensalt(4)).decode()}\n")
        self.mirror = _Mirror()
        with _free() as port, _free() as ssh, _free() as serve:
            self._port, self.ssh_port, self.serve = port.port, ssh.port, f"127.0.0.1:{serve.port}"
        self.driver = self._driver()
        self._over, self._until = threading.Event(), 0.0
        self._server: Server | None = None
        self._web: Any = None
        self.open()
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where its BMC is."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def access(self) -> bmc.Access:
        """How its BMC is reached."""
        return bmc.Access("prod-3", self.url, USER, WORD, UUID, str(self.folder / "ca.pem"))

    @property
    def installer(self) -> dict[str, str]:
        """The site's image."""
        return {"url": self.mirror.url, "sha256": hashlib.sha256(self.mirror.image).hexdigest()}

    def open(self) -> None:
        """Let its BMC answer."""
        files = (str(self.folder / "bmc.pem"), str(self.folder / "bmc.key"))
        self._web = werkzeug.serving.make_server(
            "127.0.0.1", self._port, self._ask, threaded=True, ssl_context=files, request_handler=_Quiet
        )
        threading.Thread(target=self._web.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def shut(self) -> None:
        """Let its BMC answer no more, as while it starts anew."""
        self._web.shutdown()
        self._web.server_close()

    def close(self) -> None:
        """End all of it."""
        self._over.set()
        self._thread.join()
        self.shut()
        self.mirror.close()

    def finish(self) -> None:
        """Let an installer that hangs come to its end."""
        self.works, self._until = True, time.monotonic()

    def media(self) -> list[str]:
        """The URLs of what is inserted."""
        return [one["Image"] for one in self._devices().values() if one.get("Image")]

    def _ask(self, environ: dict[str, Any], answer: Any) -> Any:
        self.asked += 1
        if environ["REQUEST_METHOD"] != "GET":
            self.told.append(environ["PATH_INFO"].rpartition("/")[2])
        told = emulator.app(environ, answer)
        self._looked |= environ["PATH_INFO"].endswith(UUID) and self.driver.get_power_state(UUID) == "On"
        return told

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
        vars(emulator.app).pop("_cache", None)  # the drivers of the machine before
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
        """What hardware does: its power decides what runs, its boot device from where."""
        on = False
        while not self._over.wait(0.05):
            now = self.driver.get_power_state(UUID) == "On"
            if now and not on:
                self._looked = False
                self.started.append(self.driver.get_boot_device(UUID))
                self.switch_on(self.started[-1])
            elif on and not now:
                self.switch_off()
            if now and self.ended() and self._looked:
                self._looked = False
                self.driver._update(UUID, power_state="Off")
            on = now
        self.switch_off()

    def switch_on(self, device: str) -> None:
        """Run what boots from this device."""
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
        """Whether what runs has switched the machine off; nobody misses that it was on."""
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
        """Run late_command.sh of the medium as Debian's and Ubuntu's installers do."""
        medium = pycdlib.PyCdlib()
        medium.open(str(self.inserted("Floppy")))
        assert medium.pvd.volume_identifier.decode().strip() == "CIDATA"
        for name in ("late_command.sh", "values"):
            medium.get_file_from_iso(str(self.folder / name), rr_path=f"/{name}")
        medium.close()
        subprocess.run(["sh", self.folder / "late_command.sh", self.disk], check=True)

    def _identity(self) -> Path:
        """A folder with the installed host key, for the server."""
        found = self.folder / "host-of-the-disk"
        found.mkdir(exist_ok=True)
        (found / "host").write_bytes((self.disk / "etc" / "ssh" / "ssh_host_ed25519_key").read_bytes())
        (found / "host").chmod(0o600)
        (found / "user").write_bytes((self.folder / "user").read_bytes())
        return found


class _Mirror(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        self.image = IMAGE
        super().__init__(("127.0.0.1", 0), _Image)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/installer.iso"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Image(http.server.BaseHTTPRequestHandler):
    server: _Mirror

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.image)))
        self.end_headers()
        self.wfile.write(self.server.image)

    def log_message(self, *_: Any) -> None:
        """Nothing on the test's stderr."""


class _Quiet(werkzeug.serving.WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Nothing on the test's stderr."""


class _free:
    """A port of the loopback that nobody has, held until all that are needed are known."""

    def __enter__(self) -> "_free":
        import socket

        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


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
    """A machine with a key of a user and a host key that is to be pinned, `user` and `pin` in its folder."""
    for name in ("user", "pin"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / name]
        subprocess.run(command, check=True)
    made = kind(folder)
    try:
        yield made
    finally:
        made.close()


def told(error: BaseException, bare: Machine) -> str:
    """Return a message with the test's own ports and paths as in the golden texts."""
    text = re.sub(rf"127\.0\.0\.1:{bare.url.rpartition(':')[2]}", "bmc.example", f"{error}\n")
    text = text.replace(bare.mirror.url, "https://mirror.example/installer.iso").replace(str(bare.folder), "/keys")
    return re.sub(r"127\.0\.0\.1:\d+|-p \d+", lambda one: re.sub(r"\d+$", "22", one[0]), text)


def golden(claim: str, error: BaseException, bare: Machine) -> None:
    assert told(error, bare) == (GOLDEN / f"{claim}.txt").read_text()

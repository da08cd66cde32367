"""What an installation brings to a machine, how a BMC gets it, and which BIOS settings are not as they should be."""

import os
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from io import BytesIO
from pathlib import Path
from typing import Any

import pycdlib
import pytest
import yaml

from fleet import errors
from fleet.bare_metal import bios, seed, seed_server
from tests.support.redfish_machine import SETTINGS

PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n"


def made(**changed: Any) -> seed.Seed:
    right = {"kind": "ubuntu", "name": "prod-3", "nonce": "one", "user": "root", "authorized": ["ssh-ed25519 A ops"]}
    return seed.Seed(**{**right, "public": "ssh-ed25519 B", "private": PRIVATE, **changed})


def read(image: bytes) -> dict[str, str]:
    """Return the files of a medium by name, as Linux reads them; its label must be the one that is looked for."""
    disk, found = pycdlib.PyCdlib(), {}
    disk.open_fp(BytesIO(image))
    assert disk.pvd.volume_identifier.decode().strip() == "CIDATA"
    for child in disk.list_children(rr_path="/"):
        if child.is_file():
            out = BytesIO()
            name = child.rock_ridge.name().decode()
            disk.get_file_from_iso_fp(out, rr_path=f"/{name}")
            found[name] = out.getvalue().decode()
    return found


# --- the seed


def test_ubuntu_s_installer_asks_nothing_and_switches_the_machine_off() -> None:
    files = read(made(autoinstall={"storage": {"layout": {"name": "lvm"}}, "late-commands": ["true"]}).image())
    assert sorted(files) == ["late_command.sh", "meta-data", "user-data", "values"]
    assert files["meta-data"] == "instance-id: prod-3-one\n"
    assert files["user-data"].startswith("#cloud-config\n")
    told = yaml.safe_load(files["user-data"])["autoinstall"]
    assert (told["version"], told["shutdown"], told["ssh"]) == (
        1,
        "poweroff",
        {"install-server": True, "allow-pw": False},
    )
    assert told["storage"] == {"layout": {"name": "lvm"}}
    assert told["late-commands"] == ["true", seed.RUN_LATE_COMMAND]
    assert (told["user-data"]["ssh_deletekeys"], told["user-data"]["ssh_genkeytypes"]) == (False, ["ed25519"])


def test_debian_s_installer_asks_nothing_and_switches_the_machine_off() -> None:
    files = read(made(kind="debian", preseed="d-i partman-auto/disk string /dev/nvme0n1\n").image())
    assert sorted(files) == ["late_command.sh", "preseed.cfg", "values"]
    told = files["preseed.cfg"]
    assert "d-i debian-installer/exit/poweroff boolean true\n" in told
    assert f"d-i preseed/late_command string {seed.RUN_LATE_COMMAND}\n" in told
    assert told.endswith("d-i partman-auto/disk string /dev/nvme0n1\n")


def test_what_a_site_says_over_ours_does_not_count() -> None:
    told = yaml.safe_load(made(autoinstall={"shutdown": "reboot", "ssh": {"allow-pw": True}}).files()["user-data"])
    assert told["autoinstall"]["shutdown"] == "poweroff" and told["autoinstall"]["ssh"]["allow-pw"] is False


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """The root of a system that was just installed, with host keys of its own, whose root is who runs the tests."""
    (tmp_path / "etc" / "ssh").mkdir(parents=True)
    users = f"root:x:{os.getuid()}:{os.getgid()}::/root:/bin/sh\nops:x:{os.getuid()}:{os.getgid()}::/home/ops:/bin/sh\n"
    (tmp_path / "etc" / "passwd").write_text(users)
    (tmp_path / "etc" / "ssh" / "ssh_host_rsa_key").write_text("its own")
    return tmp_path


def late(target: Path, brings: seed.Seed) -> int:
    """Run the medium's script as an installer does; return its exit code."""
    medium = target / "medium"
    medium.mkdir(exist_ok=True)
    for name, text in brings.files().items():
        (medium / name).write_text(text)
    return subprocess.run(["sh", medium / "late_command.sh", target], check=False, capture_output=True).returncode


@pytest.mark.parametrize(("user", "home"), [("root", "root"), ("ops", "home/ops")])
def test_the_installed_system_has_our_user_our_keys_and_the_mark(target: Path, user: str, home: str) -> None:
    for _ in range(2):  # an installer may run it again
        assert late(target, made(user=user)) == 0
    keys = target / "etc" / "ssh"
    assert sorted(path.name for path in keys.iterdir()) == ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"]
    assert (keys / "ssh_host_ed25519_key").read_text() == PRIVATE
    assert (keys / "ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert (keys / "ssh_host_ed25519_key.pub").read_text() == "ssh-ed25519 B\n"
    own = target / home / ".ssh" / "authorized_keys"
    assert own.read_text() == "ssh-ed25519 A ops\n" and own.stat().st_mode & 0o077 == 0
    assert (target / "etc" / "hostname").read_text() == "prod-3\n"
    assert (target / "etc" / "glm-fleet-installed").read_text() == "one\n"
    assert (target / "etc" / "sudoers.d").exists() is (user != "root")


def test_what_breaks_off_has_no_mark(target: Path) -> None:
    assert late(target, made(user="nobody-here"))  # there is no useradd in that folder
    assert not (target / "etc" / "glm-fleet-installed").exists()


def test_a_private_key_does_not_show_in_what_python_prints() -> None:
    assert "b3Bl" not in repr(made())


# --- how a BMC gets it


def fetch(url: str, **headers: str) -> tuple[int, bytes]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
        return answer.status, answer.read()


def test_a_seed_is_served_whole_and_in_parts_while_it_is_needed_and_not_longer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with seed_server.serving("prod-3", address, {"/a/seed.iso": b"0123456789"}):
        with seed_server.serving("prod-4", address, {"/b/seed.iso": b"other"}):
            assert fetch(f"http://{address}/b/seed.iso") == (200, b"other")
        url = f"http://{address}/a/seed.iso"
        assert fetch(url) == (200, b"0123456789")
        assert fetch(url, Range="bytes=2-4") == (206, b"234")
        assert fetch(url, Range="bytes=7-") == (206, b"789")
        assert fetch(url, Range="bytes=-2") == (206, b"89")
        assert fetch(url, Range="bytes=8-99") == (206, b"89")
        for path, headers, code in (
            ("/", {}, 404),
            ("/b/seed.iso", {}, 404),
            ("/a/seed.iso", {"Range": "bytes=10-"}, 416),
        ):
            with pytest.raises(urllib.error.HTTPError) as caught:
                fetch(f"http://{address}{path}", **headers)
            assert caught.value.code == code
            caught.value.close()
    with pytest.raises(urllib.error.URLError):
        fetch(url)


def test_an_image_is_served_from_its_file_over_https(tmp_path: Path) -> None:
    image, certificate = tmp_path / "installer.image", tmp_path / "serve.pem"
    image.write_bytes(bytes(range(256)) * 8192)  # more than one block
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", certificate]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    openssl = ["openssl", "req", "-x509", "-nodes", *key, "-out", tmp_path / "ca.pem", *subject]
    subprocess.run(openssl, check=True, capture_output=True)
    certificate.write_bytes(certificate.read_bytes() + (tmp_path / "ca.pem").read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    trust = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    with seed_server.serving("prod-3", address, {"/a/installer.iso": image}, str(certificate)):
        asked = urllib.request.Request(f"https://{address}/a/installer.iso", headers={"Range": "bytes=1048570-1048585"})
        with urllib.request.urlopen(asked, timeout=5, context=trust) as answer:
            assert answer.read() == image.read_bytes()[1048570:1048586]
        with urllib.request.urlopen(f"https://{address}/a/installer.iso", timeout=5, context=trust) as answer:
            assert answer.read() == image.read_bytes()


def test_a_certificate_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(errors.FleetError) as caught,
        seed_server.serving("prod-3", "127.0.0.1:0", {}, str(tmp_path / "none.pem")),
    ):
        pass
    assert str(caught.value).startswith(
        f"prod-3: read the certificate {tmp_path}/none.pem: no such file or directory\n"
    )


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(errors.FleetError) as caught, seed_server.serving("prod-3", address, {}):
            pass
    assert str(caught.value).startswith(f"prod-3: serve its installer at {address}: address already in use\n")


# --- BIOS settings


def told(own: dict[str, Any] | None = None, **changed: Any) -> list[str]:
    settings = {name: value for name, value in {**SETTINGS, **changed}.items() if value is not None}
    return [str(one) for one in bios.compare(settings, own or {})]


def test_a_machine_that_is_set_right_differs_in_nothing() -> None:
    assert told() == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"SriovGlobalEnable": "Disabled"}, "BIOS: SR-IOV (SriovGlobalEnable) is Disabled, wanted on"),
        (
            {"NumaNodesPerSocket": "4"},
            "BIOS: NUMA nodes per socket (NumaNodesPerSocket) is 4, wanted NPS1",
        ),
        ({"AspmSupport": "L1 Entry"}, "BIOS: ASPM (AspmSupport) is L1 Entry, wanted off"),
        ({"DeterminismSlider": "Performance"}, "BIOS: Determinism (DeterminismSlider) is Performance, wanted Power"),
        ({"PcieLinkSpeed": "Gen4"}, "BIOS: PCIe generation (PcieLinkSpeed) is Gen4, wanted Gen5"),
        ({"Above4GDecoding": None}, "BIOS: Above 4G decoding is not reported by the BMC, wanted on"),
    ],
)
def test_a_difference_is_told_with_name_seen_and_wanted(changed: dict[str, Any], words: str) -> None:
    assert told(**changed) == [words]


def test_vendors_names_of_the_same_settings_are_known() -> None:
    vendor = {
        "MmioAbove4Gb": "Enabled",
        "SR-IOV Support": "Enabled",
        "PCIe Link Speed": "GEN5",
        "NUMA nodes per socket": "NPS1",
        "IOMMU": "Enabled",
        "ASPM Support": "Disabled",
        "Determinism Control": "Power",
    }
    assert bios.compare(vendor, {}) == []


def test_a_site_s_own_list_is_compared_by_its_vendor_s_names_and_wins() -> None:
    own = {"NumaNodesPerSocket": "NPS4", "SmtMode": "Disabled"}
    assert told(own, NumaNodesPerSocket="NPS4", SmtMode="Enabled") == ["BIOS: SmtMode is Enabled, wanted Disabled"]
    assert told({"SmtMode": "Disabled"}) == ["BIOS: SmtMode is not reported by the BMC, wanted Disabled"]

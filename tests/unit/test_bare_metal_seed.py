"""What an installer finds on its seed, how a BMC gets the seed, and which BIOS settings differ from the wanted ones."""

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


def make_seed(**changes: Any) -> seed.Seed:
    right = {"kind": "ubuntu", "name": "prod-3", "nonce": "one", "user": "root", "authorized": ["ssh-ed25519 A ops"]}
    return seed.Seed(**{**right, "public": "ssh-ed25519 B", "private": PRIVATE, **changes})


def read(image: bytes) -> dict[str, str]:
    """Return the files of an image by name, as Linux reads them; the label must be the one that an installer looks for."""
    disk, files = pycdlib.PyCdlib(), {}
    disk.open_fp(BytesIO(image))
    assert disk.pvd.volume_identifier.decode().strip() == "CIDATA"
    for child in disk.list_children(rr_path="/"):
        if child.is_file():
            out = BytesIO()
            name = child.rock_ridge.name().decode()
            disk.get_file_from_iso_fp(out, rr_path=f"/{name}")
            files[name] = out.getvalue().decode()
    return files


# --- the seed


def test_ubuntu_s_installer_asks_nothing_and_powers_the_machine_off() -> None:
    files = read(make_seed(autoinstall={"storage": {"layout": {"name": "lvm"}}, "late-commands": ["true"]}).image())
    assert sorted(files) == ["late_command.sh", "meta-data", "user-data", "values"]
    assert files["meta-data"] == "instance-id: prod-3-one\n"
    assert files["user-data"].startswith("#cloud-config\n")
    answers = yaml.safe_load(files["user-data"])["autoinstall"]
    assert (answers["version"], answers["shutdown"]) == (1, "poweroff")
    assert answers["ssh"] == {"install-server": True, "allow-pw": False}
    assert answers["storage"] == {"layout": {"name": "lvm"}}
    assert answers["late-commands"] == ["true", seed.RUN_LATE_COMMAND]
    assert (answers["user-data"]["ssh_deletekeys"], answers["user-data"]["ssh_genkeytypes"]) == (False, ["ed25519"])


def test_debian_s_installer_asks_nothing_and_powers_the_machine_off() -> None:
    files = read(make_seed(kind="debian", preseed="d-i partman-auto/disk string /dev/nvme0n1\n").image())
    assert sorted(files) == ["late_command.sh", "preseed.cfg", "values"]
    preseed = files["preseed.cfg"]
    assert "d-i debian-installer/exit/poweroff boolean true\n" in preseed
    assert f"d-i preseed/late_command string {seed.RUN_LATE_COMMAND}\n" in preseed
    assert preseed.endswith("d-i partman-auto/disk string /dev/nvme0n1\n")


def test_our_answers_win_over_a_site_s() -> None:
    user_data = make_seed(autoinstall={"shutdown": "reboot", "ssh": {"allow-pw": True}}).files()["user-data"]
    answers = yaml.safe_load(user_data)["autoinstall"]
    assert answers["shutdown"] == "poweroff" and answers["ssh"]["allow-pw"] is False


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """The root of a newly installed system with host keys of its own; its root is the user who runs the tests."""
    (tmp_path / "etc" / "ssh").mkdir(parents=True)
    users = f"root:x:{os.getuid()}:{os.getgid()}::/root:/bin/sh\nops:x:{os.getuid()}:{os.getgid()}::/home/ops:/bin/sh\n"
    (tmp_path / "etc" / "passwd").write_text(users)
    (tmp_path / "etc" / "ssh" / "ssh_host_rsa_key").write_text("its own")
    return tmp_path


def run_late_command(target: Path, own: seed.Seed) -> int:
    """Run the seed's script as an installer does; return its exit code."""
    medium = target / "medium"
    medium.mkdir(exist_ok=True)
    for name, text in own.files().items():
        (medium / name).write_text(text)
    return subprocess.run(["sh", medium / "late_command.sh", target], check=False, capture_output=True).returncode


@pytest.mark.parametrize(("user", "home"), [("root", "root"), ("ops", "home/ops")])
def test_the_installed_system_has_our_user_our_keys_and_the_mark(target: Path, user: str, home: str) -> None:
    for _ in range(2):  # an installer may run it again
        assert run_late_command(target, make_seed(user=user)) == 0
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


def test_a_failed_installation_has_no_mark(target: Path) -> None:
    assert run_late_command(target, make_seed(user="nobody-here"))  # there is no useradd in that folder
    assert not (target / "etc" / "glm-fleet-installed").exists()


def test_the_repr_of_a_seed_hides_its_private_key() -> None:
    assert "b3Bl" not in repr(make_seed())


# --- how a BMC gets it


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def fetch(url: str, **headers: str) -> tuple[int, bytes]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
        return answer.status, answer.read()


def test_the_server_gives_a_seed_whole_and_in_parts_and_ends_with_the_installation() -> None:
    address = free_address()
    with seed_server.serving("prod-3", address, {"/a/seed.iso": b"0123456789"}):
        with seed_server.serving("prod-4", address, {"/b/seed.iso": b"other"}):
            assert fetch(f"http://{address}/b/seed.iso") == (200, b"other")
        url = f"http://{address}/a/seed.iso"
        assert fetch(url) == (200, b"0123456789")
        assert fetch(url, Range="bytes=2-4") == (206, b"234")
        assert fetch(url, Range="bytes=7-") == (206, b"789")
        assert fetch(url, Range="bytes=-2") == (206, b"89")
        assert fetch(url, Range="bytes=8-99") == (206, b"89")
        beyond = {"Range": "bytes=10-"}
        for path, headers, code in (("/", {}, 404), ("/b/seed.iso", {}, 404), ("/a/seed.iso", beyond, 416)):
            with pytest.raises(urllib.error.HTTPError) as caught:
                fetch(f"http://{address}{path}", **headers)
            assert caught.value.code == code
            caught.value.close()
    with pytest.raises(urllib.error.URLError):
        fetch(url)


def test_the_server_gives_an_image_from_its_file_over_https(tmp_path: Path) -> None:
    image, certificate = tmp_path / "installer.image", tmp_path / "serve.pem"
    image.write_bytes(bytes(range(256)) * 8192)  # more than one block
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", certificate]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    openssl = ["openssl", "req", "-x509", "-nodes", *key, "-out", tmp_path / "ca.pem", *subject]
    subprocess.run(openssl, check=True, capture_output=True)
    certificate.write_bytes(certificate.read_bytes() + (tmp_path / "ca.pem").read_bytes())
    address = free_address()
    trust = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    with seed_server.serving("prod-3", address, {"/a/installer.iso": image}, str(certificate)):
        part = urllib.request.Request(f"https://{address}/a/installer.iso", headers={"Range": "bytes=1048570-1048585"})
        with urllib.request.urlopen(part, timeout=5, context=trust) as answer:
            assert answer.read() == image.read_bytes()[1048570:1048586]
        with urllib.request.urlopen(f"https://{address}/a/installer.iso", timeout=5, context=trust) as answer:
            assert answer.read() == image.read_bytes()


def test_a_missing_certificate_is_an_error(tmp_path: Path) -> None:
    file = str(tmp_path / "none.pem")
    with pytest.raises(errors.FleetError) as caught, seed_server.serving("prod-3", "127.0.0.1:0", {}, file):
        pass
    assert str(caught.value).startswith(f"prod-3: read the certificate {file}: no such file or directory\n")


def test_a_port_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(errors.FleetError) as caught, seed_server.serving("prod-3", address, {}):
            pass
    assert str(caught.value).startswith(f"prod-3: serve its installer at {address}: address already in use\n")


# --- BIOS settings


def compare(own: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    settings = {name: value for name, value in {**SETTINGS, **changes}.items() if value is not None}
    return [str(difference) for difference in bios.compare(settings, own or {})]


def test_a_machine_with_the_wanted_settings_has_no_difference() -> None:
    assert compare() == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"SriovGlobalEnable": "Disabled"}, "BIOS: SR-IOV (SriovGlobalEnable) is Disabled, wanted on"),
        ({"NumaNodesPerSocket": "4"}, "BIOS: NUMA nodes per socket (NumaNodesPerSocket) is 4, wanted NPS1"),
        ({"AspmSupport": "L1 Entry"}, "BIOS: ASPM (AspmSupport) is L1 Entry, wanted off"),
        ({"DeterminismSlider": "Performance"}, "BIOS: Determinism (DeterminismSlider) is Performance, wanted Power"),
        ({"PcieLinkSpeed": "Gen4"}, "BIOS: PCIe generation (PcieLinkSpeed) is Gen4, wanted Gen5"),
        ({"Above4GDecoding": None}, "BIOS: Above 4G decoding is not reported by the BMC, wanted on"),
    ],
)
def test_a_difference_has_the_setting_s_name_what_is_seen_and_what_is_wanted(
    changes: dict[str, Any], line: str
) -> None:
    assert compare(**changes) == [line]


def test_the_comparison_knows_the_vendors_names_of_a_setting() -> None:
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


def test_a_site_s_own_list_has_its_vendor_s_names_and_wins() -> None:
    own = {"NumaNodesPerSocket": "NPS4", "SmtMode": "Disabled"}
    assert compare(own, NumaNodesPerSocket="NPS4", SmtMode="Enabled") == ["BIOS: SmtMode is Enabled, wanted Disabled"]
    assert compare({"SmtMode": "Disabled"}) == ["BIOS: SmtMode is not reported by the BMC, wanted Disabled"]

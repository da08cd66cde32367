"""A BMC is asked and told over Redfish: against sushy-emulator (tests/support/redfish_machine.py).

What goes wrong ends in one message each: golden/redfish/.
"""

import dataclasses
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from fleet import errors
from fleet.bare_metal import bmc
from tests.support.redfish_machine import Machine, golden


def test_power_and_bios_settings_are_read(bare: Machine, cancelled: threading.Event) -> None:
    with bmc.reach(bare.access, cancelled) as there:
        assert there.power() == "Off"
        assert there.bios() == bare.bios
    bare.bios = None
    with bmc.reach(bare.access, cancelled) as there:
        assert there.bios() is None
    assert bare.told == []  # nothing was changed


def test_what_is_so_already_is_not_asked_for(bare: Machine, cancelled: threading.Event) -> None:
    with bmc.reach(bare.access, cancelled) as there:
        there.set_power(False)
        assert bare.told == []
        there.set_power(True)
        assert (there.power(), bare.told) == ("On", ["ComputerSystem.Reset"])


def test_media_are_inserted_over_those_before_and_ejected(bare: Machine, cancelled: threading.Event) -> None:
    with bmc.reach(bare.access, cancelled) as there:
        for seeds in ("first", "second"):
            there.insert(bare.mirror.url, lambda suffix, name=seeds: f"{bare.mirror.url}/{name}.{suffix}")
        assert there.media() == [bare.mirror.url, f"{bare.mirror.url}/second.img"] == bare.media()
        there.eject()
        assert there.media() == []
        there.boot_once("Cd")
    assert bare.driver.get_boot_device(bare.access.system) == "Cd"


def test_the_only_machine_of_a_bmc_needs_no_id(bare: Machine, cancelled: threading.Event) -> None:
    with bmc.reach(dataclasses.replace(bare.access, system=""), cancelled) as there:
        assert there.power() == "Off"


def test_a_machine_that_the_bmc_does_not_have_is_told(bare: Machine, cancelled: threading.Event) -> None:
    access = dataclasses.replace(bare.access, system="7")
    with bmc.reach(access, cancelled) as there, pytest.raises(errors.BmcFailed) as caught:
        there.power()
    golden("a-system-that-is-not-there", caught.value, bare)


def test_a_wrong_password_is_told_and_not_repeated(bare: Machine, cancelled: threading.Event) -> None:
    access = dataclasses.replace(bare.access, password="another-word")
    with bmc.reach(access, cancelled) as there, pytest.raises(errors.BmcFailed) as caught:
        there.power()
    golden("a-wrong-password", caught.value, bare)
    assert "another-word" not in repr(access) + str(caught.value)


def test_a_certificate_of_another_authority_is_refused_and_nothing_is_sent(
    bare: Machine, cancelled: threading.Event, tmp_path: Path
) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=other -keyout"
    subprocess.run(
        [*command.split(), tmp_path / "other.key", "-out", tmp_path / "other.pem"], check=True, capture_output=True
    )
    for ca in (str(tmp_path / "other.pem"), ""):
        access = dataclasses.replace(bare.access, ca=ca)
        with bmc.reach(access, cancelled) as there, pytest.raises(errors.BmcFailed) as caught:
            there.set_power(True)
        golden("a-certificate-of-another-authority", caught.value, bare)
    assert bare.asked == 0


def test_an_authority_s_file_that_is_not_there_is_told(bare: Machine, cancelled: threading.Event) -> None:
    access = dataclasses.replace(bare.access, ca=str(bare.folder / "none.pem"))
    with pytest.raises(errors.BmcFailed) as caught, bmc.reach(access, cancelled):
        pass
    golden("an-authority-s-file-that-is-not-there", caught.value, bare)


def test_a_bmc_that_does_not_answer_is_told(bare: Machine, cancelled: threading.Event) -> None:
    bare.shut()
    with bmc.reach(bare.access, cancelled) as there, pytest.raises(errors.BmcSilent) as caught:
        there.power()
    bare.open()
    golden("a-bmc-that-does-not-answer", caught.value, bare)


def test_a_cancel_ends_a_request_that_hangs(cancelled: threading.Event) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        access = bmc.Access("prod-3", f"https://127.0.0.1:{deaf.getsockname()[1]}", "u", "w")
        threading.Timer(0.3, cancelled.set).start()
        began = time.monotonic()
        with bmc.reach(access, cancelled) as there, pytest.raises(errors.Cancelled):
            there.power()
    assert time.monotonic() - began < 3

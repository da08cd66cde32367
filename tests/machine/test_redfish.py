"""A BMC is read and switched over Redfish: against sushy-emulator (tests/support/redfish_machine.py).

Each failure ends in one message: golden/redfish/.
"""

import dataclasses
import socket
import threading
import time
from typing import Any

import pytest

from fleet import errors
from fleet.bare_metal import bmc
from tests.support.http_server import make_certificate
from tests.support.redfish_machine import Machine, expect_golden


def test_power_and_bios_settings_are_read(bare: Machine, cancelled: threading.Event) -> None:
    with bmc.reach(bare.access, cancelled) as there:
        assert there.power() == "Off"
        assert there.bios() == bare.bios
    bare.bios = None
    with bmc.reach(bare.access, cancelled) as there:
        assert there.bios() is None
    assert bare.orders == []


def test_a_state_that_the_machine_has_already_causes_no_request(bare: Machine, cancelled: threading.Event) -> None:
    with bmc.reach(bare.access, cancelled) as there:
        there.set_power(False)
        assert bare.orders == []
        there.set_power(True)
        assert (there.power(), bare.orders) == ("On", ["ComputerSystem.Reset"])


def test_media_replace_earlier_ones_and_are_ejected(bare: Machine, cancelled: threading.Event) -> None:
    with bmc.reach(bare.access, cancelled) as there:
        for seed in ("first", "second"):
            there.insert(bare.mirror.url, lambda suffix, name=seed: f"{bare.mirror.url}/{name}.{suffix}")
        assert there.media() == [bare.mirror.url, f"{bare.mirror.url}/second.img"] == bare.media()
        there.eject()
        assert there.media() == []
        there.boot_once("Cd")
    assert bare.driver.get_boot_device(bare.access.system) == "Cd"


def test_the_only_machine_of_a_bmc_needs_no_id(bare: Machine, cancelled: threading.Event) -> None:
    with bmc.reach(dataclasses.replace(bare.access, system=""), cancelled) as there:
        assert there.power() == "Off"


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("a-system-that-is-not-there", {"system": "7"}),
        ("a-wrong-password", {"password": "another-word"}),
        ("an-authority-s-file-that-is-not-there", {"ca": "none.pem"}),
    ],
)
def test_wrong_access_fails_in_one_message_without_the_password(
    bare: Machine, cancelled: threading.Event, claim: str, change: dict[str, Any]
) -> None:
    if "ca" in change:
        change = {"ca": str(bare.folder / change["ca"])}
    access = dataclasses.replace(bare.access, **change)
    with pytest.raises(errors.BmcFailed) as caught, bmc.reach(access, cancelled) as there:
        there.power()
    expect_golden(claim, caught.value, bare)
    assert "another-word" not in repr(access) + str(caught.value)


def test_a_certificate_of_another_authority_ends_the_connection_before_any_request(
    bare: Machine, cancelled: threading.Event
) -> None:
    for ca in (str(make_certificate(bare.folder, "other")), ""):
        access = dataclasses.replace(bare.access, ca=ca)
        with bmc.reach(access, cancelled) as there, pytest.raises(errors.BmcFailed) as caught:
            there.set_power(True)
        expect_golden("a-certificate-of-another-authority", caught.value, bare)
    assert bare.requests == 0


def test_a_bmc_that_does_not_answer_is_reported(bare: Machine, cancelled: threading.Event) -> None:
    bare.shut()
    with bmc.reach(bare.access, cancelled) as there, pytest.raises(errors.BmcSilent) as caught:
        there.power()
    bare.open()
    expect_golden("a-bmc-that-does-not-answer", caught.value, bare)


def test_a_cancel_ends_a_request_that_hangs(cancelled: threading.Event) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        access = bmc.Access("prod-3", f"https://127.0.0.1:{deaf.getsockname()[1]}", "u", "w")
        threading.Timer(0.3, cancelled.set).start()
        start = time.monotonic()
        with bmc.reach(access, cancelled) as there, pytest.raises(errors.Cancelled):
            there.power()
    assert time.monotonic() - start < 3

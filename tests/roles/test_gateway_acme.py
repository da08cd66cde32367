"""Claims about certificates by ACME of the role gateway: real units on two nodes, dehydrated of their archives, Pebble on one of them.

The name has the address of debian alone: its gateway answers the challenges of both. tests/machine/test_acme.py has the claims that need no
unit, such as a renewal under load. The tests are steps; the last one takes everything away.
"""

import pathlib
import subprocess
from typing import Any

import pytest

from fleet import certificates
from tests.support import gateway_pki, pebble_server
from tests.support.gateway_fleet import NAME, Fleet
from tests.support.playbook import Run
from tests.support.role_node import Place

pytestmark = [pytest.mark.exhaustive, pytest.mark.needs("go"), pytest.mark.timeout(1800)]
ACCOUNT, THUMBPRINT = certificates.new_account()
LEFT = "/etc/fleet/acme /var/lib/fleet-acme /usr/local/lib/fleet/acme-control /etc/systemd/system/fleet-acme.*"


class Endpoint(Fleet):
    """Two gateways that get their certificates by ACME."""

    def ask_for(self, name: str, *names: str, check: bool = False, **more: Any) -> Run:
        acme = {"server": pebble_server.DIRECTORY, "names": list(names or [NAME]), "thumbprint": THUMBPRINT}
        keys = {"GATEWAY_ACME_KEY": ACCOUNT, "GATEWAY_ACME_AUTHORITY": PUBLIC.pem}
        return self.run(name, check, keys, gateway_acme=acme, **more)

    def served(self, name: str, field: str) -> str:
        """Return a field of the certificate that a gateway shows clients."""
        show = f"openssl s_client -connect 127.0.0.1:443 -servername {NAME} 2>/dev/null"
        return self.places[name].sh(f"echo | {show} | openssl x509 -noout {field}")

    def issuer(self, name: str) -> str:
        return self.served(name, "-issuer")


PUBLIC = gateway_pki.authority("of the ACME server itself")


@pytest.fixture(scope="module")
def fleet(ubuntu: Place, debian: Place, tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    fleet = Endpoint({"ubuntu": ubuntu, "debian": debian}, gateway_pki.authority())
    for place in fleet.places.values():
        place.sh("cat >>/etc/hosts", stdin=f"{fleet.address('debian')} {NAME} {pebble_server.HOST}\n")
    program = pebble_server.build().read_bytes()
    put = "cat >/usr/local/bin/pebble && chmod 755 /usr/local/bin/pebble"
    subprocess.run([*debian.ssh, put], input=program, check=True)
    settings = pebble_server.settings(PUBLIC, "0.0.0.0", pathlib.PurePosixPath("/root"), seconds=3600)
    for path, text in settings.items():
        debian.sh(f"cat >{path}", stdin=text)
    quiet = " ".join(f"--setenv={name}={value}" for name, value in pebble_server.QUIET.items())
    debian.sh(f"systemd-run --quiet --collect --unit=pebble {quiet} /usr/local/bin/pebble -config /root/pebble.json")
    return fleet


def test_check_mode_reports_what_acme_needs_and_changes_nothing(fleet: Endpoint) -> None:
    assert fleet.run("ubuntu").rc == 0
    check = fleet.ask_for("ubuntu", check=True)
    assert check.rc == 0, check.message
    assert {"Create the proxies' users", "Write the units of ACME"} & {*check.changed}
    assert fleet.places["ubuntu"].sh(f"ls -d {LEFT} 2>/dev/null || true") == ""


def test_a_gateway_whose_name_nobody_answers_serves_with_its_own_certificate_and_says_why(fleet: Endpoint) -> None:
    run = fleet.ask_for("ubuntu")
    assert run.rc == 0, run.message
    acme = run.results["fleet_gateway"]["acme"]
    assert (acme["by"], acme["right"]) == ("authority", False)
    assert f"{NAME} at {fleet.address('debian')}, port 80" in acme["seen"]
    assert "an authority of the tests" in fleet.issuer("ubuntu")


def test_each_gateway_gets_its_certificate_in_its_sandbox(fleet: Endpoint) -> None:
    for name in ("debian", "ubuntu"):
        run = fleet.ask_for(name)
        assert run.rc == 0, run.message
        acme = run.results["fleet_gateway"]["acme"]
        assert {**acme, "ends": ""} == {"by": "acme", "ends": "", "right": True, "seen": ""}
        assert "Pebble Intermediate CA" in fleet.issuer(name)
        assert "Ask for a certificate" in run.changed


def test_a_second_run_changes_nothing_and_check_mode_says_so(fleet: Endpoint) -> None:
    for check in (False, True):
        run = fleet.ask_for("ubuntu", check=check)
        assert (run.rc, run.changed) == (0, []), run.message


def test_a_renewal_by_the_timer_s_unit_is_a_reload_of_the_gateway(fleet: Endpoint) -> None:
    place = fleet.places["debian"]
    assert place.sh("systemctl is-active fleet-acme.timer; systemctl is-enabled fleet-acme.timer").split() == [
        "active",
        "enabled",
    ]
    main = place.sh("systemctl show --value --property=MainPID fleet-gateway")
    before = fleet.served("debian", "-serial")
    place.sh("rm /var/lib/fleet-acme/certificate.pem; systemctl start fleet-acme.service")
    assert fleet.served("debian", "-serial") != before
    assert place.sh("systemctl show --value --property=MainPID fleet-gateway") == main


def test_the_client_of_acme_reads_no_key_of_a_proxy_or_a_client(fleet: Endpoint) -> None:
    for place in fleet.places.values():
        options = "--quiet --pipe --wait --collect --property=User=fleet-acme --property='InaccessiblePaths=/etc/fleet/gateway -/etc/fleet/proxy'"
        for path in ("/etc/fleet/gateway/client.pem", "/etc/fleet/gateway/keys.map", "/etc/fleet/proxy/node.pem"):
            assert place.sh(f"systemd-run {options} cat {path} 2>/dev/null || echo refused").strip() == "refused"
        modes = place.sh("stat -c '%a %U:%G' /etc/fleet/acme/* /etc/fleet/gateway/acme/server.pem").splitlines()
        assert modes == ["640 root:fleet-acme"] * 3 + ["640 root:fleet-gateway"]


def test_the_setting_goes_without_a_trace(fleet: Endpoint) -> None:
    for name, place in fleet.places.items():
        record = (
            "/var/lib/fleet/before.json"  # as the role host writes it: without it nobody knows whose the package is
        )
        place.sh(f"mkdir -p {record.rpartition('/')[0]}; echo '{{\"packages\": []}}' >{record}")
        run = fleet.run(name)
        place.sh(f"rm {record}")
        assert run.rc == 0, run.message
        assert run.results["fleet_gateway"]["acme"] == {}
        assert place.sh(f"ls -d {LEFT} /etc/fleet/gateway/acme 2>/dev/null || true") == ""
        assert place.sh("id fleet-acme 2>/dev/null || true; dpkg-query -W dehydrated 2>/dev/null || true").strip() == ""
        assert "an authority of the tests" in fleet.issuer(name)
        assert place.sh("ss -Hltn 'sport = :80'") == ""
        assert fleet.run(name).changed == []


def test_the_proxies_of_a_machine_go(fleet: Endpoint) -> None:
    """The other tests of this lab find the nodes as they were."""
    for name, place in fleet.places.items():
        assert fleet.run(name, gateway_faces=[]).rc == 0
        place.sh(
            f"sed -i '/{NAME}/d' /etc/hosts 2>/dev/null || (grep -v {NAME} /etc/hosts >/tmp/hosts; cat /tmp/hosts >/etc/hosts)"
        )
    fleet.places["debian"].sh("systemctl stop pebble; rm -f /usr/local/bin/pebble /root/pebble*")

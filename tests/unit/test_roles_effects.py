"""Claims about what the roles say of their effects (meta/effects.yml): it is complete, names what exists, and is what their tasks do.

Reads roles/ only. That a run then does what was said is a claim of tests/road.
"""

import fnmatch
import pathlib
from typing import Any

import pytest
import yaml

from fleet.impact import effects
from fleet.impact.role_effects import NONE, Level, level
from fleet.stack import resource_roles, role_digest

ROLES = pathlib.Path(__file__).parents[2] / "roles"
ALL = sorted(path.name for path in ROLES.iterdir() if path.is_dir())


def read(role: str, file: str) -> Any:
    return yaml.safe_load((ROLES / role / file).read_text())


def files(role: str) -> list[str]:
    """The files whose change is a change of a resource, variables of vars/main.yml one by one. Defaults have the effect of their variable."""
    names = [line.partition("  ")[2] for line in role_digest.listing(ROLES / role).splitlines()]
    return [name for name in names if not name.startswith(role_digest.DEFAULT)]


def first(patterns: dict[str, str], name: str) -> str:
    """The first pattern that matches."""
    return next((pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern)), "")


@pytest.mark.parametrize("role", ALL)
def test_a_role_states_all_its_parts_and_only_levels_that_are_known(role: str) -> None:
    told = read(role, "meta/effects.yml")
    assert {"variables", "files", "drift", "restarts"} <= set(told)
    said = effects.statement(ROLES, role)
    levels = {one.name for one in (*said.all_levels(), *map(level, said.drift.values()))}
    assert levels <= set(effects.LEVELS)
    assert bool(told["restarts"]) is bool(levels & {"reload", "restart"}), (
        "what it restarts, where it restarts anything"
    )
    assert bool(said.reloads) is ("reload" in levels), "what it reloads, where it reloads anything"


@pytest.mark.parametrize("role", ALL)
def test_every_variable_has_an_effect_and_every_effect_a_variable(role: str) -> None:
    options = read(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert set(read(role, "meta/effects.yml")["variables"]) == set(options)


@pytest.mark.parametrize("role", ALL)
def test_every_file_has_an_effect_and_every_effect_a_file(role: str) -> None:
    patterns = read(role, "meta/effects.yml")["files"]
    found = {name: first(patterns, name) for name in files(role)}
    assert [name for name, pattern in found.items() if not pattern] == []
    assert set(patterns) - set(found.values()) == set(), "no file needs these"


@pytest.mark.parametrize("role", ALL)
def test_that_a_file_has_no_effect_is_said_of_that_file(role: str) -> None:
    """A pattern may say so of tasks and names alone, which stay where they are; any other file could end up on the host."""
    patterns = read(role, "meta/effects.yml")["files"]
    may = {"tasks/*.yml", "vars/main.yml: *"}
    assert {pattern for pattern, level in patterns.items() if level == "none" and "*" in pattern} <= may


def test_every_file_that_a_replica_is_restarted_for_says_so() -> None:
    """The tasks whose results the role vllm looks at (vars/main.yml: _vllm_restarts), and what they write from."""
    looked_at = ("__vllm_files", "__vllm_key_written", "__vllm_units")
    assert all(name in (ROLES / "vllm" / "vars" / "main.yml").read_text() for name in looked_at)
    tasks = [task for task in read("vllm", "tasks/configure.yml") if task.get("register") in looked_at]
    assert len(tasks) == len(looked_at)
    sources = [task.get("ansible.builtin.template", {}).get("src", "") for task in tasks]
    loops = [item["src"] for task in tasks if isinstance(task.get("loop"), list) for item in task["loop"]]
    written = [f"templates/{name}" for name in (*sources, *loops) if name.endswith(".j2")]
    assert sorted(written) == sorted(name for name in files("vllm") if name.startswith("templates/"))
    told = effects.statement(ROLES, "vllm")
    assert {told.of_file(name) for name in written} == {Level("restart")}
    assert told.of_file("tasks/configure.yml") == MAY_RESTART


MAY_RESTART, MAY_REBOOT = Level("restart", sure=False), Level("reboot", sure=False)


@pytest.mark.parametrize(
    ("role", "name", "effect"),
    [
        ("host", "templates/grub.cfg.j2", NONE),  # the running kernel has its arguments, whatever the next boot reads
        ("host", "vars/main.yml: _host_arguments", MAY_REBOOT),
        ("host", "vars/main.yml: _host_limits_file", NONE),
        ("rocm", "vars/main.yml: _rocm_driver", MAY_REBOOT),
        ("rocm", "templates/rocm.sources.j2", NONE),
        ("docker", "tasks/configure.yml", MAY_RESTART),
        ("docker", "handlers/main.yml", NONE),
        ("vllm", "files/read.py", MAY_RESTART),
        ("vllm", "files/replicas.py", NONE),
        ("vllm", "tasks/start.yml", NONE),
        ("vllm", "vars/main.yml: _vllm_environment", MAY_RESTART),
        ("transformers", "files/Dockerfile", NONE),
        ("weights", "files/weights_fetcher/fetch.py", NONE),
        ("long_task", "files/long_task.py", NONE),
    ],
)
def test_a_changed_file_does_what_its_role_says(role: str, name: str, effect: Level) -> None:
    assert name in files(role)
    assert effects.statement(ROLES, role).of_file(name) == effect


@pytest.mark.parametrize(("role", "effect"), [("vllm", "restart"), ("rocm", "reboot"), ("weights", "none")])
def test_of_a_file_that_is_gone_from_a_role_the_worst_may_be(role: str, effect: str) -> None:
    assert effects.statement(ROLES, role).of_file("files/gone.py") == Level(effect, effect == "none")


def test_the_options_that_the_engine_takes_over_as_it_runs_are_those_that_the_role_reloads_for() -> None:
    told = read("docker", "meta/effects.yml")["variables"]["docker_daemon_options"]
    assert [option for option, effect in told.items() if effect == "reload"] == sorted(
        read("docker", "vars/main.yml")["_docker_reloadable"]
    )


def test_what_decides_the_image_is_what_its_name_is_made_of() -> None:
    told = effects.statement(ROLES, "transformers")
    parts = str(read("transformers", "vars/main.yml")["_transformers_parts"])
    deciding = {name for name in told.variables if told.decides(name)}
    assert deciding - {"transformers_registry", "transformers_accepted_digest"} == {
        name for name in told.variables if name in parts
    }
    assert {name for name in files("transformers") if name.startswith("files/") and told.decides(name)} == {
        name for name in files("transformers") if name.startswith("files/") and name.removeprefix("files/") in parts
    }


@pytest.mark.parametrize("role", ALL)
def test_what_decides_a_result_is_there(role: str) -> None:
    names = {*read(role, "meta/effects.yml")["variables"], *files(role)}
    assert [one for one in effects.statement(ROLES, role).results or () if not fnmatch.filter(names, one)] == []


EVERY_REPLICA, ENGINE = ("glm-0", "glm-1"), ("docker.service and every replica",)
NOTHING = ("repair", ())
# What drifted on a host: kind of the resource, thing, seen, wanted → what mending it does, by the tasks of its roles.
DRIFT: dict[tuple[str, str, str, str], tuple[str, tuple[str, ...]]] = {
    # host: a reboot only for an argument that the running kernel lacks
    ("host", "kernel started for /etc/default/grub.d/90-fleet.cfg", "no such kernel argument", "kernel argument iommu=pt"): ("reboot", ()),
    ("host", "kernel started for /etc/default/grub.d/90-fleet.cfg", "kernel argument quiet", "no such kernel argument"): NOTHING,
    ("host", "file /etc/default/grub.d/90-fleet.cfg", "sha256 bbbb", "sha256 aaaa"): NOTHING,
    ("host", "file /etc/sysctl.d/90-fleet.conf", "absent", "present"): NOTHING,
    ("host", "file /etc/security/limits.d/90-fleet.conf", "mode 0600", "mode 0644"): NOTHING,
    ("host", "sysctl vm.max_map_count", "value 65530", "value 1048576"): NOTHING,
    ("host", "unit systemd-timesyncd.service", "state inactive", "state active"): NOTHING,
    ("host", "package pciutils", "absent", "present"): NOTHING,
    # docker: what differs in daemon.json is told to the engine, a stopped engine is started
    ("host", "file /etc/docker/daemon.json", "sha256 bbbb", "sha256 aaaa"): ("may restart", ENGINE),
    ("host", "file /etc/docker/daemon.json", "mode 0600", "mode 0644"): NOTHING,
    ("host", "file /etc/docker/daemon.json", "absent", "present"): ("may restart", ENGINE),
    ("host", "file /etc/docker/daemon.json", "owner admin", "owner root"): NOTHING,
    ("host", "file /etc/docker/daemon.json", "group admin", "group root"): NOTHING,
    ("host", "options of /etc/docker/daemon.json", "option mtu", "no such option"): NOTHING,
    ("host", "unit docker.service", "state inactive", "state active"): ("restart", ENGINE),
    ("host", "unit docker.service", "absent", "present"): ("restart", ENGINE),
    ("host", "unit docker.service", "drop-in /etc/systemd/system/docker.service.d/a.conf 0123", "no such drop-in"): ("restart", ENGINE),
    ("host", "unit docker.service", "unit file /etc/systemd/system/docker.service", "unit file /lib/x"): ("restart", ENGINE),
    ("host", "unit docker.service", "at boot masked", "at boot enabled"): NOTHING,
    ("host", "unit docker.service", "at boot disabled", "at boot enabled"): NOTHING,
    ("host", "package docker.io", "absent", "present"): ("restart", ENGINE),
    ("host", "package containerd.io", "absent", "present"): ("restart", ENGINE),
    ("host", "package docker.io", "version 26.1", "version 20.10"): NOTHING,
    ("host", "package moby-engine", "absent", "present"): ("restart", ENGINE),
    # rocm: another driver than the loaded one
    ("host", "package amdgpu-dkms", "absent", "present"): ("may reboot", ()),
    ("host", "package amdgpu-dkms", "version 6.17", "version 6.16"): ("may reboot", ()),
    ("host", "package amdgpu-dkms", "held", "not held"): NOTHING,
    ("host", "package amd-smi-lib", "absent", "present"): NOTHING,
    ("host", "file /etc/apt/sources.list.d/rocm.sources", "sha256 bbbb", "sha256 aaaa"): NOTHING,
    # transformers and weights: what was made stays
    ("image", "file /var/lib/fleet/transformers/Dockerfile", "sha256 bbbb", "sha256 aaaa"): NOTHING,
    ("weights", "file /usr/local/lib/fleet/fetch-weights", "absent", "present"): NOTHING,
    # vllm: what all replicas read restarts all, what one has restarts that one
    ("serving", "file /etc/fleet/vllm/config.yaml", "sha256 bbbb", "sha256 aaaa"): ("restart", EVERY_REPLICA),
    ("serving", "file /etc/fleet/vllm/environment", "mode 0600", "mode 0644"): NOTHING,
    ("serving", "file /etc/fleet/vllm/key.env", "absent", "present"): ("restart", EVERY_REPLICA),
    ("serving", "file /etc/fleet/vllm/key.env", "owner admin", "owner root"): NOTHING,
    ("serving", "file /etc/fleet/vllm/key.env", "group admin", "group root"): NOTHING,
    ("serving", "file /etc/fleet/vllm", "mode 0755", "mode 0750"): NOTHING,
    ("serving", "file /usr/local/lib/fleet/wait-healthy", "sha256 bbbb", "sha256 aaaa"): ("restart", EVERY_REPLICA),
    ("serving", "file /usr/local/lib/fleet/wait-healthy", "mode 0644", "mode 0755"): NOTHING,
    ("serving", "file /usr/local/lib/fleet/wait-healthy", "owner admin", "owner root"): NOTHING,
    ("serving", "file /usr/local/lib/fleet/wait-healthy", "group admin", "group root"): NOTHING,
    ("serving", "file /etc/systemd/system/glm-0.service", "sha256 bbbb", "sha256 aaaa"): ("restart", ("glm-0",)),
    ("serving", "unit glm-1.service", "state failed", "state active"): ("restart", ("glm-1",)),
    ("serving", "unit glm-1.service", "absent", "present"): ("restart", ("glm-1",)),
    ("serving", "unit glm-1.service", "state activating", "state active"): NOTHING,
    ("serving", "unit glm-1.service", "at boot disabled", "at boot enabled"): NOTHING,
    ("serving", "unit glm-1.service", "drop-in /etc/systemd/system/glm-1.service.d/a.conf 0123", "no such drop-in"): ("restart", ("glm-1",)),
    ("serving", "unit glm-1.service", "unit file /run/systemd/system/glm-1.service", "unit file /etc/x"): ("restart", ("glm-1",)),
    ("serving", "container glm-1", "Memory not set", "Memory 64"): ("restart", ("glm-1",)),
}  # fmt: skip
REPLICAS = {"vllm_replicas": [{"name": name} for name in EVERY_REPLICA]}


def mend(kind: str, *drift: tuple[str, str, str]) -> list[effects.Effect]:
    """What it does to mend things of one resource, each as what, seen, wanted."""
    inputs = {"roles": dict.fromkeys(resource_roles.ROLES[kind], ""), "vars": REPLICAS}
    told = [{"what": what, "seen": seen, "expected": wanted} for what, seen, wanted in drift]
    return effects.predict([inputs], inputs, told, ROLES)


@pytest.mark.parametrize("case", DRIFT, ids=lambda case: " ".join(case[1:]))
def test_what_drifted_costs_what_its_role_does_to_mend_it(case: tuple[str, str, str, str]) -> None:
    kind, what, seen, wanted = case
    told, hit = DRIFT[case]
    effect = level(told)
    because = (f"{what} ({seen}, wanted {wanted})",)
    assert mend(kind, (what, seen, wanted)) == [effects.Effect(effect.name, hit, because, effect.sure)]


@pytest.mark.parametrize("role", ALL)
def test_every_pattern_of_drift_decides_for_some_thing_that_its_role_has(role: str) -> None:
    patterns = read(role, "meta/effects.yml")["drift"]
    used = set()
    for kind, what, seen, wanted in DRIFT:
        if role in resource_roles.ROLES[kind]:
            both = (what, f"{what} ({seen}, wanted {wanted})")
            used.add(next((pattern for pattern in patterns if any(fnmatch.fnmatchcase(n, pattern) for n in both)), ""))
    assert set(patterns) - used == set()


@pytest.mark.parametrize("case", DRIFT, ids=lambda case: " ".join(case[1:]))
def test_what_may_drift_is_a_thing_that_some_role_of_the_resource_has(case: tuple[str, str, str, str]) -> None:
    path = pathlib.PurePosixPath(case[1].split(" ")[-1].removesuffix(".service"))
    parts = [path.name, *([str(path.parent)] if path.is_absolute() else [])]
    texts = [
        "".join(file.read_text() for part in ("defaults", "vars", "tasks") for file in (ROLES / role / part).iterdir())
        for role in resource_roles.ROLES[case[0]]
    ]
    assert any(all(part in text or part in EVERY_REPLICA for part in parts) for text in texts), parts


def test_what_is_wrong_with_a_replica_that_restarts_is_told_with_it() -> None:
    container = ("container glm-0", "absent", "present")
    unit = ("unit glm-0.service", "state inactive", "state active")
    other = ("unit glm-1.service", "at boot disabled", "at boot enabled")
    config = ("file /etc/fleet/vllm/config.yaml", "absent", "present")
    restarted, mended = mend("serving", container, unit, other)
    assert (restarted.what, len(restarted.because), mended.level) == (("glm-0",), 2, "repair")
    (everything,) = mend("serving", container, unit, other, config)
    assert (everything.what, len(everything.because)) == (EVERY_REPLICA, 4)

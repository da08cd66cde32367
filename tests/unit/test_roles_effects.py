"""The effects that the roles declare (meta/effects.yml): they are complete, name what exists, and match the tasks.

Reads roles/ only. That a run then does what was predicted is a claim of tests/e2e.
"""

import fnmatch
import pathlib
from typing import Any

import pytest
import yaml

from fleet import drift, errors
from fleet.drift import Difference
from fleet.impact import effects
from fleet.impact.role_effects import NONE, Level, level
from fleet.stack import resource_roles, role_digest

ROLES = pathlib.Path(__file__).parents[2] / "roles"
ALL = sorted(path.name for path in ROLES.iterdir() if path.is_dir())


def read(role: str, file: str) -> Any:
    return yaml.safe_load((ROLES / role / file).read_text())


def files(role: str) -> list[str]:
    """Return what a resource's digest lists: files, and the variables of vars/main.yml. Defaults have the effect of their variable."""
    names = [line.partition("  ")[2] for line in role_digest.listing(ROLES / role).splitlines()]
    return [name for name in names if not name.startswith(role_digest.DEFAULT)]


def first_match(patterns: dict[str, str], name: str) -> str:
    return next((pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern)), "")


@pytest.mark.parametrize("role", ALL)
def test_a_role_has_all_parts_and_only_known_levels(role: str) -> None:
    file = read(role, "meta/effects.yml")
    parts = {"variables", "files", "drift", "restarts"}
    assert parts <= set(file), f"roles/{role}/meta/effects.yml has {', '.join(sorted(parts))}"
    statement = effects.read_statement(ROLES, role)
    levels = {effect.name for effect in statement.all_levels()} | {level(rule.level).name for rule in statement.drift}
    assert levels <= set(effects.LEVELS), (
        f"roles/{role}/meta/effects.yml: a level is one of {', '.join(effects.LEVELS)}"
    )
    assert bool(file["restarts"]) is bool(levels & {"reload", "restart"}), "name what it restarts, and nothing else"
    assert bool(statement.reloads) is ("reload" in levels), "name what it reloads, and nothing else"


@pytest.mark.parametrize("role", ALL)
def test_every_variable_has_an_effect_and_every_effect_a_variable(role: str) -> None:
    options = read(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    stated = set(read(role, "meta/effects.yml")["variables"])
    assert set(options) - stated == set(), f"state what a change of it does: roles/{role}/meta/effects.yml, variables"
    assert stated - set(options) == set(), f"no such variable: remove it from roles/{role}/meta/effects.yml"


@pytest.mark.parametrize("role", ALL)
def test_every_file_has_an_effect_and_every_effect_a_file(role: str) -> None:
    patterns = read(role, "meta/effects.yml")["files"]
    matches = {name: first_match(patterns, name) for name in files(role)}
    missing = [name for name, pattern in matches.items() if not pattern]
    assert missing == [], f"state what a change of it does: roles/{role}/meta/effects.yml, files"
    unused = set(patterns) - set(matches.values())
    assert unused == set(), f"no file needs this pattern: remove it from roles/{role}/meta/effects.yml"


@pytest.mark.parametrize("role", ALL)
def test_only_a_files_own_name_gives_it_no_effect(role: str) -> None:
    """A pattern may do so for tasks and names alone, which stay on this machine; any other file could reach the host."""
    patterns = read(role, "meta/effects.yml")["files"]
    may = {"tasks/*.yml", "vars/main.yml: *"}
    wide = {pattern for pattern, level in patterns.items() if level == "none" and "*" in pattern}
    assert wide <= may, (
        f"name each file without an effect in roles/{role}/meta/effects.yml: `*` could hide one on the host"
    )


def test_every_file_that_restarts_a_replica_has_the_effect_restart() -> None:
    """The tasks whose results the role vllm reads (vars/main.yml: _vllm_restarts), and the templates that they write."""
    results = ("__vllm_files", "__vllm_key_written", "__vllm_units")
    assert all(name in (ROLES / "vllm" / "vars" / "main.yml").read_text() for name in results)
    tasks = [task for task in read("vllm", "tasks/configure.yml") if task.get("register") in results]
    assert len(tasks) == len(results), "list here what _vllm_restarts in roles/vllm/vars/main.yml reads"
    sources = [task.get("ansible.builtin.template", {}).get("src", "") for task in tasks]
    loops = [item["src"] for task in tasks if isinstance(task.get("loop"), list) for item in task["loop"]]
    templates = [f"templates/{name}" for name in (*sources, *loops) if name.endswith(".j2")]
    assert sorted(templates) == sorted(name for name in files("vllm") if name.startswith("templates/")), (
        "the task that writes a template registers its result, and _vllm_restarts in roles/vllm/vars/main.yml reads it"
    )
    statement = effects.read_statement(ROLES, "vllm")
    assert {statement.of_file(name) for name in templates} == {Level("restart")}
    assert statement.of_file("tasks/configure.yml") == MAY_RESTART


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
def test_a_changed_file_has_the_effect_that_its_role_declares(role: str, name: str, effect: Level) -> None:
    assert name in files(role)
    assert effects.read_statement(ROLES, role).of_file(name) == effect


@pytest.mark.parametrize(("role", "effect"), [("vllm", "restart"), ("rocm", "reboot"), ("weights", "none")])
def test_a_file_that_a_role_lost_may_have_its_worst_effect(role: str, effect: str) -> None:
    assert effects.read_statement(ROLES, role).of_file("files/gone.py") == Level(effect, effect == "none")


def test_the_role_reloads_docker_for_the_options_with_the_effect_reload() -> None:
    options = read("docker", "meta/effects.yml")["variables"]["docker_daemon_options"]
    reloadable = sorted(read("docker", "vars/main.yml")["_docker_reloadable"])
    reloading = [option for option, effect in options.items() if effect == "reload"]
    agree = "roles/docker: docker_daemon_options in meta/effects.yml and _docker_reloadable in vars/main.yml agree"
    assert reloading == reloadable, agree


def test_the_parts_of_the_images_name_decide_the_image() -> None:
    statement = effects.read_statement(ROLES, "transformers")
    parts = str(read("transformers", "vars/main.yml")["_transformers_parts"])
    deciding = {name for name in statement.variables if statement.decides(name)}
    in_name = {name for name in statement.variables if name in parts}
    agree = "roles/transformers: `results` in meta/effects.yml and _transformers_parts in vars/main.yml agree"
    assert deciding - {"transformers_registry", "transformers_accepted_digest"} == in_name, agree
    own_files = [name for name in files("transformers") if name.startswith("files/")]
    in_name = {name for name in own_files if name.removeprefix("files/") in parts}
    assert {name for name in own_files if statement.decides(name)} == in_name, agree


@pytest.mark.parametrize("role", ALL)
def test_each_pattern_that_decides_a_result_matches_a_variable_or_a_file(role: str) -> None:
    names = {*read(role, "meta/effects.yml")["variables"], *files(role)}
    patterns = effects.read_statement(ROLES, role).results or ()
    unmatched = [pattern for pattern in patterns if not fnmatch.filter(names, pattern)]
    assert unmatched == [], f"no such variable or file: correct `results` in roles/{role}/meta/effects.yml"


EVERY_PROXY = ("fleet-proxy", "fleet-gateway")


@pytest.mark.parametrize("role", ALL)
def test_a_level_of_one_unit_names_a_proxy(role: str) -> None:
    statement = effects.read_statement(ROLES, role)
    levels = [*statement.all_levels(), *(level(rule.level) for rule in statement.drift)]
    assert {each.unit for each in levels} - {""} <= set(effects.PROXIES.values())


@pytest.mark.parametrize(
    ("faces", "variable", "effect"),
    [
        (["node", "clients"], "gateway_clients", ("reload", ("fleet-gateway",))),
        (["clients"], "gateway_clients", ("reload", ("fleet-gateway",))),
        (["node"], "gateway_clients", ("none", ())),
        (["node", "clients"], "gateway_names", ("reload", ("fleet-proxy",))),
        (["node", "clients"], "gateway_node_port", ("reload", EVERY_PROXY)),
        (["node"], "gateway_node_port", ("reload", ("fleet-proxy",))),
    ],
)
def test_a_change_reloads_the_proxies_that_read_it(
    faces: list[str], variable: str, effect: tuple[str, tuple[str, ...]]
) -> None:
    old = {"roles": {"gateway": ""}, "vars": {"gateway_faces": faces, variable: "a"}}
    (foretold,) = effects.predict([old], {**old, "vars": {**old["vars"], variable: "b"}}, [], ROLES)
    assert (foretold.level, foretold.what, foretold.sure) == (*effect, True)


KUBELET = "kubelet.service and containerd.service, while pods run on"
EVERY_REPLICA, DAEMON = ("glm-0", "glm-1"), ("docker.service and every replica",)
NOTHING = ("repair", ())
# What drifted on a host: kind of the resource, difference, what a repair does by the tasks of its roles.
DRIFT: list[tuple[str, Difference, tuple[str, tuple[str, ...]]]] = [
    # host: a reboot only for an argument that the running kernel lacks
    ("host", Difference("kernel started for", "/etc/default/grub.d/90-fleet.cfg", "arguments", ["iommu=pt"], []), ("reboot", ())),
    ("host", Difference("kernel started for", "/etc/default/grub.d/90-fleet.cfg", "arguments", [], ["quiet"]), NOTHING),
    ("host", Difference("file", "/etc/default/grub.d/90-fleet.cfg", "sha256", "aaaa", "bbbb"), NOTHING),
    ("host", Difference("file", "/etc/sysctl.d/90-fleet.conf", "present", True, False), NOTHING),
    ("host", Difference("file", "/etc/security/limits.d/90-fleet.conf", "mode", "0644", "0600"), NOTHING),
    ("host", Difference("sysctl", "vm.max_map_count", "value", "1048576", "65530"), NOTHING),
    ("host", Difference("unit", "systemd-timesyncd.service", "state", "active", "inactive"), NOTHING),
    ("host", Difference("package", "pciutils", "present", True, False), NOTHING),
    # docker: the daemon reads a changed daemon.json, a stopped daemon is started
    ("host", Difference("file", "/etc/docker/daemon.json", "sha256", "aaaa", "bbbb"), ("may restart", DAEMON)),
    ("host", Difference("file", "/etc/docker/daemon.json", "mode", "0644", "0600"), NOTHING),
    ("host", Difference("file", "/etc/docker/daemon.json", "present", True, False), ("may restart", DAEMON)),
    ("host", Difference("file", "/etc/docker/daemon.json", "owner", "root", "admin"), NOTHING),
    ("host", Difference("file", "/etc/docker/daemon.json", "group", "root", "admin"), NOTHING),
    ("host", Difference("options of", "/etc/docker/daemon.json", "later", [], ["mtu"]), NOTHING),
    ("host", Difference("unit", "docker.service", "state", "active", "inactive"), ("restart", DAEMON)),
    ("host", Difference("unit", "docker.service", "present", True, False), ("restart", DAEMON)),
    ("host", Difference("unit", "docker.service", "drop_ins", [], ["/etc/systemd/system/docker.service.d/a.conf 0123"]), ("restart", DAEMON)),
    ("host", Difference("unit", "docker.service", "unit_file", "/lib/x", "/etc/systemd/system/docker.service"), ("restart", DAEMON)),
    ("host", Difference("unit", "docker.service", "at_boot", "enabled", "masked"), NOTHING),
    ("host", Difference("unit", "docker.service", "at_boot", "enabled", "disabled"), NOTHING),
    ("host", Difference("package", "docker.io", "present", True, False), ("restart", DAEMON)),
    ("host", Difference("package", "containerd.io", "present", True, False), ("restart", DAEMON)),
    ("host", Difference("package", "docker.io", "version", "20.10", "26.1"), NOTHING),
    ("host", Difference("package", "moby-engine", "present", True, False), ("restart", DAEMON)),
    # rocm: another driver than the loaded one
    ("host", Difference("package", "amdgpu-dkms", "present", True, False), ("may reboot", ())),
    ("host", Difference("package", "amdgpu-dkms", "version", "6.16", "6.17"), ("may reboot", ())),
    ("host", Difference("package", "amdgpu-dkms", "held", False, True), NOTHING),
    ("host", Difference("package", "amd-smi-lib", "present", True, False), NOTHING),
    ("host", Difference("file", "/etc/apt/sources.list.d/rocm.sources", "sha256", "aaaa", "bbbb"), NOTHING),
    # transformers and weights: image and model stay
    ("image", Difference("file", "/var/lib/fleet/transformers/Dockerfile", "sha256", "aaaa", "bbbb"), NOTHING),
    ("weights", Difference("file", "/usr/local/lib/fleet/fetch-weights", "present", True, False), NOTHING),
    # vllm: what all replicas read restarts all, what one has restarts that one
    ("serving", Difference("file", "/etc/fleet/vllm/config.yaml", "sha256", "aaaa", "bbbb"), ("restart", EVERY_REPLICA)),
    ("serving", Difference("file", "/etc/fleet/vllm/environment", "mode", "0644", "0600"), NOTHING),
    ("serving", Difference("file", "/etc/fleet/vllm/key.env", "present", True, False), ("restart", EVERY_REPLICA)),
    ("serving", Difference("file", "/etc/fleet/vllm/key.env", "owner", "root", "admin"), NOTHING),
    ("serving", Difference("file", "/etc/fleet/vllm/key.env", "group", "root", "admin"), NOTHING),
    ("serving", Difference("file", "/etc/fleet/vllm", "mode", "0750", "0755"), NOTHING),
    ("serving", Difference("file", "/usr/local/lib/fleet/wait-healthy", "sha256", "aaaa", "bbbb"), ("restart", EVERY_REPLICA)),
    ("serving", Difference("file", "/usr/local/lib/fleet/wait-healthy", "mode", "0755", "0644"), NOTHING),
    ("serving", Difference("file", "/usr/local/lib/fleet/wait-healthy", "owner", "root", "admin"), NOTHING),
    ("serving", Difference("file", "/usr/local/lib/fleet/wait-healthy", "group", "root", "admin"), NOTHING),
    ("serving", Difference("file", "/etc/systemd/system/glm-0.service", "sha256", "aaaa", "bbbb"), ("restart", ("glm-0",))),
    ("serving", Difference("unit", "glm-1.service", "state", "active", "failed"), ("restart", ("glm-1",))),
    ("serving", Difference("unit", "glm-1.service", "present", True, False), ("restart", ("glm-1",))),
    ("serving", Difference("unit", "glm-1.service", "state", "active", "activating"), NOTHING),
    ("serving", Difference("unit", "glm-1.service", "at_boot", "enabled", "disabled"), NOTHING),
    ("serving", Difference("unit", "glm-1.service", "drop_ins", [], ["/etc/systemd/system/glm-1.service.d/a.conf 0123"]), ("restart", ("glm-1",))),
    ("serving", Difference("unit", "glm-1.service", "unit_file", "/etc/x", "/run/systemd/system/glm-1.service"), ("restart", ("glm-1",))),
    ("serving", Difference("container", "glm-1", "Memory", "64", None), ("restart", ("glm-1",))),
    # gateway: a proxy reloads what it reads, and restarts for its unit
    ("gateway", Difference("file", "/etc/fleet/gateway/keys.map", "keyed_sha256", "aaaa", "bbbb"), ("reload", ("fleet-gateway",))),
    ("gateway", Difference("file", "/etc/fleet/proxy/node.pem", "present", True, False), ("reload", ("fleet-proxy",))),
    ("gateway", Difference("file", "/etc/fleet/proxy/node.pem", "mode", "0640", "0644"), NOTHING),
    ("gateway", Difference("file", "/usr/local/lib/fleet/proxy-control", "sha256", "aaaa", "bbbb"), NOTHING),
    ("gateway", Difference("file", "/etc/systemd/system/fleet-proxy.service", "sha256", "aaaa", "bbbb"), ("may restart", ("fleet-proxy",))),
    ("gateway", Difference("unit", "fleet-proxy.service", "state", "active", "failed"), ("restart", ("fleet-proxy",))),
    ("gateway", Difference("unit", "fleet-gateway.service", "present", True, False), ("restart", ("fleet-gateway",))),
    ("gateway", Difference("unit", "fleet-gateway.service", "at_boot", "enabled", "disabled"), NOTHING),
    ("gateway", Difference("unit", "fleet-gateway.service", "drop_ins", [], ["/etc/systemd/system/fleet-gateway.service.d/a.conf 0123"]), ("restart", ("fleet-gateway",))),
    ("gateway", Difference("file", "/etc/fleet/acme/settings.json", "sha256", "aaaa", "bbbb"), ("may reload", ("fleet-gateway",))),
    ("gateway", Difference("file", "/etc/systemd/system/fleet-acme.timer", "sha256", "aaaa", "bbbb"), NOTHING),
    ("gateway", Difference("unit", "fleet-acme.timer", "state", "active", "inactive"), NOTHING),
    ("gateway", Difference("unit", "haproxy.service", "state", "inactive", "active"), NOTHING),
    ("gateway", Difference("unit", "keepalived.service", "state", "inactive", "active"), NOTHING),
    ("gateway", Difference("unit", "fleet-address.service", "state", "active", "failed"), NOTHING),
    ("gateway", Difference("file", "/etc/systemd/system/fleet-address.service", "sha256", "aaaa", "bbbb"), NOTHING),
    ("gateway", Difference("file", "/etc/fleet/gateway/keepalived.conf", "sha256", "aaaa", "bbbb"), NOTHING),
    ("gateway", Difference("package", "haproxy", "present", True, False), ("may reload", EVERY_PROXY)),
    ("gateway", Difference("package", "haproxy", "version", "2.8.16", "2.8.30"), NOTHING),
    # kubernetes: kubelet and containerd restart, and pods run on
    ("member", Difference("file", "/etc/kubernetes/kubelet.conf.d/50-fleet.conf", "mode", "0644", "0600"), NOTHING),
    ("member", Difference("file", "/etc/kubernetes/kubelet.conf.d/50-fleet.conf", "sha256", "aaaa", "bbbb"), ("restart", (KUBELET,))),
    ("member", Difference("file", "/etc/default/kubelet", "sha256", "aaaa", "bbbb"), ("restart", (KUBELET,))),
    ("member", Difference("file", "/etc/containerd/config.toml", "sha256", "aaaa", "bbbb"), ("restart", (KUBELET,))),
    ("member", Difference("file", "/etc/kubernetes/fleet/devices.yaml", "sha256", "aaaa", "bbbb"), NOTHING),
    ("member", Difference("unit", "kubelet.service", "state", "active", "inactive"), ("restart", (KUBELET,))),
    ("member", Difference("unit", "containerd.service", "present", True, False), ("restart", (KUBELET,))),
    ("member", Difference("unit", "kubelet.service", "drop_ins", [], ["/etc/systemd/system/kubelet.service.d/a.conf 0123"]), ("restart", (KUBELET,))),
    ("member", Difference("package", "containerd", "present", True, False), ("restart", (KUBELET,))),
    ("member", Difference("package", "kubelet", "present", True, False), ("restart", (KUBELET,))),
    ("member", Difference("package", "kubelet", "held", True, False), NOTHING),
]  # fmt: skip
REPLICAS = {"vllm_replicas": [{"name": name} for name in EVERY_REPLICA], "gateway_faces": ["node", "clients"]}


def repair(kind: str, *drift: Difference) -> list[effects.Effect]:
    """Return the effects of a repair of these differences of one resource."""
    inputs = {"roles": dict.fromkeys(resource_roles.ROLES[kind], ""), "vars": REPLICAS}
    return effects.predict([inputs], inputs, drift, ROLES)


@pytest.mark.parametrize(("kind", "difference", "effect"), DRIFT, ids=str)
def test_the_effect_of_a_drift_is_what_its_role_does_to_repair_it(
    kind: str, difference: Difference, effect: tuple[str, tuple[str, ...]]
) -> None:
    worst = level(effect[0])
    assert repair(kind, difference) == [effects.Effect(worst.name, effect[1], (str(difference),), worst.sure)]


@pytest.mark.parametrize("role", ALL)
def test_every_drift_rule_decides_for_a_difference_of_its_role(role: str) -> None:
    rules = effects.read_statement(ROLES, role).drift
    unused = list(rules)
    for kind, difference, _ in DRIFT:
        if role in resource_roles.ROLES[kind]:
            deciding = [rule for rule in rules if rule.matches(difference)][:1]
            unused = [rule for rule in unused if rule not in deciding]
    assert not unused, "no difference in DRIFT needs these rules: add one, or remove the rule"


@pytest.mark.parametrize(
    ("thing", "words", "effect"),
    [
        ("unit docker.service", ("state inactive", "state active"), ("may restart", DAEMON)),
        ("unit docker.service", ("at boot disabled", "at boot enabled"), ("may restart", DAEMON)),
        ("options of /etc/docker/daemon.json", ("option mtu", "no such option"), NOTHING),
        ("sysctl vm.max_map_count", ("value 65530", "value 1048576"), NOTHING),
    ],
)
def test_a_difference_in_words_may_have_the_worst_effect_of_its_rules(
    thing: str, words: tuple[str, str], effect: tuple[str, tuple[str, ...]]
) -> None:
    """As release 0.1 left it in a state: it does not say which attribute differs."""
    (difference,) = drift.recorded({"drift": [{"what": thing, "seen": words[0], "expected": words[1]}]})
    test_the_effect_of_a_drift_is_what_its_role_does_to_repair_it("host", difference, effect)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{name: a, level: none}", "drift[0].kind: it is missing"),
        ("{kind: file, level: explode}", "drift[0].level: explode"),
        ("{kind: file, path: /etc/x, level: none}", "drift[0]: path in it"),
        ("{kind: file, attribute: {}, level: none}", "drift[0].attribute: dict"),
    ],
)
def test_a_drift_rule_of_a_wrong_form_is_refused(tmp_path: pathlib.Path, rule: str, message: str) -> None:
    (tmp_path / "own" / "meta").mkdir(parents=True)
    (tmp_path / "own" / "meta" / "effects.yml").write_text(f"drift:\n  - {rule}\n")
    with pytest.raises(errors.SettingsError) as caught:
        effects.read_statement(tmp_path, "own")
    assert str(caught.value).startswith(f"roles/own/meta/effects.yml: {message}")


@pytest.mark.parametrize(("kind", "difference", "_"), DRIFT, ids=str)
def test_some_role_of_the_resource_names_the_thing_that_drifted(kind: str, difference: Difference, _: object) -> None:
    path = pathlib.PurePosixPath(difference.name.removesuffix(".service"))
    parts = [path.name, *([str(path.parent)] if path.is_absolute() else [])]
    texts = [
        "".join(file.read_text() for part in ("defaults", "vars", "tasks") for file in (ROLES / role / part).iterdir())
        for role in resource_roles.ROLES[kind]
    ]
    assert any(all(part in text or part in EVERY_REPLICA for part in parts) for text in texts), (
        f"no role of {kind} has {difference.name}: correct its row in DRIFT"
    )


def test_the_differences_of_a_replica_that_restarts_are_its_reasons() -> None:
    container = Difference("container", "glm-0", "present", True, False)
    unit = Difference("unit", "glm-0.service", "state", "active", "inactive")
    other = Difference("unit", "glm-1.service", "at_boot", "enabled", "disabled")
    config = Difference("file", "/etc/fleet/vllm/config.yaml", "present", True, False)
    restart, quiet = repair("serving", container, unit, other)
    assert (restart.what, len(restart.because), quiet.level) == (("glm-0",), 2, "repair")
    (everything,) = repair("serving", container, unit, other, config)
    assert (everything.what, len(everything.because)) == (EVERY_REPLICA, 4)

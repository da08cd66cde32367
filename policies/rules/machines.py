"""The machines: what runs on them is a combination that AMD knows, replicas fit their GPUs, and none is lost by mistake."""

from collections.abc import Iterator

from fleet.stack.rules.gpus import apart, ports, there
from fleet.stack.rules.rule import Planned
from policies import data
from policies.asked import Asked, has_unknown, known
from policies.rule import Breach, Rule

ROCM = "AMD, System requirements (Linux) and Compatibility matrix; fleet/stack/rules/data/versions.yml"


def driver_and_rocm_known(asked: Asked) -> Iterator[Breach]:
    """Yield where driver and ROCm are not a pair that AMD pins."""
    driver, rocm, build = (asked.var(name) for name in ("rocm_driver_release", "rocm_version", "rocm_driver_version"))
    if driver is None or rocm is None or asked.var("rocm_driver_packages") == []:
        return
    pair = next((one for one in data.drivers() if one.driver == driver), None)
    if pair is None:
        yield Breach(f"driver {driver} with ROCm {rocm}", remedy=f"one of {_pairs()}")
    elif pair.rocm != rocm:
        yield Breach(
            f"driver {driver} with ROCm {rocm}", remedy=f'rocm_version: "{pair.rocm}", or another pair of {_pairs()}'
        )
    elif build and pair.build.partition("-")[0] not in str(build):  # a system's package has more behind it
        yield Breach(
            f"rocm_driver_version {build} is not of driver {driver}",
            remedy=f'leave rocm_driver_version out, or write "*{pair.build}*"',
        )


def system_known(asked: Asked) -> Iterator[Breach]:
    """Yield a system that AMD does not list for this ROCm."""
    system, listed = known(asked.inputs, "facts", "system"), data.systems(_rocm(asked))
    if system is not None and listed and system not in listed and not asked.stack.lab:
        yield Breach(f"{asked.name} runs {system}, ROCm {_rocm(asked)}", remedy=f"install one of {', '.join(listed)}")


def kernel_known(asked: Asked) -> Iterator[Breach]:
    """Yield a kernel that AMD does not list for this system and ROCm."""
    system, kernel = known(asked.inputs, "facts", "system"), known(asked.inputs, "facts", "kernel")
    listed = data.systems(_rocm(asked)).get(system or "", [])
    if kernel is None or not listed or asked.stack.lab:
        return
    if ".".join(kernel.split(".")[:2]) not in listed:
        wanted = " or ".join(listed)
        yield Breach(
            f"{asked.name} had kernel {kernel} when it was first reached", remedy=f"boot kernel {wanted} of {system}"
        )


def replicas_fit(asked: Asked) -> Iterator[Breach]:
    """Yield where replicas collide or ask for GPUs that the machine has not, whatever way they came into the plan."""
    names = ("vllm_network", "vllm_host_network")
    gpus, replicas = known(asked.other("Node") or {}, "gpus"), asked.var("vllm_replicas")
    if not isinstance(gpus, int) or not isinstance(replicas, list) or has_unknown(replicas):
        return
    planned = Planned({"vllm_replicas": replicas, **{name: asked.var(name) for name in names}}, gpus)
    for finding in (*apart(planned), *ports(planned), *there(planned)):
        yield Breach(f"{finding.key} {finding.value}", finding.seen, finding.wanted)


def machines_protected(asked: Asked) -> Iterator[Breach]:
    """Yield a machine, or something that stands on it, that Pulumi would delete without asking."""
    if not (asked.protect or asked.stack.lab or asked.name in asked.stack.release):
        yield Breach(f"{asked.kind} {asked.name} is not protected")


def machines_released(asked: Asked) -> Iterator[Breach]:
    """Yield each machine that the stack file releases."""
    for name, why in asked.stack.release.items():
        left = [part for part in ("weights", "driver") if part not in asked.stack.purge]
        stays = (
            f"a delete leaves {' and '.join(left)} there, unless glm-fleet:purge names them"
            if left
            else "a delete leaves nothing"
        )
        yield Breach(
            f"{name} is released ({why})", f"it is no longer protected, and can be replaced or deleted; {stays}"
        )


def _rocm(asked: Asked) -> str:
    """Return the machine's ROCm release, or "" where it is not known."""
    host = asked.other("Host")
    return str(Asked("Host", asked.name, host).var("rocm_version") or "") if host is not None else ""


def _pairs() -> str:
    return ", ".join(f"{pair.driver} with {pair.rocm}" for pair in data.drivers())


RULES = (
    Rule(
        name="driver-and-rocm-known",
        holds="Driver and ROCm are a pair that AMD pins together.",
        reason="they are versioned apart, and AMD tests only some pairs",
        remedy="a known pair",
        source="project notes on the host, Driver tuples that AMD's own bring-up tool pins; fleet/stack/rules/data/versions.yml",
        kinds=("Host",),
        judge=driver_and_rocm_known,
    ),
    Rule(
        name="system-known",
        holds="Each machine runs a system that AMD lists for its ROCm.",
        reason="AMD lists this ROCm for other systems only",
        remedy="a system of AMD's list",
        source=ROCM,
        kinds=("Node",),
        reads=("Host",),
        judge=system_known,
        at_end=True,
    ),
    Rule(
        name="kernel-known",
        holds="Each machine runs a kernel that AMD lists for its system and ROCm.",
        reason="AMD lists others for this system and ROCm; the driver may not build, or not load",
        remedy="a kernel of AMD's list",
        source=ROCM,
        kinds=("Node",),
        reads=("Host",),
        judge=kernel_known,
        level="advisory",  # the facts are from the machine's first contact: another kernel may run by now
        at_end=True,
    ),
    Rule(
        name="replicas-fit-gpus",
        holds="Each replica has a name and GPUs of its own, with the host's network a port too, and the machine has these GPUs.",
        reason="two replicas on one GPU run out of memory, and a missing one stops the start",
        remedy="correct vllm_replicas",
        source="project notes on serving, Memory; fleet/stack/rules, which judges stack files by the same function",
        kinds=("Serving",),
        reads=("Node",),
        judge=replicas_fit,
    ),
    Rule(
        name="machines-protected",
        holds="Outside the lab, a machine is replaced or deleted only when the stack file releases it by name.",
        reason="a line less in the stack file would take everything off a machine that serves",
        remedy="""let the program protect it, or `pulumi config set --path 'glm-fleet:release["NAME"]' "why, and when"`""",
        source="Pulumi documentation, Resource options: protect",
        kinds=("BareMetal", "Node", "Host", "Weights", "Serving"),
        judge=machines_protected,
    ),
    Rule(
        name="machines-released",
        holds="A machine that may be replaced or deleted is told at every preview.",
        reason="it is no longer protected, and can be replaced or deleted",
        remedy="take it out of glm-fleet:release when that is done",
        source="rule machines-protected",
        kinds=("Stack",),
        judge=machines_released,
        level="advisory",
    ),
)

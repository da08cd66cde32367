"""The machines: AMD supports their system, kernel, driver and ROCm together; replicas fit; nothing that serves is deleted by mistake."""

from collections.abc import Iterator

from fleet.findings import Finding
from fleet.stack.cluster_names import NAMESPACE
from fleet.stack.rules.gpus import gpus_there, ports_there, replicas_apart
from fleet.stack.rules.pods import pod_fits_node
from fleet.stack.rules.rule import MachinePlan
from policies import data
from policies.context import Context, has_unknown, value_at
from policies.rule import ResourceRule

ROCM = "AMD, System requirements (Linux) and Compatibility matrix; fleet/stack/rules/data/versions.yml"


def driver_and_rocm_known(context: Context) -> Iterator[Finding]:
    """Yield a driver and ROCm that AMD does not pin together."""
    driver, rocm, build = (context.var(name) for name in ("rocm_driver_release", "rocm_version", "rocm_driver_version"))
    if driver is None or rocm is None or context.var("rocm_driver_packages") == []:
        return
    pair = next((pair for pair in data.drivers() if pair.driver == driver), None)
    if pair is None:
        yield Finding(f"driver {driver} with ROCm {rocm}", next=f"one of {_pairs()}")
    elif pair.rocm != rocm:
        yield Finding(
            f"driver {driver} with ROCm {rocm}", next=f'rocm_version: "{pair.rocm}", or another pair of {_pairs()}'
        )
    elif build and pair.build.partition("-")[0] not in str(build):  # the package's version goes on after the build
        yield Finding(
            f"rocm_driver_version {build} is not of driver {driver}",
            next=f'leave rocm_driver_version out, or write "1:{pair.build}*"',
        )


def system_known(context: Context) -> Iterator[Finding]:
    """Yield a system that AMD does not list for this ROCm."""
    system, listed = value_at(context.inputs, "facts", "system"), data.systems(_rocm(context))
    if system is not None and listed and system not in listed and not context.stack.lab:
        yield Finding(
            f"{context.name} runs {system}, ROCm {_rocm(context)}", next=f"install one of {', '.join(listed)}"
        )


def kernel_known(context: Context) -> Iterator[Finding]:
    """Yield a kernel that AMD does not list for this system and ROCm."""
    system, kernel = value_at(context.inputs, "facts", "system"), value_at(context.inputs, "facts", "kernel")
    listed = data.systems(_rocm(context)).get(system or "", [])
    if kernel is None or not listed or context.stack.lab:
        return
    if ".".join(kernel.split(".")[:2]) not in listed:
        yield Finding(
            f"{context.name} had kernel {kernel} when it was first reached",
            next=f"boot kernel {' or '.join(listed)} of {system}",
        )


def replicas_fit(context: Context) -> Iterator[Finding]:
    """Yield replicas that collide, or that need GPUs which the machine does not have."""
    if context.kind == "Rollout":
        flags = context.var("vllm_flags")
        values = {"vllm_flags": {} if flags is None or has_unknown(flags) else flags}
        gpus = value_at(context.inputs, "gpus", absent=0) or 0
        for finding in pod_fits_node.check(MachinePlan(values, int(gpus), pod=True)):
            yield Finding(f"{finding.key} {finding.value}", reason=finding.seen, next=finding.wanted)
        return
    names = ("vllm_network", "vllm_host_network")
    gpus, replicas = value_at(context.inputs_of("Node") or {}, "gpus"), context.var("vllm_replicas")
    if not isinstance(gpus, int) or not isinstance(replicas, list) or has_unknown(replicas):
        return
    plan = MachinePlan({"vllm_replicas": replicas, **{name: context.var(name) for name in names}}, gpus)
    for finding in (*replicas_apart.check(plan), *ports_there.check(plan), *gpus_there.check(plan)):
        yield Finding(f"{finding.key} {finding.value}", reason=finding.seen, next=finding.wanted)


def machines_protected(context: Context) -> Iterator[Finding]:
    """Yield a machine, or a resource on it, that Pulumi would delete without protection; also a model and a namespace on a cluster."""
    standing = {"Gateway": "gateway", "Namespace": NAMESPACE, "PersistentVolumeClaim": NAMESPACE}.get(context.kind)
    released = (context.name.rpartition("/")[2], *([standing] if standing else []))
    if not (context.protect or context.stack.lab or any(name in context.stack.release for name in released)):
        yield Finding(f"{context.kind} {context.name} is not protected")


def machines_released(context: Context) -> Iterator[Finding]:
    """Yield each machine that the stack file releases."""
    if context.stack.cluster:
        for name, reason in context.stack.release.items():
            yield Finding(
                f"{name} is released ({reason})", reason="Pulumi no longer protects it, and can replace or delete it"
            )
        return
    kept = " and ".join(part for part in ("weights", "driver") if part not in context.stack.purge)
    note = f"a delete leaves {kept} there, unless glm-fleet:purge names them" if kept else "a delete leaves nothing"
    for name, reason in context.stack.release.items():
        yield Finding(
            f"{name} is released ({reason})",
            reason=f"Pulumi no longer protects it, and can replace or delete it; {note}",
        )


def _rocm(context: Context) -> str:
    """Return the machine's ROCm release, "" when it is not known."""
    host = context.inputs_of("Host")
    return str(Context("Host", context.name, host).var("rocm_version") or "") if host is not None else ""


def _pairs() -> str:
    return ", ".join(f"{pair.driver} with {pair.rocm}" for pair in data.drivers())


RULES = (
    ResourceRule(
        name="driver-and-rocm-known",
        holds="Driver and ROCm are a pair that AMD pins together.",
        reason="each has its own versions, and AMD tests only some pairs",
        remedy="a known pair",
        source="project notes on the host, Driver tuples that AMD's own bring-up tool pins; fleet/stack/rules/data/versions.yml",
        kinds=("Host",),
        check=driver_and_rocm_known,
    ),
    ResourceRule(
        name="system-known",
        holds="Each machine runs a system that AMD lists for its ROCm.",
        reason="AMD lists this ROCm only for other systems",
        remedy="a system that AMD lists",
        source=ROCM,
        kinds=("Node",),
        reads=("Host",),
        check=system_known,
        at_end=True,
    ),
    ResourceRule(
        name="kernel-known",
        holds="Each machine runs a kernel that AMD lists for its system and ROCm.",
        reason="AMD lists other kernels for this system and ROCm; the driver may not build, or not load",
        remedy="a kernel that AMD lists",
        source=ROCM,
        kinds=("Node",),
        reads=("Host",),
        check=kernel_known,
        level="warning",  # the facts are from the first connection: another kernel may run by now
        at_end=True,
    ),
    ResourceRule(
        name="replicas-fit-gpus",
        holds="Each replica has its own name and GPUs, with the host's network also its own port, and the machine has these GPUs.",
        reason="two replicas on one GPU run out of memory, and a missing GPU prevents the start",
        remedy="correct vllm_replicas",
        source="project notes on serving, Memory; fleet/stack/rules/gpus.py, which checks stack files with the same functions",
        kinds=("Serving", "Rollout"),
        reads=("Node",),
        check=replicas_fit,
    ),
    ResourceRule(
        name="machines-protected",
        holds="Outside the lab, Pulumi replaces or deletes a machine, or a model or namespace on a cluster, only when the stack file releases it by name.",
        reason="one line less in the stack file would otherwise remove everything from a machine that serves",
        remedy="""let the program protect it, or `pulumi config set --path 'glm-fleet:release["NAME"]' "why, and when"`""",
        source="Pulumi documentation, Resource options: protect",
        kinds=(
            "BareMetal",
            "Node",
            "Host",
            "Weights",
            "Serving",
            "Gateway",
            "Rollout",
            "Deployment",
            "Namespace",
            "PersistentVolumeClaim",
        ),
        check=machines_protected,
    ),
    ResourceRule(
        name="machines-released",
        holds="Every preview reports each machine that Pulumi may replace or delete.",
        reason="Pulumi no longer protects it, and can replace or delete it",
        remedy="remove it from glm-fleet:release when that is done",
        source="rule machines-protected",
        kinds=("Stack",),
        check=machines_released,
        level="warning",
    ),
)

"""`fleet rights`: print the Roles of who deploys a stack on a cluster. fleet.program.kubernetes.rights makes them. Opens no connection."""

import click

from fleet import errors
from fleet.cli import common

KINDS = {"user": "User", "group": "Group", "account": "ServiceAccount"}
NAMED = """\
# The rights that stack {stack} needs of its cluster, and no other. The cluster's owner applies them; the Roles once the namespaces are there:
# the first `pulumi up` makes these, and then says which right it lacks. After another change of the stack file, print them again.
# `fleet drain` needs more: --drain prints that.
"""
DRAIN = """\
# What `fleet drain` and `fleet undrain` of stack {stack} need beside the rights that `fleet rights` prints, in Roles of their own: evictions of
# its pods, and patch on nodes. With that an account may also change labels and taints of every node; Kubernetes has no smaller right to cordon.
"""


@click.command("rights")
@common.stack_option
@click.option("--user", default="", help="The user who gets them.")
@click.option("--group", default="", help="The group that gets them.")
@click.option("--account", default="", metavar="NAMESPACE/NAME", help="The service account that gets them.")
@click.option("--drain", is_flag=True, help="Print instead what `fleet drain` and `fleet undrain` need besides.")
@common.exit_on_error()
def command(stack: str, drain: bool, **subjects: str) -> None:
    """Print the Roles of least rights for a stack on a Kubernetes cluster.

    With --user, --group or --account also the bindings.
    """
    import yaml

    from fleet.program import kubernetes
    from fleet.program.kubernetes import rights

    settings, roles = common.load_typed_stack(stack)
    if settings.kubernetes is None:
        raise errors.FleetError(
            doing=f"print the rights of stack {stack}",
            seen="it has machines, which it reaches by SSH",
            wanted="`glm-fleet:kubernetes` in the stack file",
        )
    placed = kubernetes.Stack(settings, settings.kubernetes, roles, stack)
    name = f"glm-fleet-{stack}"
    made = rights.drain_roles(placed, f"{name}-drain") if drain else rights.roles(placed, name)
    subject = _subject({kind: name for kind, name in subjects.items() if name})
    documents = [*made, *(rights.bindings(made, subject) if subject else [])]
    head = (DRAIN if drain else NAMED).format(stack=stack)
    click.echo(head + yaml.safe_dump_all(documents, sort_keys=False, width=1000), nl=False)


def _subject(named: dict[str, str]) -> dict[str, str]:
    """Return the subject of the bindings, {} for none. Raises FleetError for several, and for an account without a namespace."""
    if not named:
        return {}
    [(kind, name), *others] = named.items()
    space, _, account = name.rpartition("/")
    if others or (kind == "account" and not (space and account)):
        seen = "several of --user, --group, --account" if others else f"--account {name}"
        raise errors.FleetError(
            doing="print the bindings", seen=seen, wanted="one of them" if others else "NAMESPACE/NAME"
        )
    return (
        {"kind": KINDS[kind], "name": account, "namespace": space}
        if kind == "account"
        else {"kind": KINDS[kind], "name": name}
    )

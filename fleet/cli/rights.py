"""`fleet rights`: print the Roles of who deploys a stack on a cluster. fleet.program.kubernetes.rights makes them. Opens no connection."""

import click

from fleet import errors
from fleet.cli import common

KINDS = {"user": "User", "group": "Group", "account": "ServiceAccount"}
NAMED = """\
# The rights that stack {stack} needs of its cluster, and no other. The cluster's owner applies them; the Roles once the namespaces are there:
# the first `pulumi up` makes these, and then says which right it lacks. After another change of the stack file, print them again.
"""
WITHOUT_DRAIN = "# `fleet drain` needs more, to cordon nodes and to evict pods: with --drain they are here, too.\n"
DRAIN = """\
# With what `fleet drain` needs: evictions, and patch on nodes, with which an account may also change labels and taints of every node.
"""


@click.command("rights")
@common.stack_option
@click.option("--user", default="", help="The user who gets them.")
@click.option("--group", default="", help="The group that gets them.")
@click.option("--account", default="", metavar="NAMESPACE/NAME", help="The service account that gets them.")
@click.option(
    "--drain", is_flag=True, help="Also what `fleet drain` needs: to cordon nodes, and to evict this stack's pods."
)
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
    made = rights.roles(kubernetes.Stack(settings, settings.kubernetes, roles, stack), f"glm-fleet-{stack}", drain)
    subject = _subject({kind: name for kind, name in subjects.items() if name})
    documents = [*made, *(rights.bindings(made, subject) if subject else [])]
    head = NAMED.format(stack=stack) + (DRAIN if drain else WITHOUT_DRAIN)
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

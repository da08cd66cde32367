"""`fleet kubeconfig`: a login for the cluster that a stack has made of its own machines, and the lines that another stack needs for it.

Needs a stack that is up, and SSH to its first control plane, which signs the login's certificate. No login is in the state of a stack.
"""

import base64
import json
from pathlib import Path
from typing import Any

import click

from fleet import errors
from fleet.cli import common


@click.command("kubeconfig")
@common.stack_option
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 365), help="Days until the login ends.")
@click.option(
    "--file", default="", help="The file to write; by default one in the project's folder for logs and evidence."
)
@common.exit_on_error()
def command(stack: str, days: int, file: str) -> None:
    """Write a kubeconfig for the cluster of a stack's own machines.

    Who has the file may do everything in that cluster until the login ends: there is no way to take it back. `fleet rights` of the stack with
    the models prints Roles for one that may do less.
    """
    from fleet import ssh
    from fleet.cli import stack_outputs
    from fleet.managed import membership
    from fleet.provider import base

    deployed = stack_outputs.deployed(stack)
    members = deployed.get("Member", {})
    name = next((name for name, outputs in members.items() if outputs.get("part") == "first"), "")
    if not name:
        raise errors.FleetError(
            doing=f"find the cluster of stack {stack}",
            seen="no first control plane in its state",
            wanted="a stack with glm-fleet:cluster that is up",
            next=f"`pulumi up -s {stack}`",
        )
    with ssh.connect(ssh.Target.from_inputs(members[name]["node"])) as connection:
        login = membership.login(connection, f"glm-fleet/{stack}", days)
    path = Path(file).expanduser().absolute() if file else base.state_dir() / "kubeconfig" / f"{stack}.yaml"
    write(path, kubeconfig(stack, members[name], login.certificate, login.key))
    click.echo(f"glm-fleet:kubernetes:\n  context: {stack}\n  kubeconfig: {path}")


def kubeconfig(context: str, member: dict[str, Any], certificate: str, key: str) -> str:
    """Return a kubeconfig with one context, which is not its current one: a stack file names it."""
    user = {"client-certificate-data": _encoded(certificate), "client-key-data": _encoded(key)}
    cluster = {
        "server": f"https://{member['endpoint']}",
        "certificate-authority-data": _encoded(member["authority"]),
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context, "cluster": cluster}],
        "users": [{"name": context, "user": user}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
    }
    return json.dumps(document, indent=1) + "\n"


def write(path: Path, text: str) -> None:
    """Write a file that nobody else may read, at no moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(text)
    new.rename(path)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()

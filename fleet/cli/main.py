"""The command `fleet`: the list of its verbs. Each verb is a file here, imported only when it is called.

Add a verb: its file fleet/cli/VERB.py with a click command named `command`, and its line in VERBS.
Needs click alone; `fleet --help` imports no verb. tests/unit/test_cli_verbs.py compares VERBS with the files.
"""

import importlib

import click

# Each verb, and the first sentence of its own help.
VERBS = {
    "accept": "Run the benchmarks of docs/acceptance.md on machines with idle GPUs.",
    "apply": "Deploy a change exactly as a report of `fleet review` has it, or refuse it.",
    "backup": "Make a backup of a stack, or with --schedule the timer that makes it.",
    "drain": "Take a node or a replica out of rotation until `fleet undrain`.",
    "drill": "Rebuild one node of a stack that serves, and measure how long that takes.",
    "enrol": "Show the host keys of machines and pin one key each in the stack file.",
    "forward": "Keep a tunnel to a replica open, until ^C.",
    "key": "Make, list and remove the keys of clients.",
    "kubeconfig": "Write a kubeconfig for the cluster of a stack's own machines.",
    "mirrors": "List what the machines of a stack fetch, and from where.",
    "pin": "Replace the tags and branches in a stack file by digests and commits.",
    "plan": "Check a stack file and show how its replicas fit on the GPUs.",
    "preflight": "Check whether the machines can become what the stack wants.",
    "probe": "Send the probes to each replica and check its answers.",
    "request": "Print the JSON body of one probe's request.",
    "review": "Report what a change does, before it is done: its verdict, reasons, evidence.",
    "rights": "Print the Roles of least rights for a stack on a Kubernetes cluster.",
    "rollback": "Put the image, flags and weights of the last good state into the stack file.",
    "show": "Show what serves where, its probe results, and how long each phase took.",
    "undrain": "Put a node or a replica back into rotation after `fleet drain`.",
    "verify": "Compare every byte of the weights, and the images, with the record.",
}


class Verbs(click.Group):
    """A click group that imports a verb's file only when the verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in alphabetical order."""
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command of a verb; None for an unknown one."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"fleet.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs from VERBS, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(VERBS.items()))


@click.group(cls=Verbs)
def main() -> None:
    """Check, prepare and use the machines of a stack.

    Needs `pulumi` on PATH and its environment: `eval "$(make env)"`.

    plan, mirrors, enrol, pin, key and rights read only the stack file. preflight too, for machines whose host key is in it. The other verbs need a
    stack that is up; request needs none.

    Exit code 1: an error, printed on stderr. For accept, drain, drill, preflight and verify, 1 is a finding and 2 an error.
    """


if __name__ == "__main__":
    main()

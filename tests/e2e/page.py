"""docs/drift.md: what somebody can change by hand on a machine, and the next refresh's report. `make docs` writes it from drift.yml."""

from tests.support import drift_table, records

HEAD = """# What a refresh sees

`pulumi preview --refresh` compares everything that our runs put on a machine with what is there now, in one SSH exec a machine;
`pulumi up --refresh` mends it. Each row is done by hand on a lab node, told and mended in `tests/e2e/test_e2e_drift.py`; this page
is made from its table, `tests/e2e/drift.yml` (`make docs`). `*` is any text. What no role can put back is said to be taken as it is.

Options that `daemon.json` had before our first run stay. One that somebody adds later stays, too, and is drift at every refresh,
`options of /etc/docker/daemon.json (option mtu, wanted no such option)`, until `docker_daemon_options` declares it or somebody takes it out.

Weights are compared by size and time: reading them takes minutes. `fleet verify -s ENV` reads every byte; a file that it finds wrong gets the
present time, and is from then on told and mended as in the table. Replicas start anew with files that were fetched again.

*Gone through*: when a run on lab nodes last showed this row; *stale* where the row or what reads the machine has changed since.

| changed by hand | told as | gone through |
|---|---|---|"""


def page() -> str:
    """Return the page as Markdown."""
    all_records, lines = records.read("drift"), []
    for change in (change for wave in drift_table.waves() for change in wave):
        report = "<br>".join(f"`{words}`" for words in change["report"])
        state = records.state("drift", all_records.get(change["kind"], {}), change)
        lines.append(f"| {change['kind']} | {report} | {state} |")
    return "\n".join([HEAD, *lines, ""])


if __name__ == "__main__":
    print(page(), end="")

"""Generate docs/drift.md from drift.yml: manual changes of a machine, and how the next refresh reports them. Called by `make docs`."""

from tests.support import drift_table, records

HEAD = """# Drift: what a refresh sees

`pulumi preview --refresh` compares all that this project manages on a machine with its present state, in one SSH exec per machine.
`pulumi up --refresh` reverts the drift. `tests/e2e/test_e2e_drift.py` makes each change by hand on a lab node, and checks the report and the revert;
`make docs` generates this page from its table, `tests/e2e/drift.yml`. `*` is any text. The report names drift that no role can revert: the project
accepts it as it is.

Options that `daemon.json` had before the first run stay. An option that somebody adds later stays, too. It is drift at every refresh,
`options of /etc/docker/daemon.json (option mtu, wanted no such option)`, until `docker_daemon_options` declares it or somebody removes it.

A drain is drift, too, and no run ends it: `node prod-2 (drained by operator since 2026-11-29 23:05 UTC, wanted in rotation: …)` until `fleet undrain`.

A refresh compares weights by size and time, since reading them takes minutes. `fleet verify -s ENV` reads every byte. It gives a wrong file the
present time, so that the next refresh reports and reverts it as in the table. Replicas restart with files that were fetched again.

*Last run*: when a run on lab nodes last showed this row; *stale* when the row or the code that reads the machine changed since.

| manual change | reported as | last run |
|---|---|---|"""


def page() -> str:
    """Return the page as Markdown."""
    recorded, lines = records.read("drift"), []
    for row in (row for wave in drift_table.waves() for row in wave):
        report = "<br>".join(f"`{words}`" for words in row["report"])
        lines.append(f"| {row['kind']} | {report} | {records.state('drift', recorded.get(row['kind'], {}), row)} |")
    return "\n".join([HEAD, *lines, ""])

"""Is a machine as fast as its maker promises, before it is taken into use? Benchmarks with thresholds, as data.

    mi300x.yml  what is run, what it must measure at least, where that stands in what it prints, and who says so
    catalogue   that file, with a stack's own commands in it
    evaluate    what a benchmark printed against its thresholds: pure
    run         on the machines, by playbooks/acceptance.yml, several at once; what they printed into files
    report      table, messages, JSON
    page        docs/acceptance.md

Optional: no part of `pulumi up`. Called by `fleet accept` (fleet.cli.accept).
"""

"""Benchmarks with thresholds, as data: does a machine reach the figures of its maker before it goes into use?

    mi300x.yml  the benchmarks: command, thresholds, the pattern that finds each figure in the output, the source
    catalogue   reads that file, and replaces commands by those of a stack
    evaluate    compares the output of a benchmark with its thresholds
    page        writes docs/acceptance.md

Optional, no part of `pulumi up`. Called by fleet.cli.accept, which runs playbooks/acceptance.yml, and fleet.cli.accept_report.
"""

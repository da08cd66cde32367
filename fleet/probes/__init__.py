"""Send real requests with known answers: does the vLLM server see, and does it refuse what it must?

    load   reads cases/*.yaml: a request and the checks on its answer, as data
    run    sends the cases to a server and checks the answers
    report writes a table, JSON, JUnit, and a page that draws the answered box beside the true one

Needs httpx and Pillow, and only the URL of a server. Called by fleet.provider (Serving), fleet.cli.probe and fleet.cli.request.
"""

from fleet.probes.case import Case, load
from fleet.probes.runner import ProbeResult, run

__all__ = ["Case", "ProbeResult", "load", "run"]

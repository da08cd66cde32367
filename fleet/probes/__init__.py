"""Real requests with known answers: does the endpoint see, and does it refuse what it must?

    load   cases/*.yaml: the request and the checks on its answer, as data
    run    put cases to a server, check the answers
    report table, JSON, JUnit, and a page that draws the answered box beside the true one

Needs httpx and Pillow; knows nothing of how the server was started. Called by fleet.provider (Serving), fleet.cli.probe and fleet.cli.request.
"""

from fleet.probes.case import Case, load
from fleet.probes.runner import ProbeResult, run

__all__ = ["Case", "ProbeResult", "load", "run"]

"""URL KEYFILE MODEL MIN_IOU CASE...: ask a vLLM server about pictures whose answers are known. Exits with 0 when every answer is right.

The startup probe of a pod (fleet/program/kubernetes/serving.py): until it is right once, Kubernetes counts the pod as not started, and a
change of the Deployment stops at it. Its one line of output becomes an event of the pod, which the rollout reads: it begins with STARTING
while the server does not answer yet, and with WRONG when it answers, and wrongly.
"""

import pathlib
import sys

import httpx

from fleet import probes

STARTING, WRONG = "starting: ", "sees wrongly: "
PATIENCE = 5.0  # seconds for /health


def main(url: str, key_file: str, model: str, min_iou: str, *names: str) -> str:
    """Return what is wrong, "" when nothing is."""
    try:
        status = httpx.get(f"{url}/health", timeout=PATIENCE, trust_env=False).status_code
    except httpx.HTTPError as error:
        return f"{STARTING}{type(error).__name__}"
    if status != httpx.codes.OK:
        return f"{STARTING}/health answers {status}"
    key = pathlib.Path(key_file).read_text().strip().partition("=")[2]
    results = probes.run(url, key, model, probes.load(names, float(min_iou)), lambda _: None)
    wrong = [f"{result.case.name}: {result.seen}" for result in results if result.refused]
    return WRONG + "; ".join(wrong) if wrong else ""


if __name__ == "__main__":
    seen = main(*sys.argv[1:])
    print(seen or "sees")
    sys.exit(bool(seen))

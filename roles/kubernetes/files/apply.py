"""apply.py KUBECONFIG [check]: apply one file of objects to a cluster, if that changes them: JSON in, JSON out.

In: {file: path, url, sha256: of the file, which is fetched if it is not there ("": it is there), images: {image that the file names: image in
its place}}. Out: {changed: bool}. Ends with words on stderr if the file is another one, if one of its images is not named by digest, or if the
API server refuses it; waits for an API server that does not answer. Needs kubectl. Called by tasks/objects.yml through `python3 -c`.
"""

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request

MANAGER = "glm-fleet"
IMAGE = re.compile(
    r"""^(?P<before>\s*(?:-\s+)?"?image"?:\s*["']?)(?P<name>[^\s"',]+)(?P<after>["']?,?\s*)$""", re.MULTILINE
)
BOUND = 60  # seconds without a byte from the server
LARGEST = 16 << 20
# The API server's own words about the objects. Any other failure passes: the kubelet restarts the API server after an upgrade or renewal.
REFUSED = re.compile(r"Error from server \((?!ServiceUnavailable|Timeout|InternalError|TooManyRequests)")
PATIENCE, PAUSE = 120, 2  # seconds


def fail(seen: str, wanted: str, next_step: str) -> None:
    sys.exit(f"{seen}\nwanted: {wanted}\nnext: {next_step}")


def fetched(file: pathlib.Path, url: str, sha256: str) -> bytes:
    """Return the file; fetch it, and keep it, where it is not there yet."""
    if not sha256:
        return file.read_bytes()
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        content = download(url)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        place = file if file.exists() else url
        fail(
            f"{place} has the SHA-256 {found}",
            f"{sha256} (kubernetes_network_sha256)",
            "read what changed there; a new sum is for a file that you have read",
        )
    if not file.exists():
        work = file.with_suffix(".new")
        work.write_bytes(content)
        work.rename(file)
    return content


def download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=BOUND) as answer:
            content = answer.read(LARGEST + 1)
    except (OSError, ValueError) as problem:
        fail(
            f"{url}: {problem}",
            "the manifest of the network engine (kubernetes_network_manifest)",
            f"`curl -I {url}` on the node",
        )
    if len(content) > LARGEST:
        fail(f"{url} has more than {LARGEST >> 20} MB", "a manifest", "correct kubernetes_network_manifest")
    return content


def placed(manifest: str, images: dict[str, str]) -> str:
    """Return the manifest with its images replaced. Each must then be named by digest: a tag may move."""
    whole = IMAGE.sub(lambda line: line["before"] + images.get(line["name"], line["name"]) + line["after"], manifest)
    moving = sorted({line["name"] for line in IMAGE.finditer(whole) if "@sha256:" not in line["name"]})
    if moving:
        fail(
            f"the manifest names {', '.join(moving)}",
            "each image by digest, from your registry",
            "add it to kubernetes_network_images: {IMAGE: REGISTRY/PATH@sha256:…}",
        )
    return whole


def kubectl(verb: str, manifest: str) -> subprocess.CompletedProcess[str]:
    options = ["--server-side", "--force-conflicts", f"--field-manager={MANAGER}", "--filename=-"]
    command = ["kubectl", f"--kubeconfig={kubeconfig}", verb, *options]
    return subprocess.run(command, input=manifest, capture_output=True, text=True)


kubeconfig, check = sys.argv[1], sys.argv[2:] == ["check"]
query = json.load(sys.stdin)
manifest = placed(fetched(pathlib.Path(query["file"]), query["url"], query["sha256"]).decode(), query["images"])
# More than 1: the server cannot compare yet, because the manifest itself brings a kind, or a namespace.
changed = kubectl("diff", manifest).returncode != 0
end = time.monotonic() + PATIENCE
while changed and not check:
    done = kubectl("apply", manifest)
    if not done.returncode:
        break
    if REFUSED.search(done.stderr) or time.monotonic() > end:
        sys.exit(done.stderr.strip())
    time.sleep(PAUSE)
print(json.dumps({"changed": changed}))

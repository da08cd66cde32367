"""certificates.py [check]: renew the certificates of a control plane that end soon, on the machine, as root: JSON in, JSON out.

In: {pki: folder of kubeadm's certificates, manifests: folder of the control plane's pods, work: folder on the same file system, days: renew one
that has at most so many left, programs: [name] of the pods, port: of the API server here, timeout: seconds}. Out: {ends: day on which the first
one ends, renewed: bool}. A run that was interrupted after the renewal restarts the pods at the next one.
kubeadm renews files and restarts nothing: a new annotation in the manifests lets the kubelet start the four pods again. Needs kubeadm and
openssl. Called by tasks/certificates.yml through `python3 -c`.
"""

import contextlib
import datetime
import json
import pathlib
import ssl
import subprocess
import sys
import time
import urllib.request

STAMP = "    glm-fleet/certificates: "
HEAD, ANNOTATIONS = "metadata:", "  annotations:"


def fail(seen: str, wanted: str, next_step: str) -> None:
    sys.exit(f"{seen}\nwanted: {wanted}\nnext: {next_step}")


def out(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        fail(
            f"`{' '.join(command)}`: {last}",
            "certificates of kubeadm",
            "`kubeadm certs check-expiration` on the machine",
        )
    return done.stdout


def first_end(pki: pathlib.Path) -> datetime.date:
    """Return the day on which the first certificate ends; those of the authorities have ten years."""
    files = sorted(pki.glob("**/*.crt"))
    lines = [out("openssl", "x509", "-noout", "-enddate", "-in", str(file)).strip() for file in files]
    if not lines:
        fail(f"no certificate in {pki}", "a control plane that kubeadm made", "`ls` there")
    days = [line.removeprefix("notAfter=").replace("GMT", "+0000") for line in lines]
    return min(datetime.datetime.strptime(day, "%b %d %H:%M:%S %Y %z") for day in days).date()


def stamped(manifest: str, stamp: str) -> str:
    """Return a pod's manifest with the stamp as an annotation, in the place of an earlier one."""
    lines = [line for line in manifest.splitlines() if not line.startswith(STAMP)]
    if ANNOTATIONS not in lines:
        lines.insert(lines.index(HEAD) + 1, ANNOTATIONS)
    lines.insert(lines.index(ANNOTATIONS) + 1, f'{STAMP}"{stamp}"')
    return "\n".join(lines) + "\n"


def restart(manifests: pathlib.Path, work: pathlib.Path, stamp: str) -> None:
    for file in sorted(manifests.glob("*.yaml")):
        new = work / f"{file.name}.new"
        new.write_text(stamped(file.read_text(), stamp))
        new.chmod(0o600)
        new.rename(file)


def processes(names: list[str]) -> dict[str, set[int]]:
    """Return the processes of each program, by the name that the kernel keeps: its first 15 signs."""
    found: dict[str, set[int]] = {name[:15]: set() for name in names}
    for file in pathlib.Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):  # it has ended
            found.get(file.read_text().strip(), set()).add(int(file.parent.name))
    return found


def answers(port: int, authority: pathlib.Path) -> bool:
    """Return whether the API server here is ready. Its certificate has other names than this address."""
    context = ssl.create_default_context(cafile=str(authority))
    context.check_hostname = False
    try:
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/readyz", timeout=5, context=context) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait(old: dict[str, set[int]], port: int, authority: pathlib.Path, seconds: int) -> None:
    """Wait until each program runs in another process, and the API server is ready."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        new = processes(list(old))
        if all(new[name] and not new[name] & old[name] for name in old if old[name]) and answers(port, authority):
            return
        time.sleep(1)
    seen = f"after {seconds} s the control plane has not started again with its new certificates"
    fail(
        seen,
        "other processes, and an API server that is ready",
        "`crictl ps -a` and `journalctl -u kubelet` on the machine",
    )


query = json.load(sys.stdin)
pki, work = pathlib.Path(query["pki"]), pathlib.Path(query["work"])
begun, ends, today = work / "renewal-begun", first_end(pki), datetime.datetime.now(datetime.timezone.utc)  # noqa: UP017 a node has Python 3.10
soon = (ends - today.date()).days <= query["days"]
due = soon or begun.exists()
if due and sys.argv[1:] != ["check"]:
    begun.touch()
    old = processes(query["programs"])
    if soon:
        out("kubeadm", "certs", "renew", "all")
        ends = first_end(pki)
    restart(pathlib.Path(query["manifests"]), work, today.isoformat())
    wait(old, query["port"], pki / "ca.crt", query["timeout"])
    begun.unlink()
print(json.dumps({"ends": ends.isoformat(), "renewed": due}))

"""snapshot.py: save the state of etcd on a control plane, as root: JSON in, JSON out.

In: {folder, name: how the file's name begins, kept: how many files stay, the newest ones, url: of etcd here, authority, certificate, key: paths}.
Out: {file, bytes}. Ends with words on stderr if etcd gives no snapshot, or half of one: the last 32 bytes of a whole one are the SHA-256 of
those before. It has all objects of the cluster, with its Secrets. Asks etcd's own gateway, as no etcdctl is on the machine; `etcdutl snapshot
restore` reads the file. Called by tasks/upgrade.yml through `python3 -c`.
"""

import base64
import hashlib
import json
import os
import pathlib
import ssl
import sys
import time
import urllib.request

SUM = 32  # bytes
BOUND = 60  # seconds without a byte from etcd
PIECE = 1 << 20


def fail(seen: str) -> None:
    sys.exit(
        f"{seen}\nwanted: a snapshot of etcd before the upgrade, which has not begun"
        "\nnext: `crictl ps -a --name etcd` and `df -h /var/lib/fleet` on the machine; then `pulumi up`"
    )


def write(query: dict, file: pathlib.Path) -> None:
    """Write the snapshot that etcd sends: a line of JSON for each piece."""
    context = ssl.create_default_context(cafile=query["authority"])
    context.load_cert_chain(query["certificate"], query["key"])
    request = urllib.request.Request(f"{query['url']}/v3/maintenance/snapshot", data=b"{}", method="POST")
    draft = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(draft, "wb") as work, urllib.request.urlopen(request, timeout=BOUND, context=context) as answer:
        for line in answer:
            piece = json.loads(line)
            if "result" not in piece:
                fail(f"etcd: {json.dumps(piece)[:300]}")
            work.write(base64.b64decode(piece["result"].get("blob", "")))
        work.flush()
        os.fsync(work.fileno())


def is_whole(file: pathlib.Path) -> bool:
    """Return whether the file ends with the sum of what is before."""
    left, whole = file.stat().st_size - SUM, hashlib.sha256()
    if left <= 0:
        return False
    with file.open("rb") as work:
        while left:
            piece = work.read(min(PIECE, left))
            whole.update(piece)
            left -= len(piece)
        return work.read() == whole.digest()


query = json.load(sys.stdin)
folder = pathlib.Path(query["folder"])
file = folder / f"{query['name']}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.db"
draft = folder / ".snapshot.new"
try:
    write(query, draft)
except (OSError, ValueError) as problem:
    fail(f"etcd at {query['url']}: {problem}")
if not is_whole(draft):
    fail(f"etcd at {query['url']} sent a snapshot of {draft.stat().st_size} bytes whose sum is another one")
draft.rename(file)
others = sorted(folder.glob("*.db"), key=lambda other: other.stat().st_mtime)
for other in others[: -query["kept"]]:
    other.unlink()
print(json.dumps({"file": str(file), "bytes": file.stat().st_size}))

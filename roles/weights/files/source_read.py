"""Read what the role weights needs to know of the source for neighbours, in one exec: JSON in, JSON out. Changes nothing.

In: {unit, port: 0 where none is wanted, folder: of its files, record: path of baseline.py's record, group: number}. Out: {installed: nginx,
unknown: to apt, before: whether somebody had installed nginx before the first run, unit: whether this role wrote the unit, active, unread:
whether it runs with older files, taken: whether another process has the port, group: name of that number, or ""}. Needs dpkg, apt-cache,
systemctl. Called by tasks/source.yml through `python3 -c`, after roles/host/files/ports.py (listening).
"""

import grp
import json
import pathlib
import re
import subprocess
import sys


def out(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


query = json.load(sys.stdin)
folder, record = pathlib.Path(query["folder"]), pathlib.Path(query["record"])
installed = out("dpkg-query", "-W", "-f", "${db:Status-Abbrev}", "nginx").startswith("ii")
known = installed or bool(re.search(r"Candidate: (\d\S*)", out("apt-cache", "policy", "nginx")))
active = out("systemctl", "is-active", query["unit"]).strip() in ("active", "reloading")
configuration, stamp = folder / "nginx.conf", pathlib.Path("/run", query["unit"], "read")
text = configuration.read_text() if configuration.exists() else ""
own = {int(port) for port in re.findall(r"(?m)^ +listen \S+:(\d+) ssl;", text)} if active else set()
newest = max((file.stat().st_mtime_ns for file in folder.glob("*")), default=0)
print(
    json.dumps(
        {
            "installed": installed,
            "unknown": not known,
            "before": "nginx" in json.loads(record.read_text())["packages"] if record.exists() else installed,
            "unit": pathlib.Path("/etc/systemd/system", f"{query['unit']}.service").exists(),
            "active": active,
            "unread": active and stamp.exists() and newest > stamp.stat().st_mtime_ns,
            "group": next((group.gr_name for group in grp.getgrall() if group.gr_gid == int(query["group"])), ""),
            "taken": query["port"] > 0 and query["port"] not in own and listening(query["port"]),  # noqa: F821 ports.py
        }
    )
)

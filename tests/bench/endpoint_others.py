"""Other proxies before the same replica, with their defaults, for the comparison in endpoint.py.

nginx is Debian's package, taken apart into a folder and not installed; its one more setting is the limit of a body, 1 MB by default. LiteLLM is
from the package index, in an environment of its own; without a database, and without TLS, as it comes. It runs as nobody in namespaces that
reach nothing but their loopback: releases of it have been malicious. What cannot be had is named in the rows.
"""

import pathlib
import shlex
import subprocess
from typing import Any

from tests.support import gateway_pki
from tests.support.acme_machines import ROOT, Machine

LITELLM = "litellm[proxy]==1.86.2"
# The newest that any package of LiteLLM's environment may be: a version alone says nothing about what it needs.
BEFORE = "2026-06-01"
NGINX_PORT, LITELLM_PORT = 444, 4000
KEY = "sk-of-another-client"
SITE = """
server {{
  listen 127.0.0.1:{port} ssl;
  ssl_certificate /etc/nginx/server.pem;
  ssl_certificate_key /etc/nginx/server.pem;
  client_max_body_size 64m;
  location / {{ proxy_pass http://unix:{socket}; }}
}}
"""
MODEL = """
model_list:
  - model_name: m
    litellm_params: {{model: openai/m, api_base: "http://127.0.0.1:{port}/v1", api_key: {key}}}
general_settings: {{master_key: {own}}}
"""


class Absent(Exception):
    """A program cannot be had here, and why."""


def start(
    place: Machine, authority: gateway_pki.Authority, replica: dict[str, Any]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Start the others; return the ways through them, and {name: reason} of those that cannot be had.

    `replica` has its `key`, `socket`, TCP `port` and `processes`.
    """
    ways, absent = {}, {}
    for name, begin in (("nginx", _nginx), ("LiteLLM", _litellm)):
        try:
            ways[name] = begin(place, authority, replica)
        except Absent as error:
            absent[name] = str(error)
    return ways, absent


def _nginx(place: Machine, authority: gateway_pki.Authority, replica: dict[str, Any]) -> dict[str, Any]:
    folder = place.folder / "nginx"
    folder.mkdir()
    _had("apt-get download -qq nginx nginx-common && for package in *.deb; do dpkg -x $package .; done", folder)
    place.write("/etc/nginx/server.pem", authority.sign("glm.example", gateway_pki.SERVER), "root")
    draft = folder / "site"
    draft.write_text(SITE.format(port=NGINX_PORT, socket=replica["socket"]))
    steps = [
        "mount -t tmpfs own /var/log",
        "mkdir -p /var/log/nginx /var/lib/nginx",
        f"cp -r {folder}/etc/nginx/. /etc/nginx",
        "rm -f /etc/nginx/sites-enabled/default",
        f"cp {draft} /etc/nginx/sites-enabled/site",
        "usermod --append --groups fleet-proxy www-data",  # the replica's socket is of this group
    ]
    place.run("; ".join(steps))
    process = place.start(f"{folder}/usr/sbin/nginx", "-g", "daemon off;", log=place.folder / "nginx.log")
    place.wait(f"curl -sk -m 2 -o /dev/null https://127.0.0.1:{NGINX_PORT}/health")
    return {
        "key": replica["key"],
        "address": "127.0.0.1",
        "port": NGINX_PORT,
        "authority": "/etc/fleet/gateway/ca.pem",
        "processes": [*replica["processes"], process.pid],
    }


def _litellm(place: Machine, _: gateway_pki.Authority, replica: dict[str, Any]) -> dict[str, Any]:
    folder = place.folder / "litellm"
    folder.mkdir()
    # The system's Python: `nobody` may not reach another one.
    install = f"--python {folder}/env --only-binary :all: --exclude-newer {BEFORE} {shlex.quote(LITELLM)}"
    _had(
        f"uv=$(bootstrap/uv.sh) && $uv venv -q --python /usr/bin/python3 {folder}/env && $uv pip install -q {install}",
        ROOT,
    )
    settings = folder / "settings.yaml"
    settings.write_text(MODEL.format(port=replica["port"], key=replica["key"], own=KEY))
    user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs"]
    run = ["litellm", "--config", str(settings), "--host", "127.0.0.1", "--port", str(LITELLM_PORT)]
    path = f"{folder}/env/bin:/usr/bin:/bin"
    # it would fetch its list of prices
    environment = ["env", "LITELLM_LOCAL_MODEL_COST_MAP=True", f"PATH={path}"]
    process = place.start(*user, *environment, *run, log=place.folder / "litellm.log")
    place.wait(f"curl -sf -m 2 -o /dev/null http://127.0.0.1:{LITELLM_PORT}/health/liveliness", 120)
    processes = [*replica["processes"], process.pid]
    return {"key": KEY, "address": "127.0.0.1", "port": LITELLM_PORT, "processes": processes}


def _had(command: str, folder: pathlib.Path) -> None:
    """Run what fetches a program. Raises Absent where that fails."""
    done = subprocess.run(
        ["bash", "-ceu", command], cwd=folder, capture_output=True, text=True, timeout=900, check=False
    )
    if done.returncode:
        raise Absent((done.stderr.strip().splitlines() or ["no reason given"])[-1])

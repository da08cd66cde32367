"""Debian's nginx, and the role weights' own configuration for it: for tests and the benchmark of weights from neighbours.

Takes nginx on PATH; else unpacks the distribution's package, once, into the lab's cache. Needs apt-get, dpkg, ansible-playbook.
"""

import json
import pathlib
import shutil
import subprocess
import sys
from typing import Any

from lab import cache

ROLE = pathlib.Path(__file__).parents[2] / "roles" / "weights"
PACKAGE = "nginx"


def program() -> pathlib.Path:
    """Return the program nginx."""
    if installed := shutil.which("nginx"):
        return pathlib.Path(installed)
    policy = subprocess.run(["apt-cache", "policy", PACKAGE], capture_output=True, text=True, check=True).stdout
    if "Candidate" not in policy:
        subprocess.run(["apt-get", "update", "--quiet"], check=True, capture_output=True, timeout=300)
        policy = subprocess.run(["apt-cache", "policy", PACKAGE], capture_output=True, text=True, check=True).stdout
    (version,) = (line.split()[1] for line in policy.splitlines() if "Candidate" in line)
    target = cache.folder() / f"nginx-{cache.key([], version)}"
    if not target.exists():
        with cache.making(target) as work:
            subprocess.run(["apt-get", "download", PACKAGE], cwd=work, check=True, capture_output=True, timeout=300)
            (archive,) = work.glob("*.deb")
            subprocess.run(["dpkg", "--extract", archive.name, "."], cwd=work, check=True)
    return target / "usr" / "sbin" / "nginx"


def configurations(folder: pathlib.Path, nodes: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the role's nginx.conf for nodes with these variables, by name: rendered by Ansible with the role's defaults."""
    files = [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")]
    plays = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "vars_files": files,
            "tasks": [
                {
                    "ansible.builtin.template": {
                        "src": str(ROLE / "templates" / "nginx.conf.j2"),
                        "dest": str(folder / f"{name}.rendered"),
                    },
                    "vars": variables,
                }
            ],
        }
        for name, variables in nodes.items()
    ]
    (folder / "render.json").write_text(json.dumps(plays))
    ansible = str(pathlib.Path(sys.executable).with_name("ansible-playbook"))
    python = f"ansible_python_interpreter={sys.executable}"
    command = [ansible, "-i", "localhost,", "-c", "local", "-e", python, str(folder / "render.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: (folder / f"{name}.rendered").read_text() for name in nodes}

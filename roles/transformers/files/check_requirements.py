"""COMMIT: fails the build unless vLLM's own metadata takes the transformers that was installed, and the packages beside it.

Owned by the role transformers, run by its Dockerfile after pip, with the image's own Python: pip is called with --no-deps and compares nothing.
Needs `packaging`, which transformers itself needs; else pip's own copy.
"""

import importlib.metadata
import sys

try:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
    from packaging.version import Version
except ModuleNotFoundError:
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name
    from pip._vendor.packaging.version import Version

COMPARED = ("transformers", "huggingface-hub", "tokenizers")
# Before this one vLLM asks for a transformers below 5, which has no GLM-4.6V: a later one over it is what makes it serve.
OWN_WORD = Version("0.19.0")


def installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def requirements_of_vllm() -> dict[str, list[Requirement]]:
    """What vLLM asks for in this environment, by package; an extra that nobody asked for asks for nothing."""
    by_name: dict[str, list[Requirement]] = {name: [] for name in COMPARED}
    for line in importlib.metadata.requires("vllm") or []:
        one = Requirement(line)
        name = canonicalize_name(one.name)
        if name in by_name and (one.marker is None or one.marker.evaluate({"extra": ""})):
            by_name[name].append(one)
    return by_name


def fits(version: str, one: Requirement) -> bool:
    """A source build is a pre-release (5.19.0.dev0), which counts where its place in the order is: before 5.19.0."""
    return version != "none" and one.specifier.contains(Version(version), prereleases=True)


vllm = importlib.metadata.version("vllm")
mistakes = []
for name, requirements in requirements_of_vllm().items():
    version = installed(name)
    wanted = ", ".join(f"{name} {one.specifier}" for one in requirements if not fits(version, one))
    if name == "transformers" and Version(vllm) < OWN_WORD:
        print("not compared: vLLM", vllm, "asks for a transformers that has no GLM-4.6V")
    elif wanted and name == "transformers":
        mistakes.append(
            f"transformers {version} (commit {sys.argv[1][:12]}) does not fit vLLM {vllm} in the base image\n"
            f"wanted: {wanted}, as the metadata of that vLLM says\n"
            "next: a transformers_commit within that range, or a transformers_base_image whose vLLM takes this one"
        )
    elif wanted:
        mistakes.append(
            f"{name} {version} in the base image does not fit vLLM {vllm} in it\n"
            f"wanted: {wanted}, as the metadata of that vLLM says\n"
            "next: another transformers_base_image: the build installs transformers alone"
        )
    print(
        name,
        version,
        "for vLLM",
        vllm,
        "which asks for",
        ", ".join(str(one.specifier) for one in requirements) or "any",
    )
if mistakes:
    sys.exit("\n".join(mistakes))

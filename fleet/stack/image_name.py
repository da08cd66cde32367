"""The name that the role transformers gives the serving image in a stack's registry. Opens no connection.

The role computes the same on the node (`_transformers_tag` in roles/transformers/vars/main.yml); tests/unit/test_stack_image_name.py compares
them. Called by `fleet rollback`, which asks the registry before a node does.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILES = ("Dockerfile", "check_vllm.py", "check_requirements.py", "check_transformers.py")


def of(values: Mapping[str, Any], roles: Path) -> str:
    """Return REGISTRY/NAME:TAG for a machine's role variables with their defaults; "" for a stack without a registry."""
    if not values["transformers_registry"]:
        return ""
    options = (
        values["transformers_processor"],
        " ".join(values["transformers_imports"]),
        values["transformers_pip_args"],
        values["transformers_user"],
    )
    parts = (
        str(values["transformers_base_image"]).rpartition("@")[2],
        values["transformers_base_vllm"],
        values["transformers_commit"],
        " ".join(map(str, options)),
        *((roles / "transformers" / "files" / name).read_text().rstrip() for name in FILES),
    )
    recipe = hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()
    return f"{values['transformers_registry']}:{values['transformers_commit'][:12]}-{recipe[:12]}"

"""Building blocks of a stack file's form: mappings without unknown keys, and the patterns of names, keys and URLs.

Needs nothing of the fleet. Used by stack.settings, the form.py of each source and, for messages, by stack.validation_errors.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

HOST_KEY = r"^(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|ssh-rsa) [A-Za-z0-9+/]{40,}={0,2}$"
SERVER = r"^https?://[^/\s]+(/[^\s?#]*)?$"
REGISTRY = r"^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._/-]+)?$"
FOLDER = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*/?$"
FILE = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$"
NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"

Name = Annotated[str, Field(pattern=NAME)]
Port = Annotated[int, Field(ge=1, le=65535)]
Gpus = Annotated[int, Field(ge=0, le=16)]


class Form(BaseModel):
    """A mapping that refuses unknown keys: a misspelled key is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

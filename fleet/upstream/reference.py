"""Grammar of image references, and the check that a token service belongs to a registry. Pure.

Called by registry. The role transformers has the same grammar in its reader, which runs on a node (roles/transformers/files/read.py); one
table of examples tests both: tests/support/image_references.py.
"""

import re
import urllib.parse

from fleet.validators import COMPONENT, HOST

NAME = rf"{COMPONENT}(?:/{COMPONENT})*"
TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
TAGGED = re.compile(rf"(?P<registry>{HOST})/(?P<name>{NAME}):(?P<tag>{TAG})")


def own_service(registry: str, realm: str) -> bool:
    """Return whether a token service belongs to the registry: https, and its host is the registry's, or in or at the same domain.

    So auth.docker.io belongs to registry-1.docker.io, and git.example to registry.git.example.
    """
    try:
        parts = urllib.parse.urlsplit(realm)
        host, registry_host = parts.hostname or "", urllib.parse.urlsplit(f"https://{registry}").hostname or ""
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme != "https" or not re.fullmatch(HOST, parts.netloc):
        return False
    if host == registry_host:
        return True
    domain = registry_host.partition(".")[2]
    address = re.fullmatch(r"[0-9.]+|.*:.*", registry_host)
    return not address and "." in domain and (host == domain or host.endswith(f".{domain}"))

"""The grammar of references of images, and which token service is a registry's own. Pure.

Called by registry.py. The role transformers has the same grammar in its reader, which runs on a node (roles/transformers/files/read.py); one
table of examples holds for both: tests/support/image_references.py.
"""

import re
import urllib.parse

DIGEST = r"sha256:[0-9a-f]{64}"
HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
NAME = rf"{COMPONENT}(?:/{COMPONENT})*"
TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
TAGGED = re.compile(rf"(?P<registry>{HOST})/(?P<name>{NAME}):(?P<tag>{TAG})")
PINNED = re.compile(rf"(?:{HOST}/)?{NAME}(?::{TAG})?@{DIGEST}")


def own_service(registry: str, realm: str) -> bool:
    """Return whether a token service is the registry's own: over https, on its host, or below or at the domain that its host is in.

    So auth.docker.io is registry-1.docker.io's, and git.example is registry.git.example's.
    """
    try:
        parts = urllib.parse.urlsplit(realm)
        host, ours = parts.hostname or "", urllib.parse.urlsplit(f"https://{registry}").hostname or ""
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme != "https" or not re.fullmatch(HOST, parts.netloc):
        return False
    if host == ours:
        return True
    domain = ours.partition(".")[2]
    address = re.fullmatch(r"[0-9.]+|.*:.*", ours)
    return not address and "." in domain and (host == domain or host.endswith(f".{domain}"))

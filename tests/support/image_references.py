"""Valid and invalid references, digests and hosts of images: one table for every reader of the grammar.

Used by the tests of roles/transformers/files/read.py (node) and fleet/upstream/reference.py (controller).
"""

HEX = "ab" * 32
TAGS = {
    "registry.example/glm/serving:v1": True,
    "registry.example:5000/glm:5f4cbd5e14bd-3fa2": True,
    "localhost:5000/glm:v1": True,
    "[2001:db8::1]:5000/glm:v1": True,
    "registry.example/glm--a/b__c.d:V_1.2-x": True,
    "registry.example/Glm:v1": False,
    "registry.example/glm": False,
    "registry.example/glm:": False,
    "registry.example/glm:-v1": False,
    "registry.example/glm:" + "v" * 129: False,
    "registry.example/../glm:v1": False,
    "registry.example//glm:v1": False,
    "registry.example/glm?x=:v1": False,
    "registry.example:port/glm:v1": False,
    "user@registry.example/glm:v1": False,
    "https://registry.example/glm:v1": False,
    "registry.example/glm:v1\n": False,
    "registry.example/glm:v1 --privileged": False,
    "{{ lookup('pipe', 'id') }}/glm:v1": False,
    "registry.example/{{ lookup('pipe', 'id') }}:v1": False,
}
# A registry's Docker-Content-Digest; every one but the first is refused.
DIGESTS = {
    f"sha256:{HEX}": True,
    "": False,
    f"sha256:{HEX.upper()}": False,
    f"sha256:{HEX[:-1]}": False,
    f"sha256:{HEX}0": False,
    f"sha512:{HEX}": False,
    f"sha256:{HEX} --privileged": False,
    f"{{{{ lookup('pipe', 'id') }}}}@sha256:{HEX}": False,
    f"{{{{ lookup('pipe', 'id') }}}}sha256:{HEX}": False,
    "<html>": False,
}
# Whether a realm may be a registry's token service, which gets the login.
REALMS = {
    ("registry.example:5000", "https://registry.example:5000/token"): True,
    ("registry.example:5000", "https://registry.example/token"): True,
    ("registry-1.docker.io", "https://auth.docker.io/token"): True,
    ("registry.git.example", "https://git.example/jwt/auth"): True,
    ("192.0.2.7:5000", "https://192.0.2.7:5001/token"): True,
    ("registry.example:5000", "http://registry.example:5000/token"): False,
    ("registry.example", "https://evil.example/token"): False,
    ("registry.git.example", "https://git.example.evil.test/token"): False,
    ("registry.git.example", "https://evilgit.example/token"): False,
    ("192.0.2.7:5000", "https://192.0.2.8/token"): False,
    ("registry.git.example", "https://git.example@evil.test/token"): False,
    ("registry.git.example", "https://user:word@git.example/token"): False,
    ("registry.git.example", "file:///etc/passwd"): False,
    ("registry.git.example", "https:///token"): False,
    ("registry.git.example", "https://git.example:port/token"): False,
    ("registry.git.example", ""): False,
}

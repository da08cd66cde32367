"""Read what the node and the registry have of the serving image, in one exec: JSON in, JSON out. Changes nothing.

In: {base, tag, registry, recipe_label, recipe, known, accepted}; `known` is the image of this recipe in the state, `accepted` a digest
that a user accepts instead. Out: {engine, error, folder, base: bool, image: "" or the reference to serve,
registry: "none" | "has it" | "has it not" | what is wrong, wanted, next}. Called by tasks/read.yml through `python3 -c`.

A registry's answers are not trusted: the reference has the digest under which Docker pushed or pulled the image, never the one that the
registry gives for a tag; digests, names and hosts must match their form; a login goes only to the registry and its own token service.
The request is plain HTTP: `docker manifest inspect` of Docker 20.10 finds no image that a newer one pushed (OCI).
"""

import http.client
import json
import pathlib
import re
import signal
import ssl
import subprocess
import sys
import typing
import urllib.error
import urllib.parse
import urllib.request

# Seconds that a call to Docker may take: a daemon that hangs never answers.
DOCKER = 60
# The grammar of references (distribution/reference); fleet/upstream/reference.py has the same: tests/support/image_references.py.
DIGEST = r"sha256:[0-9a-f]{64}"
HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
NAME = rf"{COMPONENT}(?:/{COMPONENT})*"
TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
TAGGED = re.compile(rf"(?P<host>{HOST})/(?P<name>{NAME}):(?P<tag>{TAG})")

MANIFESTS = ", ".join(
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]
)
SECONDS = 120  # for all requests to a registry
LARGEST = 1 << 16  # bytes of a token service's answer
HOPS = 3  # redirects


class Wrong(Exception):
    """A wrong answer of a registry: what is wrong, what is wanted, what to do next."""

    def __init__(self, said: str, wanted: str = "", todo: str = "") -> None:
        super().__init__(said)
        self.wanted, self.todo = wanted, todo


def plain(text: str) -> str:
    """Return a registry's text for a message: short, without characters that a terminal or a template interprets."""
    return re.sub(r"[^A-Za-z0-9 .,:;=/@+_-]", "?", text)[:120]


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["docker", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=DOCKER)
    except FileNotFoundError:
        return subprocess.CompletedProcess(arguments, 127, "", "docker is not installed")
    except subprocess.TimeoutExpired:
        sys.exit(
            f"`{' '.join(command)}` gave no answer within {DOCKER} s: the Docker daemon hangs\nwanted: a Docker daemon that answers\n"
            "next: `systemctl restart docker` on the node; where that hangs, too, reboot it"
        )


def local(tag: str) -> dict:
    found = docker("image", "inspect", tag)
    return json.loads(found.stdout)[0] if found.returncode == 0 else {}


def login(host: str) -> str:
    """Return the base64 login of `docker login` for this registry, or ""."""
    try:
        known = json.loads(pathlib.Path.home().joinpath(".docker", "config.json").read_text()).get("auths", {})
    except (OSError, ValueError):
        return ""
    return known.get(host, known.get(f"https://{host}", {})).get("auth", "")


def trust(host: str) -> ssl.SSLContext:
    """Return a TLS context with the system's certificates and Docker's for this registry, exactly as strict as Docker.

    Python 3.13 and later refuse CAs without the extension "key usage", which Docker accepts.
    """
    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    for file in sorted(pathlib.Path("/etc/docker/certs.d", host).glob("*.crt")):
        context.load_verify_locations(file)
    return context


class Stay(urllib.request.HTTPRedirectHandler):
    """Follow redirects only within the same origin, because the request's headers may have a login."""

    max_redirections = HOPS

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        ours, theirs = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc):
            raise Wrong(f"{code} from the registry, which sends us to {plain(theirs.scheme)}://{plain(theirs.netloc)}")
        return urllib.request.Request(
            newurl, headers=dict(req.header_items()), method=req.get_method(), origin_req_host=req.origin_req_host
        )


def ask(url: str, context: ssl.SSLContext, method: str, credential: str = "", accept: str = "") -> tuple:
    """Return status, headers and, for a GET, the body. Raises Wrong for too long a body."""
    headers = {"Accept": accept or "*/*"} | ({"Authorization": credential} if credential else {})
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), Stay)
    try:
        with opener.open(urllib.request.Request(url, headers=headers, method=method), timeout=30) as answer:
            body = answer.read(LARGEST + 1) if method == "GET" else b""
            if len(body) > LARGEST:
                raise Wrong(f"more than {LARGEST} bytes from its token service")
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, body
    except urllib.error.HTTPError as problem:
        with problem:
            return problem.code, {name.lower(): value for name, value in problem.headers.items()}, b""


def own_service(registry: str, realm: str) -> bool:
    """Return whether a token service belongs to the registry: over https, on its host, or in the parent domain of its host.

    auth.docker.io belongs to registry-1.docker.io, and git.example to registry.git.example.
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


def token(registry: str, challenge: str, basic: str, context: ssl.SSLContext) -> str:
    """Return the credential that `WWW-Authenticate` asks for: the login itself, or a token. Raises Wrong."""
    if challenge.lower().startswith("basic"):
        return f"Basic {basic}" if basic else ""
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = asked.get("realm", "")
    if not own_service(registry, realm):
        raise Wrong(
            f"401 from the registry, whose token service would be {plain(realm) or 'nowhere'}",
            "a token service of the registry's own domain, over https: the login goes there",
        )
    query = urllib.parse.urlencode({name: asked[name] for name in ("service", "scope") if name in asked})
    status, _, body = ask(f"{realm.partition('?')[0]}?{query}", context, "GET", f"Basic {basic}" if basic else "")
    try:
        answer = json.loads(body) if status == 200 else {}
    except (ValueError, RecursionError):
        answer = {}
    given = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else None
    if not isinstance(given, str) or not re.fullmatch(r"[!-~]+", given):
        raise Wrong(f"no token from {plain(realm)} ({status})", "a login that the registry takes", "")
    return f"Bearer {given}"


def in_registry(reference: str) -> tuple:
    """Return whether the registry has HOST/NAME:TAG, and its digest. Raises Wrong."""
    parts = TAGGED.fullmatch(reference)
    if not parts:
        raise Wrong(
            f"{plain(reference)} is no name of an image in a registry",
            "HOST[:PORT]/NAME in transformers_registry, NAME of small letters, digits and . _ - /",
            "correct transformers_registry",
        )
    registry = "registry-1.docker.io" if parts["host"] == "docker.io" else parts["host"]
    url = f"https://{registry}/v2/{parts['name']}/manifests/{parts['tag']}"
    signal.alarm(SECONDS)
    try:
        context = trust(parts["host"])
        status, headers, _ = ask(url, context, "HEAD", accept=MANIFESTS)
        if status == 401 and (
            credential := token(registry, headers.get("www-authenticate", ""), login(parts["host"]), context)
        ):
            status, headers, _ = ask(url, context, "HEAD", credential, MANIFESTS)
    except Wrong as problem:
        raise Wrong(f"{url}: {problem}", problem.wanted, problem.todo) from None
    except (OSError, http.client.HTTPException, ValueError) as problem:
        raise Wrong(f"{url}: {plain(str(getattr(problem, 'reason', problem)))}") from None
    finally:
        signal.alarm(0)
    if status == 404:
        return False, ""
    if status != 200:
        raise Wrong(f"{url}: {status} from the registry")
    digest = headers.get("docker-content-digest", "")
    if not re.fullmatch(DIGEST, digest):
        kind = plain(headers.get("content-type", "no type"))
        said = f"the digest {plain(digest)}" if digest else f"no digest ({kind})"
        raise Wrong(
            f"{url}: 200 from the registry with {said}", "the header Docker-Content-Digest: sha256:<64 hex digits>"
        )
    return True, digest


def own_digests(image: dict, registry: str) -> set:
    """Return the digests under which Docker pushed or pulled an image there. Docker omits docker.io in a name."""
    names = {registry, registry.removeprefix("docker.io/"), registry.removeprefix("docker.io/library/")}
    parts = (one.rpartition("@") for one in image.get("RepoDigests") or [])
    return {digest for name, _, digest in parts if name in names and re.fullmatch(DIGEST, digest)}


def judge(digest: str, here: set, known: str, accepted: str) -> None:
    """Raise Wrong if the registry has another image for this recipe than the expected one."""
    if digest == accepted:
        return
    before = known.rpartition("@")[2]
    if known and digest != before:
        said, wanted = f"its tag is {digest} now", f"{before}, which the state has of the same recipe"
    elif not known and here and digest not in here:
        said, wanted = f"its tag is {digest}", f"{', '.join(sorted(here))}, which this node pushed or pulled for it"
    else:
        return
    raise Wrong(
        said,
        wanted,
        "find out who pushed to this tag; push the right image there again, or take the other one on purpose with\n"
        f"`transformers_accepted_digest: {digest}` in the stack file",
    )


def look(query: dict) -> dict:
    """Return the image's state, for a Docker daemon that answers."""
    seen: dict = {"base": bool(local(query["base"])), "registry": "none", "image": "", "wanted": "", "next": ""}
    image = local(query["tag"])
    ours = ((image.get("Config") or {}).get("Labels") or {}).get(query["recipe_label"]) == query["recipe"]
    if not query["registry"]:
        return {**seen, "image": image["Id"] if ours and re.fullmatch(DIGEST, image["Id"]) else ""}
    here = own_digests(image, query["registry"]) if ours else set()
    try:
        there, digest = in_registry(query["tag"])
        if there:
            known = query["known"] if query["known"].startswith(f"{query['registry']}@") else ""
            judge(digest, here, known, query["accepted"])
    except Wrong as problem:
        return {**seen, "registry": str(problem), "wanted": problem.wanted, "next": problem.todo}
    if not there:
        return {**seen, "registry": "has it not", "image": image["Id"] if ours else ""}
    return {**seen, "registry": "has it", "image": f"{query['registry']}@{digest}" if digest in here else ""}


def too_long(*_: object) -> typing.NoReturn:
    raise TimeoutError(f"no whole answer within {SECONDS} s")


def main() -> None:
    query = json.load(sys.stdin)
    signal.signal(signal.SIGALRM, too_long)
    version = docker("version", "--format", "{{.Server.Version}}")
    seen = {
        "engine": version.stdout.strip(),
        "error": version.stderr.strip(),
        "folder": pathlib.Path("/var/lib/fleet/transformers").is_dir(),
        "base": False,
        "image": "",
        "registry": "none",
        "wanted": "",
        "next": "",
    }
    if version.returncode == 0:
        seen.update(look(query))
    print(json.dumps(seen))


if __name__ == "__main__":
    main()

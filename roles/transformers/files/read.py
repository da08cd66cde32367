"""What node and registry have of the serving image, in one exec: JSON in, JSON out, nothing changed.

In: {base, tag, registry, recipe_label, recipe}. Out: {engine, error, folder, base: bool, image: "" or the reference to serve,
registry: "none" | "has it" | "has it not" | the error's text}. Called by tasks/read.yml through `python3 -c`.
The registry is asked over HTTP: `docker manifest inspect` of Engine 20.10 says "no such manifest" of an image that a newer one pushed (OCI).
"""

import json
import pathlib
import re
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

# Seconds that a call to Docker may take: a daemon that hangs gives no answer for ever.
DOCKER = 60
MANIFESTS = ", ".join(
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]
)


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
    """The base64 login that `docker login` left on the host for this registry, or nothing."""
    try:
        known = json.loads(pathlib.Path.home().joinpath(".docker", "config.json").read_text()).get("auths", {})
    except (OSError, ValueError):
        return ""
    return known.get(host, known.get(f"https://{host}", {})).get("auth", "")


def trust(host: str) -> ssl.SSLContext:
    """The system's certificates, and those that the engine uses for this registry; as strict as the engine is, no more.

    Python 3.13 and later refuse authorities without the extension "key usage", which Go, and so the engine, takes.
    """
    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    for file in sorted(pathlib.Path("/etc/docker/certs.d", host).glob("*.crt")):
        context.load_verify_locations(file)
    return context


def head(url: str, context: ssl.SSLContext, credential: str = "") -> tuple[int, dict[str, str]]:
    headers = {"Accept": MANIFESTS} | ({"Authorization": credential} if credential else {})
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers, method="HEAD"), timeout=30, context=context
        ) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as problem:
        with problem:
            return problem.code, {name.lower(): value for name, value in problem.headers.items()}


def token(challenge: str, basic: str, context: ssl.SSLContext) -> str:
    """The credential that the registry asks for in `WWW-Authenticate`: the login itself, or a token that it is given for."""
    if challenge.lower().startswith("basic"):
        return f"Basic {basic}" if basic else ""
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    query = urllib.parse.urlencode({name: asked[name] for name in ("service", "scope") if name in asked})
    request = urllib.request.Request(
        f"{asked.get('realm', '')}?{query}", headers={"Authorization": f"Basic {basic}"} if basic else {}
    )
    with urllib.request.urlopen(request, timeout=30, context=context) as answer:
        given = json.load(answer)
    return f"Bearer {given.get('token') or given.get('access_token')}"


def in_registry(reference: str) -> tuple[str, str]:
    """Return what the registry says of REPOSITORY:TAG, and the digest when it has it."""
    host, _, rest = reference.partition("/")
    name, _, tag = rest.rpartition(":")
    url = f"https://{'registry-1.docker.io' if host == 'docker.io' else host}/v2/{name}/manifests/{tag}"
    try:
        context = trust(host)
        status, headers = head(url, context)
        if status == 401 and (credential := token(headers.get("www-authenticate", ""), login(host), context)):
            status, headers = head(url, context, credential)
    except (OSError, ValueError) as problem:
        return f"{url}: {getattr(problem, 'reason', problem)}", ""
    if status == 200:
        return "has it", headers.get("docker-content-digest", "")
    return ("has it not" if status == 404 else f"{url}: {status} from the registry"), ""


query = json.load(sys.stdin)
version = docker("version", "--format", "{{.Server.Version}}")
seen = {
    "engine": version.stdout.strip(),
    "error": version.stderr.strip(),
    "folder": pathlib.Path("/var/lib/fleet/transformers").is_dir(),
    "base": False,
    "image": "",
    "registry": "none",
}
if version.returncode == 0:
    seen["base"] = bool(local(query["base"]))
    digest = ""
    if query["registry"]:
        seen["registry"], digest = in_registry(query["tag"])
    image = local(query["tag"])
    labels = image.get("Config", {}).get("Labels") or {}
    if labels.get(query["recipe_label"]) == query["recipe"]:
        seen["image"] = f"{query['registry']}@{digest}" if digest else image["Id"]
print(json.dumps(seen))

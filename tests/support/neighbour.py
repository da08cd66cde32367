"""What a neighbour on a lab's network can reach of a node: its ports, and addresses behind it to which the neighbour sets a route.

The neighbour is a container that may change its routes. Needs a lab that is up. Called by the tests of roles and of the matrix.
"""

import json

from lab.commands import docker

# Behind a node: the bridge of its Docker daemon, where sshd answers too, which proves the route; and the first containers on it.
BRIDGE = "172.17.0.1"
BEHIND = [BRIDGE, *(f"172.17.0.{host}" for host in range(2, 6))]
# Those of a vLLM server, of torch.distributed and of both proxies are among them.
PORTS = [22, 80, 443, *range(8000, 8010), 8080, 8405, 8406, 8443, 8444, 29400, 29500, 29501]
SCRIPT = """
import json, select, socket, subprocess, sys, time
node, behind, ports = json.loads(sys.argv[1])
for address in behind:
    subprocess.run(["ip", "route", "replace", f"{address}/32", "via", node], check=True)
def begin(address, port):
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex((address, port))
    return client
def reaches(address, port):
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex((address, port)) == 0
clients = {f"{address}:{port}": begin(address, port) for address in behind for port in ports}  # most get no answer at all
open_ports = [f"{node}:{port}" for port in range(1, 65536) if reaches(node, port)]  # a closed port refuses at once
time.sleep(2)
open_ports += [name for name, client in clients.items() if select.select([], [client], [], 0)[1] and client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0]
print(json.dumps(open_ports))
"""


def reaches(lab: str, container: str, address: str) -> list[str]:
    """Return each ADDRESS:PORT that takes a connection: of the node's 65,535 ports, and behind it. `container` is any of the lab's nodes."""
    image = docker("inspect", "--format={{.Image}}", container).strip()
    options = ("--rm", f"--network={lab}", "--cap-add=NET_ADMIN", "--entrypoint=python3")
    return list(json.loads(docker("run", *options, image, "-c", SCRIPT, json.dumps([address, BEHIND, PORTS]))))

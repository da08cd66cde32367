"""What a neighbour on a lab's network can reach of a node: its ports, and addresses behind it to which the neighbour sets a route.

A container of its own, which may change its routes; needs a standing lab. Called by the tests of roles and of the matrix.
"""

import json

from lab.commands import docker

# Behind a node: the bridge of its engine, where sshd answers too, which shows that the route leads there; and the first containers on it.
BRIDGE = "172.17.0.1"
BEHIND = [BRIDGE, *(f"172.17.0.{host}" for host in range(2, 6))]
# Of a server and of torch.distributed among them.
PORTS = [22, 80, 443, *range(8000, 8010), 8080, 29400, 29500, 29501]
SCRIPT = """
import asyncio, json, subprocess, sys
node, behind, ports = json.loads(sys.argv[1])
for address in behind:
    subprocess.run(["ip", "route", "replace", f"{address}/32", "via", node], check=True)
async def try_one(gate, address, port):
    async with gate:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 10)
        except (OSError, asyncio.TimeoutError):
            return ""
        writer.close()
        return f"{address}:{port}"
async def main():
    gate = asyncio.Semaphore(200)
    wanted = [(node, port) for port in range(1, 65536)] + [(address, port) for address in behind for port in ports]
    print(json.dumps([one for one in await asyncio.gather(*(try_one(gate, *one) for one in wanted)) if one]))
asyncio.run(main())
"""


def reaches(lab: str, container: str, address: str) -> list[str]:
    """Return each ADDRESS:PORT that takes a connection: of the node's 65,535 ports, and behind it. `container` is any of the lab's nodes."""
    image = docker("inspect", "--format={{.Image}}", container).strip()
    asked = json.dumps([address, BEHIND, PORTS])
    return list(
        json.loads(
            docker(
                "run",
                "--rm",
                f"--network={lab}",
                "--cap-add=NET_ADMIN",
                "--entrypoint=python3",
                image,
                "-c",
                SCRIPT,
                asked,
            )
        )
    )

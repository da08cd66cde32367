"""Machines that DigitalOcean makes, or AMD's Developer Cloud, which has the same API: droplets behind one firewall a pool.

Needs pulumi-digitalocean and its token (`pulumi config set --secret digitalocean:token`, or DIGITALOCEAN_TOKEN): a setting of that
plugin, never one of ours. Used by stacks whose source is `digitalocean`.
"""

import difflib
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pulumi
import pulumi_digitalocean as digitalocean

from fleet import errors
from fleet.resources import Machine
from fleet.sources import cloud_machines
from fleet.sources.digitalocean.form import Nodes
from fleet.sources.request import Request

SIZES = "digitalocean:index/getSizes:getSizes"
EVERYWHERE = ["0.0.0.0/0", "::/0"]
REFUSALS = (
    cloud_machines.Refusal(
        r"\b401\b|unable to authenticate|\b403\b|not authorized",
        seen="the cloud does not take the token",
        wanted="a token that may make droplets, tags, keys and firewalls",
        next="`pulumi config set --secret digitalocean:token`, or DIGITALOCEAN_TOKEN; one of AMD's cloud where `endpoint` is AMD's",
    ),
    cloud_machines.Refusal(
        r"exceed your (droplet|account) limit|droplet limit",
        seen="the account may have no more droplets of this size",
        wanted="a higher limit",
        next="ask for it in the control panel (Settings, Resource limits)",
    ),
    cloud_machines.Refusal(
        r"(currently|temporarily) (un|not )available|out of capacity|no capacity|size is not available in this region",
        seen="the region has no machine of this size left",
        wanted="capacity",
        next="another region or size in the stack file, or `pulumi up` later: it goes on where it stopped",
    ),
    cloud_machines.Refusal(
        r"ssh key is already in use",
        seen="the account has one of the pool's keys already",
        wanted="each key once in an account",
        next="`doctl compute ssh-key list`, and the fingerprint as `account_keys`",
    ),
)


def supply(pool: Nodes, request: Request) -> Mapping[str, Machine]:
    """Make the firewall, then the droplets behind it. A droplet is never seen by those whom the firewall shuts out."""
    if not request.present:
        return {}
    provider = _provider(pool)
    own = pulumi.ResourceOptions(provider=provider, protect=bool(request.protected & {*request.present}))
    tag = digitalocean.Tag(pool.label, name=f"glm-fleet:{request.stack}:{pool.label}", opts=own)
    # By tag and before the droplets: one that were added to a firewall later would be open to all until then.
    firewall = digitalocean.Firewall(
        pool.label,
        name=f"glm-fleet-{request.stack}-{pool.label}",
        tags=[tag.name],
        inbound_rules=[
            digitalocean.FirewallInboundRuleArgs(protocol="tcp", port_range="22", source_addresses=pool.ssh_from)
        ],
        outbound_rules=[
            digitalocean.FirewallOutboundRuleArgs(protocol=protocol, port_range=ports, destination_addresses=EVERYWHERE)
            for protocol, ports in (("tcp", "1-65535"), ("udp", "1-65535"), ("icmp", None))
        ],
        opts=own,
    )
    keys: Sequence[pulumi.Input[str]] = pool.account_keys or [
        digitalocean.SshKey(
            f"{pool.label}-{place}",
            name=f"glm-fleet-{request.stack}-{place}",
            public_key=key,
            opts=pulumi.ResourceOptions(provider=provider),
        ).fingerprint
        for place, key in enumerate(pool.keys)
    ]
    pairs = cloud_machines.host_keys(request.present, request.fleet, request.protected)
    made = {}
    for name in request.present:
        of = cloud_machines.made_of(pool, pool.of(name, "image"))
        droplet = digitalocean.Droplet(
            name,
            name=name,
            region=pool.of(name, "region"),
            size=pool.of(name, "size"),
            image=pool.of(name, "image"),
            vpc_uuid=pool.vpc,
            ssh_keys=keys,  # none would make the cloud mail a root password
            user_data=cloud_machines.user_data(pool, pairs[name]),
            tags=[tag.name, *(f"{part}:{digest}" for part, digest in of.items())],
            ipv6=False,
            monitoring=False,
            droplet_agent=False,  # it would open a console through SSH
            opts=pulumi.ResourceOptions(
                provider=provider,
                depends_on=[firewall],
                protect=name in request.protected,
                delete_before_replace=True,  # the quota may be for one
                additional_secret_outputs=["userData"],
                # The cloud makes another droplet of a change of each of these, and reads an image back as a name. What they should
                # be is compared with the tags instead, which tell what the machine was made of.
                ignore_changes=["userData", "image", "sshKeys", "tags"],
                hooks=cloud_machines.hooks(name, REFUSALS, _possible(pool, name, provider)),
            ),
        )
        cloud_machines.compare("Droplet", name, of, droplet.tags.apply(_pairs), request.stack)
        made[name] = Machine(
            cloud_machines.reach(pool, name, droplet.ipv4_address, pairs[name]), droplet, pool.place(name)
        )
    return made


def _provider(pool: Nodes) -> digitalocean.Provider | None:
    """Return a provider with the pool's endpoint; without one the stack's own settings of digitalocean hold, as for any program."""
    if pool.endpoint is None:
        return None
    token = pulumi.Config("digitalocean").get_secret("token")
    return digitalocean.Provider(pool.label, api_endpoint=pool.endpoint, token=token)


def _possible(pool: Nodes, name: str, provider: digitalocean.Provider | None) -> Callable[[], Awaitable[None]]:
    """Return what asks the cloud which sizes there are, and raises where the machine's is none, or not to be had in its region."""

    async def ask() -> None:
        told = await cloud_machines.call("pulumi-digitalocean", SIZES, {}, provider)
        if told:
            judge(pool, name, {size["slug"]: size["regions"] if size["available"] else () for size in told["sizes"]})

    return ask


def judge(pool: Nodes, name: str, sizes: Mapping[str, Sequence[str]]) -> None:
    """Raise FleetError where the machine's size is not one of `sizes`, or its region none of those where it can be had now."""
    size, region = pool.size_of(name), str(pool.of(name, "region"))
    if size not in sizes:
        near = next(iter(difflib.get_close_matches(size, sizes, n=1)), "")
        raise errors.FleetError(
            node=name,
            doing=cloud_machines.MADE,
            seen=f"the cloud has no size {size}",
            wanted="one of `doctl compute size list`",
            next=f"did you mean {near}?" if near else "put one into the stack file",
        )
    if region not in sizes[size]:
        where = ", ".join(sizes[size])
        raise errors.FleetError(
            node=name,
            doing=cloud_machines.MADE,
            seen=f"{size} cannot be had in {region} now",
            wanted=f"a region where it can: {where}" if where else "a region where it can: now there is none",
            next="another region or size in the stack file, or the same again later",
        )


def _pairs(tags: Sequence[str] | None) -> dict[str, str]:
    return dict(tag.split(":", 1) for tag in tags or () if ":" in tag)

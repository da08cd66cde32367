"""Creates droplets in DigitalOcean, or in AMD's Developer Cloud, which has the same API: behind one firewall a pool.

Needs pulumi-digitalocean and its token (`pulumi config set --secret digitalocean:token`, or DIGITALOCEAN_TOKEN), a setting of that
plugin, not of ours. Called by fleet.program.machines for stacks whose source is `digitalocean`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import pulumi
import pulumi_digitalocean as digitalocean

from fleet import errors
from fleet.resources import HostKey, Inside, Machine
from fleet.sources import cloud_machines
from fleet.sources.digitalocean.form import Nodes
from fleet.sources.request import Opening, Request

SIZES = "digitalocean:index/getSizes:getSizes"
EVERYWHERE = ["0.0.0.0/0", "::/0"]
REFUSALS = (
    cloud_machines.Refusal(
        r"\b401\b|unable to authenticate|\b403\b|not authorized",
        seen="the cloud does not accept the token",
        wanted="a token that may create droplets, tags, keys and firewalls",
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
    """Create the firewall, then the droplets behind it: no droplet is ever reachable without the firewall."""
    if not request.present:
        return {}
    provider = _provider(pool)
    own = pulumi.ResourceOptions(provider=provider, protect=bool(request.protected & {*request.present}))
    tag = digitalocean.Tag(pool.label, name=f"glm-fleet:{request.stack}:{pool.label}", opts=own)
    # By tag and before the droplets: a droplet that joins a firewall later is open to all until then.
    firewall = digitalocean.Firewall(
        pool.label,
        name=f"glm-fleet-{request.stack}-{pool.label}",
        tags=[tag.name],
        inbound_rules=[
            digitalocean.FirewallInboundRuleArgs(protocol="tcp", port_range="22", source_addresses=pool.ssh_from),
            *(_rule(opening, tag.name) for opening in request.openings if not opening.on),
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
            public_key=public,
            opts=pulumi.ResourceOptions(provider=provider),
        ).fingerprint
        for place, public in enumerate(pool.keys)
    ]
    machines = {}
    for name in request.present:
        key = HostKey(name, request.fleet, name in request.protected)
        tags = cloud_machines.creation_tags(pool, pool.setting(name, "image"))
        droplet = digitalocean.Droplet(
            name,
            name=name,
            region=pool.setting(name, "region"),
            size=pool.setting(name, "size"),
            image=pool.setting(name, "image"),
            vpc_uuid=pool.vpc,
            ssh_keys=keys,  # without keys the cloud mails a root password
            user_data=cloud_machines.user_data(pool, key),
            tags=[tag.name, *(f"{part}:{digest}" for part, digest in tags.items())],
            ipv6=False,
            monitoring=False,
            droplet_agent=False,  # the agent opens a console through SSH
            opts=pulumi.ResourceOptions(
                provider=provider,
                depends_on=[firewall],
                protect=name in request.protected,
                delete_before_replace=True,  # the quota may be for one
                additional_secret_outputs=["userData"],
                # A change of any of these replaces the droplet, and the cloud reads an image back as a name. Instead warn_of_changes
                # compares the stack's values with the tags, which hold digests of the values at creation.
                ignore_changes=["userData", "image", "sshKeys", "tags"],
                hooks=cloud_machines.hooks(name, REFUSALS, _check(pool, name, provider)),
            ),
        )
        cloud_machines.warn_of_changes("Droplet", name, tags, droplet.tags.apply(_pairs), request.stack)
        if rules := [_rule(opening, tag.name) for opening in request.openings if name in opening.on]:
            _own_firewall(request.stack, f"{pool.label}-{name}", droplet, rules, provider)
        inputs = cloud_machines.node_inputs(pool, name, droplet.ipv4_address, key)
        machines[name] = Machine(inputs, droplet, pool.place(name), inside=_inside(pool, name, droplet))
    return machines


def _rule(opening: Opening, tag: pulumi.Output[str]) -> digitalocean.FirewallInboundRuleArgs:
    """Return the rule that opens a port, to the pool's own droplets by their tag."""
    return digitalocean.FirewallInboundRuleArgs(
        protocol="tcp",
        port_range=str(opening.port),
        source_addresses=list(opening.sources) or None,
        source_tags=[tag] if opening.inside else None,
    )


def _own_firewall(
    stack: str,
    name: str,
    droplet: digitalocean.Droplet,
    rules: Sequence[digitalocean.FirewallInboundRuleArgs],
    provider: digitalocean.Provider | None,
) -> None:
    """Create one more firewall for a droplet. The cloud adds up the rules of all; this one opens more than the pool's, so it may come later."""
    digitalocean.Firewall(
        name,
        name=f"glm-fleet-{stack}-{name}",
        droplet_ids=[droplet.id.apply(int)],
        inbound_rules=rules,
        # Not protected: a machine that is no gateway any longer loses it.
        opts=pulumi.ResourceOptions(provider=provider, protect=False),
    )


def _inside(pool: Nodes, name: str, droplet: digitalocean.Droplet) -> Inside:
    """Return the droplet's private network: a region has its own. Without an address there, it is the public one."""
    address = pulumi.Output.all(droplet.ipv4_address_private, droplet.ipv4_address).apply(
        lambda pair: pair[0] or pair[1]
    )
    return Inside(f"{pool.label}/{pool.setting(name, 'region')}", address)


def _provider(pool: Nodes) -> digitalocean.Provider | None:
    """Return a provider with the pool's endpoint; None for the default provider with the stack's settings of digitalocean."""
    if pool.endpoint is None:
        return None
    token = pulumi.Config("digitalocean").get_secret("token")
    return digitalocean.Provider(pool.label, api_endpoint=pool.endpoint, token=token)


def _check(pool: Nodes, name: str, provider: digitalocean.Provider | None) -> Callable[[], Awaitable[None]]:
    """Return a function that asks the cloud for its sizes, and raises FleetError where the machine's is not available."""

    async def check() -> None:
        answer = await cloud_machines.call("pulumi-digitalocean", SIZES, {}, provider)
        if answer:
            regions = {size["slug"]: size["regions"] if size["available"] else () for size in answer["sizes"]}
            require_size(pool, name, regions)

    return check


def require_size(pool: Nodes, name: str, sizes: Mapping[str, Sequence[str]]) -> None:
    """Raise FleetError where the machine's size is not in `sizes` (regions by size), or not available in its region."""
    size, region = pool.size_of(name), str(pool.setting(name, "region"))
    if size not in sizes:
        raise errors.FleetError(
            node=name,
            doing=cloud_machines.DOING,
            seen=f"the cloud has no size {size}",
            wanted="one of `doctl compute size list`",
            next=errors.did_you_mean(size, sizes, "put one into the stack file"),
        )
    if region not in sizes[size]:
        regions = ", ".join(sizes[size])
        raise errors.FleetError(
            node=name,
            doing=cloud_machines.DOING,
            seen=f"{size} is not available in {region} now",
            wanted=f"a region where it is: {regions}" if regions else "a region where it is: now there is none",
            next="another region or size in the stack file, or the same again later",
        )


def _pairs(tags: Sequence[str] | None) -> dict[str, str]:
    return dict(tag.split(":", 1) for tag in tags or () if ":" in tag)

"""Creates instances in Oracle's cloud: a network a pool, with subnet and security group.

Needs pulumi-oci and its credentials (`~/.oci/config`, or `pulumi config set oci:…`), which are settings of that plugin, not of ours.
Called by fleet.program.machines for stacks whose source is `oci`.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pulumi
from pulumi_oci import core

from fleet import errors
from fleet.resources import HostKey, Inside, Machine
from fleet.sources import cloud_machines
from fleet.sources.oci.form import Nodes
from fleet.sources.request import Opening, Request

EVERYWHERE, TCP, ICMP = "0.0.0.0/0", "6", "1"
DOMAINS = "oci:Identity/getAvailabilityDomains:getAvailabilityDomains"
AVAILABILITY = "oci:Limits/getResourceAvailability:getResourceAvailability"
LIMIT = "gpu-mi300x-count"  # of GPUs, in one availability domain
REFUSALS = (
    cloud_machines.Refusal(
        r"NotAuthenticated|can not create client|bad configuration|NotAuthorizedOrNotFound|did not find a proper configuration",
        seen="the cloud does not accept the credentials, or they may not see the compartment",
        wanted="a user who may create instances and networks in the compartment",
        next="`oci session validate`, ~/.oci/config, or `pulumi config set oci:tenancyOcid …`",
    ),
    cloud_machines.Refusal(
        r"LimitExceeded|QuotaExceeded|service limits? w(as|ere) exceeded",
        seen="the limits of the tenancy have no room for this shape",
        wanted=f"{LIMIT} in this availability domain",
        next="ask for it in the console (Governance, Limits)",
    ),
    cloud_machines.Refusal(
        r"out of (host )?capacity",
        seen="the availability domain has no machine of this shape left",
        wanted="capacity",
        next="another availability domain in the stack file, or `pulumi up` later: it goes on where it stopped",
    ),
)


def supply(pool: Nodes, request: Request) -> Mapping[str, Machine]:
    """Create the network, which admits SSH from the ranges `ssh_from` and what the request opens, then the machines in it."""
    if not request.present:
        return {}
    own = pulumi.ResourceOptions(protect=bool(request.protected & {*request.present}))
    vcn = core.Vcn(
        pool.label,
        compartment_id=pool.compartment,
        display_name=f"glm-fleet-{request.stack}-{pool.label}",
        cidr_blocks=[pool.network],
        opts=own,
    )
    subnet = _subnet(pool, vcn.id, own)
    group, rules = _security_group(pool, vcn.id, [opening for opening in request.openings if not opening.on], own)
    gateways = _gateway_group(pool, vcn.id, [opening for opening in request.openings if opening.on])
    machines = {}
    for name in request.present:
        tags = cloud_machines.creation_tags(pool, pool.setting(name, "image"))
        protect = name in request.protected
        key = HostKey(name, request.fleet, protect)
        groups = [group.id, *(gateways if any(name in opening.on for opening in request.openings) else [])]
        instance = _instance(pool, name, subnet.id, groups, rules, key, tags, protect)
        current = instance.freeform_tags.apply(lambda tags: tags or {})
        cloud_machines.warn_of_changes("Instance", name, tags, current, request.stack)
        inputs = cloud_machines.node_inputs(pool, name, instance.public_ip, key)
        inside = Inside(pool.label, instance.private_ip, only=True)
        machines[name] = Machine(inputs, instance, pool.place(name), inside=inside)
    return machines


def _subnet(pool: Nodes, vcn: pulumi.Output[str], own: pulumi.ResourceOptions) -> core.Subnet:
    """Create the subnet with a route to the internet. Its list of rules is empty: the network's default list admits SSH from everywhere."""
    shared: dict[str, Any] = {"compartment_id": pool.compartment, "vcn_id": vcn, "opts": own}
    gateway = core.InternetGateway(pool.label, **shared)
    route = core.RouteTableRouteRuleArgs(
        destination=EVERYWHERE, destination_type="CIDR_BLOCK", network_entity_id=gateway.id
    )
    routes = core.RouteTable(pool.label, route_rules=[route], **shared)
    empty_list = core.SecurityList(pool.label, ingress_security_rules=[], egress_security_rules=[], **shared)
    return core.Subnet(
        pool.label,
        cidr_block=pool.network,
        route_table_id=routes.id,
        security_list_ids=[empty_list.id],
        **shared,
    )


def _security_group(
    pool: Nodes, vcn: pulumi.Output[str], openings: Sequence[Opening], own: pulumi.ResourceOptions
) -> tuple[core.NetworkSecurityGroup, list[pulumi.Resource]]:
    """Create the security group and its rules; instances depend on the rules."""
    group = core.NetworkSecurityGroup(pool.label, compartment_id=pool.compartment, vcn_id=vcn, opts=own)
    # A change replaces a rule, which protection would forbid.
    shared = {"network_security_group_id": group.id, "opts": pulumi.ResourceOptions(protect=False)}
    rules = [
        rule
        for opening in (Opening("ssh", 22, sources=pool.ssh_from), *openings)
        for rule in _open(pool, group.id, opening)
    ]
    rules += [
        # "Fragmentation needed": packets have 9000 bytes here and 1500 elsewhere; without this message long transfers hang.
        core.NetworkSecurityGroupSecurityRule(
            f"{pool.label}-path-mtu",
            direction="INGRESS",
            protocol=ICMP,
            source=EVERYWHERE,
            source_type="CIDR_BLOCK",
            icmp_options=core.NetworkSecurityGroupSecurityRuleIcmpOptionsArgs(type=3, code=4),
            **shared,
        ),
        core.NetworkSecurityGroupSecurityRule(
            f"{pool.label}-out",
            direction="EGRESS",
            protocol="all",
            destination=EVERYWHERE,
            destination_type="CIDR_BLOCK",
            **shared,
        ),
    ]
    return group, rules


def _gateway_group(pool: Nodes, vcn: pulumi.Output[str], openings: Sequence[Opening]) -> list[pulumi.Output[str]]:
    """Create the security group of the instances on which more is open than on all; none where nothing is."""
    if not openings:
        return []
    # Not protected: a pool without a gateway needs none.
    group = core.NetworkSecurityGroup(f"{pool.label}-gateways", compartment_id=pool.compartment, vcn_id=vcn)
    for opening in openings:
        _open(pool, group.id, opening)
    return [group.id]


def _open(pool: Nodes, group: pulumi.Output[str], opening: Opening) -> list[pulumi.Resource]:
    """Create the rules of a security group that open a port, to the pool's own machines by that group."""
    port = core.NetworkSecurityGroupSecurityRuleTcpOptionsDestinationPortRangeArgs(min=opening.port, max=opening.port)
    sources: list[tuple[str, str, pulumi.Input[str]]] = [
        *([("inside", "NETWORK_SECURITY_GROUP", group)] if opening.inside else []),
        *((str(place), "CIDR_BLOCK", source) for place, source in enumerate(opening.sources)),
    ]
    return [
        core.NetworkSecurityGroupSecurityRule(
            f"{pool.label}-{opening.name}-{part}",
            network_security_group_id=group,
            direction="INGRESS",
            protocol=TCP,
            source=source,
            source_type=kind,
            tcp_options=core.NetworkSecurityGroupSecurityRuleTcpOptionsArgs(destination_port_range=port),
            opts=pulumi.ResourceOptions(protect=False),
        )
        for part, kind, source in sources
    ]


def _instance(
    pool: Nodes,
    name: str,
    subnet: pulumi.Output[str],
    groups: Sequence[pulumi.Output[str]],
    rules: Sequence[pulumi.Resource],
    key: HostKey,
    tags: Mapping[str, str],
    protect: bool,
) -> core.Instance:
    """Create the instance itself."""
    disk = pool.setting(name, "disk_gb")
    data = cloud_machines.user_data(pool, key).apply(lambda text: base64.b64encode(text.encode()).decode())
    return core.Instance(
        name,
        display_name=name,
        compartment_id=pool.compartment,
        availability_domain=pool.setting(name, "availability_domain"),
        shape=pool.size_of(name),
        source_details=core.InstanceSourceDetailsArgs(
            source_type="image",
            source_id=pool.setting(name, "image"),
            boot_volume_size_in_gbs=str(disk) if disk else None,
        ),
        create_vnic_details=core.InstanceCreateVnicDetailsArgs(
            subnet_id=subnet, nsg_ids=list(groups), assign_public_ip="true", hostname_label=name
        ),
        metadata={"ssh_authorized_keys": "\n".join(pool.keys), "user_data": data},
        # Programs on the machine can read the user data, but only with a header, which a program tricked into fetching a URL does not send.
        instance_options=core.InstanceInstanceOptionsArgs(are_legacy_imds_endpoints_disabled=True),
        freeform_tags=dict(tags),
        opts=pulumi.ResourceOptions(
            protect=protect,
            delete_before_replace=True,  # the quota may be for one
            depends_on=list(rules),
            # A change of the image replaces the instance; one of keys and user data is refused. Instead warn_of_changes compares the stack's
            # values with the tags, which hold digests of the values at creation.
            ignore_changes=["metadata", "sourceDetails", "freeformTags"],
            hooks=cloud_machines.hooks(name, REFUSALS, _check(pool, name)),
        ),
    )


def _check(pool: Nodes, name: str) -> Callable[[], Awaitable[None]]:
    """Return a function that asks the cloud for availability domains and the GPU limit; FleetError where the machine does not fit."""

    async def check() -> None:
        domain = str(pool.setting(name, "availability_domain"))
        answer = await cloud_machines.call("pulumi-oci", DOMAINS, {"compartmentId": pool.compartment})
        gpus = None
        if "MI300X" in pool.size_of(name):
            place = {"compartmentId": pool.compartment, "availabilityDomain": domain}
            limit = {"serviceName": "compute", "limitName": LIMIT, **place}
            request = cloud_machines.call("pulumi-oci", AVAILABILITY, limit)
            # A user who may create instances may lack the right to read limits: without an answer the check is left out.
            availability: Any = (await asyncio.gather(request, return_exceptions=True))[0]
            gpus = float(availability["available"]) if isinstance(availability, Mapping) and availability else None
        if answer:
            require_capacity(pool, name, [domain["name"] for domain in answer["availabilityDomains"]], gpus)

    return check


def require_capacity(pool: Nodes, name: str, domains: Sequence[str], gpus: float | None) -> None:
    """Raise FleetError where `domains` lacks the machine's availability domain, or fewer `gpus` are left there than it needs."""
    domain = str(pool.setting(name, "availability_domain"))
    if domain not in domains:
        raise errors.FleetError(
            node=name,
            doing=cloud_machines.DOING,
            seen=f"the region has no availability domain {domain}",
            wanted=", ".join(domains),
            next=errors.did_you_mean(domain, domains, "put one into the stack file, or set oci:region"),
        )
    if gpus is not None and gpus < pool.gpus(name):
        raise errors.FleetError(
            node=name,
            doing=cloud_machines.DOING,
            seen=f"the limit {LIMIT} leaves {gpus:.0f} in {domain}",
            wanted=f"{pool.gpus(name)}",
            next="ask for it in the console (Governance, Limits)",
        )

"""Machines that Oracle's cloud makes: a network a pool with subnet and security group, and in it instances.

Needs pulumi-oci and its credentials (`~/.oci/config`, or `pulumi config set oci:…`): settings of that plugin, never of ours.
Used by stacks whose source is `oci`.
"""

import asyncio
import base64
import difflib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pulumi
from pulumi_oci import core

from fleet import errors
from fleet.resources import HostKey, Machine
from fleet.sources import cloud_machines
from fleet.sources.oci.form import Nodes
from fleet.sources.request import Request

EVERYWHERE, TCP, ICMP = "0.0.0.0/0", "6", "1"
DOMAINS = "oci:Identity/getAvailabilityDomains:getAvailabilityDomains"
LEFT = "oci:Limits/getResourceAvailability:getResourceAvailability"
LIMIT = "gpu-mi300x-count"  # of GPUs, in one availability domain
REFUSALS = (
    cloud_machines.Refusal(
        r"NotAuthenticated|can not create client|bad configuration|NotAuthorizedOrNotFound|did not find a proper configuration",
        seen="the cloud does not take the credentials, or they may not see the compartment",
        wanted="a user who may make instances and networks in the compartment",
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
    """Make the network, which lets nothing in but SSH from the named ranges, then the machines in it."""
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
    group, rules = _closed(pool, vcn.id, own)
    pairs = cloud_machines.host_keys(request.present, request.fleet, request.protected)
    made = {}
    for name in request.present:
        of = cloud_machines.made_of(pool, pool.of(name, "image"))
        instance = _instance(pool, name, subnet.id, group.id, rules, pairs[name], of, name in request.protected)
        cloud_machines.compare(
            "Instance", name, of, instance.freeform_tags.apply(lambda tags: tags or {}), request.stack
        )
        made[name] = Machine(
            cloud_machines.reach(pool, name, instance.public_ip, pairs[name]), instance, pool.place(name)
        )
    return made


def _subnet(pool: Nodes, vcn: pulumi.Output[str], own: pulumi.ResourceOptions) -> core.Subnet:
    """Return a subnet with a way out. Its list of rules is empty: the network's default one lets SSH in from everywhere."""
    gateway = core.InternetGateway(pool.label, compartment_id=pool.compartment, vcn_id=vcn, opts=own)
    routes = core.RouteTable(
        pool.label,
        compartment_id=pool.compartment,
        vcn_id=vcn,
        route_rules=[
            core.RouteTableRouteRuleArgs(
                destination=EVERYWHERE, destination_type="CIDR_BLOCK", network_entity_id=gateway.id
            )
        ],
        opts=own,
    )
    nothing = core.SecurityList(
        pool.label,
        compartment_id=pool.compartment,
        vcn_id=vcn,
        ingress_security_rules=[],
        egress_security_rules=[],
        opts=own,
    )
    return core.Subnet(
        pool.label,
        compartment_id=pool.compartment,
        vcn_id=vcn,
        cidr_block=pool.network,
        route_table_id=routes.id,
        security_list_ids=[nothing.id],
        opts=own,
    )


def _closed(
    pool: Nodes, vcn: pulumi.Output[str], own: pulumi.ResourceOptions
) -> tuple[core.NetworkSecurityGroup, list[pulumi.Resource]]:
    """Return the group of what may come in and go out, and its rules, which are there before a machine is."""
    group = core.NetworkSecurityGroup(pool.label, compartment_id=pool.compartment, vcn_id=vcn, opts=own)
    port = core.NetworkSecurityGroupSecurityRuleTcpOptionsDestinationPortRangeArgs(min=22, max=22)
    # A rule is made anew when it changes: protection would forbid that.
    free = pulumi.ResourceOptions(protect=False)
    rules: list[pulumi.Resource] = [
        core.NetworkSecurityGroupSecurityRule(
            f"{pool.label}-ssh-{place}",
            network_security_group_id=group.id,
            direction="INGRESS",
            protocol=TCP,
            source=source,
            source_type="CIDR_BLOCK",
            tcp_options=core.NetworkSecurityGroupSecurityRuleTcpOptionsArgs(destination_port_range=port),
            opts=free,
        )
        for place, source in enumerate(pool.ssh_from)
    ]
    rules += [
        # "Fragmentation needed": packets are 9000 bytes here and 1500 elsewhere; without it long transfers hang. No service answers it.
        core.NetworkSecurityGroupSecurityRule(
            f"{pool.label}-path-mtu",
            network_security_group_id=group.id,
            direction="INGRESS",
            protocol=ICMP,
            source=EVERYWHERE,
            source_type="CIDR_BLOCK",
            icmp_options=core.NetworkSecurityGroupSecurityRuleIcmpOptionsArgs(type=3, code=4),
            opts=free,
        ),
        core.NetworkSecurityGroupSecurityRule(
            f"{pool.label}-out",
            network_security_group_id=group.id,
            direction="EGRESS",
            protocol="all",
            destination=EVERYWHERE,
            destination_type="CIDR_BLOCK",
            opts=free,
        ),
    ]
    return group, rules


def _instance(
    pool: Nodes,
    name: str,
    subnet: pulumi.Output[str],
    group: pulumi.Output[str],
    rules: Sequence[pulumi.Resource],
    key: HostKey,
    of: Mapping[str, str],
    protect: bool,
) -> core.Instance:
    """Return the instance itself."""
    disk = pool.of(name, "disk_gb")
    data = cloud_machines.user_data(pool, key).apply(lambda text: base64.b64encode(text.encode()).decode())
    return core.Instance(
        name,
        display_name=name,
        compartment_id=pool.compartment,
        availability_domain=pool.of(name, "availability_domain"),
        shape=pool.size_of(name),
        source_details=core.InstanceSourceDetailsArgs(
            source_type="image",
            source_id=pool.of(name, "image"),
            boot_volume_size_in_gbs=str(disk) if disk else None,
        ),
        create_vnic_details=core.InstanceCreateVnicDetailsArgs(
            subnet_id=subnet, nsg_ids=[group], assign_public_ip="true", hostname_label=name
        ),
        metadata={"ssh_authorized_keys": "\n".join(pool.keys), "user_data": data},
        # The user data can be read on the machine: by who can set a header, not by who can be made to fetch a URL.
        instance_options=core.InstanceInstanceOptionsArgs(are_legacy_imds_endpoints_disabled=True),
        freeform_tags=dict(of),
        opts=pulumi.ResourceOptions(
            protect=protect,
            delete_before_replace=True,  # the quota may be for one
            depends_on=list(rules),
            # The cloud makes another instance of a change of the image, and refuses one of keys and user data. What they should be is
            # compared with the tags instead, which tell what the instance was made of.
            ignore_changes=["metadata", "sourceDetails", "freeformTags"],
            hooks=cloud_machines.hooks(name, REFUSALS, _possible(pool, name)),
        ),
    )


def _possible(pool: Nodes, name: str) -> Callable[[], Awaitable[None]]:
    """Return what asks the cloud for its availability domains and for the limit of GPUs, and raises where the machine has no place."""

    async def ask() -> None:
        domain = str(pool.of(name, "availability_domain"))
        told = await cloud_machines.call("pulumi-oci", DOMAINS, {"compartmentId": pool.compartment})
        gpus = None
        if "MI300X" in pool.size_of(name):
            of = {"compartmentId": pool.compartment, "availabilityDomain": domain}
            question = cloud_machines.call("pulumi-oci", LEFT, {"serviceName": "compute", "limitName": LIMIT, **of})
            # Who may make instances may still not be allowed to read limits: no answer is no mistake.
            left: Any = (await asyncio.gather(question, return_exceptions=True))[0]
            gpus = float(left["available"]) if isinstance(left, Mapping) and left else None
        if told:
            judge(pool, name, [found["name"] for found in told["availabilityDomains"]], gpus)

    return ask


def judge(pool: Nodes, name: str, domains: Sequence[str], gpus: float | None) -> None:
    """Raise FleetError where the machine's availability domain is none of `domains`, or has fewer GPUs left than it needs."""
    domain = str(pool.of(name, "availability_domain"))
    if domain not in domains:
        near = next(iter(difflib.get_close_matches(domain, domains, n=1)), "")
        raise errors.FleetError(
            node=name,
            doing=cloud_machines.MADE,
            seen=f"the region has no availability domain {domain}",
            wanted=", ".join(domains),
            next=f"did you mean {near}?" if near else "put one into the stack file, or set oci:region",
        )
    if gpus is not None and gpus < pool.gpus(name):
        raise errors.FleetError(
            node=name,
            doing=cloud_machines.MADE,
            seen=f"the limit {LIMIT} leaves {gpus:.0f} in {domain}",
            wanted=f"{pool.gpus(name)}",
            next="ask for it in the console (Governance, Limits)",
        )

"""Creates virtual machines in Azure: a resource group a pool, with network, subnet and security group.

Needs pulumi-azure-native and its credentials (`az login`, ARM_* or `pulumi config set azure-native:…`), which are settings of that plugin,
not of ours. Called by fleet.program.machines for stacks whose source is `azure`.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi_azure_native import compute, network, resources

from fleet.resources import HostKey, Inside, Machine
from fleet.sources import cloud_machines
from fleet.sources.azure.form import Nodes
from fleet.sources.request import Opening, Request

WHO = "azure-native:authorization:getClientConfig"
REFUSALS = (
    cloud_machines.Refusal(
        r"AADSTS\d+|InvalidAuthenticationToken|AuthorizationFailed|no (valid )?credentials|az login|InvalidSubscriptionId",
        seen="the cloud does not accept the credentials",
        wanted="a subscription, and a user who may create machines and networks in it",
        next="`az login`, or ARM_CLIENT_ID, ARM_CLIENT_SECRET, ARM_TENANT_ID and ARM_SUBSCRIPTION_ID",
    ),
    cloud_machines.Refusal(
        r"QuotaExceeded|exceeding approved .*quota",
        seen="the subscription's quota has no room for this size",
        wanted="quota of the family standardNDISv5MI300XFamily in this location",
        next="`az vm list-usage --location LOCATION`, and ask for it in the portal",
    ),
    cloud_machines.Refusal(
        r"SkuNotAvailable|AllocationFailed|OverconstrainedAllocationRequest|out of capacity",
        seen="the location has no machine of this size left",
        wanted="capacity",
        next="another zone or location in the stack file, or `pulumi up` later: it goes on where it stopped",
    ),
)


def supply(pool: Nodes, request: Request) -> Mapping[str, Machine]:
    """Create the network, whose subnet admits SSH from the ranges `ssh_from` and what the request opens, then the machines in it."""
    if not request.present:
        return {}
    own = pulumi.ResourceOptions(protect=bool(request.protected & {*request.present}))
    group = resources.ResourceGroup(
        pool.label, resource_group_name=f"glm-fleet-{request.stack}-{pool.label}", location=pool.location, opts=own
    )
    gateways = _gateway_group(pool, request.openings, group.name)
    subnet = _subnet(
        pool, group.name, [_open(pool, *numbered, gateways) for numbered in enumerate(request.openings)], own
    )
    machines = {}
    for name in request.present:
        protect = pulumi.ResourceOptions(protect=name in request.protected)
        key = HostKey(name, request.fleet, name in request.protected)
        shared = {"resource_group_name": group.name, "location": pool.location, "opts": protect}
        address = network.PublicIPAddress(
            name,
            public_ip_address_name=name,
            public_ip_allocation_method="Static",  # known before the machine exists
            sku=network.PublicIPAddressSkuArgs(name="Standard"),
            **shared,
        )
        interface = network.NetworkInterface(
            name,
            network_interface_name=name,
            ip_configurations=[
                network.NetworkInterfaceIPConfigurationArgs(
                    name="main",
                    primary=True,
                    subnet=network.SubnetArgs(id=subnet.id),
                    public_ip_address=network.PublicIPAddressArgs(id=address.id),
                    application_security_groups=gateways
                    if any(name in opening.on for opening in request.openings)
                    else None,
                )
            ],
            **shared,
        )
        tags = cloud_machines.creation_tags(pool, pool.setting(name, "image"))
        machine = _machine(pool, name, group.name, interface.id, key, tags, name in request.protected)
        current = machine.tags.apply(lambda tags: tags or {})
        cloud_machines.warn_of_changes("VirtualMachine", name, tags, current, request.stack)
        ip = address.ip_address.apply(lambda text: text or "")
        inside = Inside(pool.label, interface.ip_configurations.apply(_private_address), only=True)
        inputs = cloud_machines.node_inputs(pool, name, ip, key)
        machines[name] = Machine(inputs, machine, pool.place(name), inside=inside)
    return machines


def _private_address(configurations: Sequence[Any] | None) -> str:
    """Return the address of an interface in the subnet. It stays until the interface is deleted."""
    return next((one.private_ip_address for one in configurations or () if one.private_ip_address), "")


def _gateway_group(
    pool: Nodes, openings: Sequence[Opening], group: pulumi.Output[str]
) -> list[network.ApplicationSecurityGroupArgs]:
    """Create the group of the interfaces on which more is open than on all; none where nothing is."""
    if not any(opening.on for opening in openings):
        return []
    name = f"{pool.label}-gateways"
    # Not protected: a pool without a gateway needs none.
    made = network.ApplicationSecurityGroup(
        name, application_security_group_name=name, resource_group_name=group, location=pool.location
    )
    return [network.ApplicationSecurityGroupArgs(id=made.id)]


def _open(
    pool: Nodes, place: int, opening: Opening, gateways: Sequence[network.ApplicationSecurityGroupArgs]
) -> network.SecurityRuleArgs:
    """Return the rule that opens a port, to the pool's own machines by the range of their subnet."""
    return _rule(
        opening.name,
        200 + place,
        "Allow",
        protocol="Tcp",
        source_address_prefixes=[*([pool.network] if opening.inside else []), *opening.sources],
        destination_port_range=str(opening.port),
        destination_address_prefix=None if opening.on else "*",
        destination_application_security_groups=gateways if opening.on else None,
    )


def _subnet(
    pool: Nodes, group: pulumi.Output[str], opened: Sequence[network.SecurityRuleArgs], own: pulumi.ResourceOptions
) -> network.Subnet:
    """Create the subnet, with its security group from the start: no machine is ever open to all."""
    security_group = network.NetworkSecurityGroup(
        pool.label,
        network_security_group_name=pool.label,
        resource_group_name=group,
        location=pool.location,
        security_rules=[
            _rule(
                "ssh", 100, "Allow", protocol="Tcp", source_address_prefixes=pool.ssh_from, destination_port_range="22"
            ),
            *opened,
            # The cloud's default rules, which come last, admit the network itself and its load balancers.
            _rule("nothing-else", 4096, "Deny", protocol="*", source_address_prefix="*", destination_port_range="*"),
        ],
        opts=own,
    )
    virtual_network = network.VirtualNetwork(
        pool.label,
        virtual_network_name=pool.label,
        resource_group_name=group,
        location=pool.location,
        address_space=network.AddressSpaceArgs(address_prefixes=[pool.network]),
        # Subnets are separate resources: the list that the cloud reads back is not a change.
        opts=pulumi.ResourceOptions.merge(own, pulumi.ResourceOptions(ignore_changes=["subnets"])),
    )
    return network.Subnet(
        pool.label,
        subnet_name=pool.label,
        resource_group_name=group,
        virtual_network_name=virtual_network.name,
        address_prefix=pool.network,
        network_security_group=network.NetworkSecurityGroupArgs(id=security_group.id),
        opts=own,
    )


def _rule(name: str, priority: int, access: str, **fields: object) -> network.SecurityRuleArgs:
    """Return one rule for inbound traffic."""
    return network.SecurityRuleArgs(
        name=name,
        priority=priority,
        access=access,
        direction="Inbound",
        source_port_range="*",
        **{"destination_address_prefix": "*", **fields},
    )


def _machine(
    pool: Nodes,
    name: str,
    group: pulumi.Output[str],
    interface: pulumi.Output[str],
    key: HostKey,
    tags: Mapping[str, str],
    protect: bool,
) -> compute.VirtualMachine:
    """Create the virtual machine itself."""
    keys = [
        compute.SshPublicKeyArgs(path=f"/home/{pool.user}/.ssh/authorized_keys", key_data=public)
        for public in pool.keys
    ]
    zone = pool.setting(name, "zone")
    return compute.VirtualMachine(
        name,
        vm_name=name,
        resource_group_name=group,
        location=pool.location,
        zones=[zone] if zone else None,
        hardware_profile=compute.HardwareProfileArgs(vm_size=pool.size_of(name)),
        network_profile=compute.NetworkProfileArgs(
            network_interfaces=[compute.NetworkInterfaceReferenceArgs(id=interface, primary=True)]
        ),
        os_profile=compute.OSProfileArgs(
            computer_name=name,
            admin_username=pool.user,
            custom_data=cloud_machines.user_data(pool, key).apply(
                lambda text: base64.b64encode(text.encode()).decode()
            ),
            linux_configuration=compute.LinuxConfigurationArgs(
                disable_password_authentication=True, ssh=compute.SshConfigurationArgs(public_keys=keys)
            ),
        ),
        storage_profile=compute.StorageProfileArgs(
            image_reference=_image(pool.setting(name, "image")),
            os_disk=compute.OSDiskArgs(
                create_option="FromImage", delete_option="Delete", disk_size_gb=pool.setting(name, "disk_gb")
            ),
        ),
        tags=dict(tags),
        opts=pulumi.ResourceOptions(
            protect=protect,
            delete_before_replace=True,  # its name and its interface are free only then
            # The cloud reads each of these only at creation: a change replaces the machine, and one of custom data is refused. Instead
            # warn_of_changes compares the stack's values with the tags, which hold digests of the values at creation.
            ignore_changes=["osProfile", "storageProfile.imageReference", "tags"],
            hooks=cloud_machines.hooks(name, REFUSALS, _check_login),
        ),
    )


def _image(reference: str) -> compute.ImageReferenceArgs:
    if reference.startswith("/"):
        return compute.ImageReferenceArgs(id=reference)
    publisher, offer, sku, version = reference.split(":")
    return compute.ImageReferenceArgs(publisher=publisher, offer=offer, sku=sku, version=version)


async def _check_login() -> None:
    """Ask the cloud who we are, which fails for wrong credentials. Its plugin cannot ask for free capacity."""
    await cloud_machines.call("pulumi-azure-native", WHO, {})

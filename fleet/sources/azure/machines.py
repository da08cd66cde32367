"""Machines that Azure makes: a resource group a pool with network, subnet and security group, and in it virtual machines.

Needs pulumi-azure-native and its credentials (`az login`, ARM_* or `pulumi config set azure-native:…`): settings of that plugin,
never of ours. Used by stacks whose source is `azure`.
"""

import base64
from collections.abc import Mapping

import pulumi
from pulumi_azure_native import compute, network, resources

from fleet.resources import HostKey, Machine
from fleet.sources import cloud_machines
from fleet.sources.azure.form import Nodes
from fleet.sources.request import Request

WHO = "azure-native:authorization:getClientConfig"
REFUSALS = (
    cloud_machines.Refusal(
        r"AADSTS\d+|InvalidAuthenticationToken|AuthorizationFailed|no (valid )?credentials|az login|InvalidSubscriptionId",
        seen="the cloud does not take the credentials",
        wanted="a subscription, and who may make machines and networks in it",
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
    """Make the network, whose subnet lets nothing in but SSH from the named ranges, then the machines in it."""
    if not request.present:
        return {}
    own = pulumi.ResourceOptions(protect=bool(request.protected & {*request.present}))
    group = resources.ResourceGroup(
        pool.label, resource_group_name=f"glm-fleet-{request.stack}-{pool.label}", location=pool.location, opts=own
    )
    subnet = _subnet(pool, group.name, own)
    pairs = cloud_machines.host_keys(request.present, request.fleet, request.protected)
    made = {}
    for name in request.present:
        kept = pulumi.ResourceOptions(protect=name in request.protected)
        address = network.PublicIPAddress(
            name,
            public_ip_address_name=name,
            resource_group_name=group.name,
            location=pool.location,
            public_ip_allocation_method="Static",  # known before the machine is there
            sku=network.PublicIPAddressSkuArgs(name="Standard"),
            opts=kept,
        )
        interface = network.NetworkInterface(
            name,
            network_interface_name=name,
            resource_group_name=group.name,
            location=pool.location,
            ip_configurations=[
                network.NetworkInterfaceIPConfigurationArgs(
                    name="main",
                    primary=True,
                    subnet=network.SubnetArgs(id=subnet.id),
                    public_ip_address=network.PublicIPAddressArgs(id=address.id),
                )
            ],
            opts=kept,
        )
        of = cloud_machines.made_of(pool, pool.of(name, "image"))
        machine = _machine(pool, name, group.name, interface.id, pairs[name], of, name in request.protected)
        cloud_machines.compare("VirtualMachine", name, of, machine.tags.apply(lambda tags: tags or {}), request.stack)
        told = address.ip_address.apply(lambda found: found or "")
        made[name] = Machine(cloud_machines.reach(pool, name, told, pairs[name]), machine, pool.place(name))
    return made


def _subnet(pool: Nodes, group: pulumi.Output[str], own: pulumi.ResourceOptions) -> network.Subnet:
    """Return a subnet that is closed before any machine is in it."""
    closed = network.NetworkSecurityGroup(
        pool.label,
        network_security_group_name=pool.label,
        resource_group_name=group,
        location=pool.location,
        security_rules=[
            _rule(
                "ssh", 100, "Allow", protocol="Tcp", source_address_prefixes=pool.ssh_from, destination_port_range="22"
            ),
            # The cloud's own last rules let in what comes from the network itself and from its load balancers.
            _rule("nothing-else", 4096, "Deny", protocol="*", source_address_prefix="*", destination_port_range="*"),
        ],
        opts=own,
    )
    whole = network.VirtualNetwork(
        pool.label,
        virtual_network_name=pool.label,
        resource_group_name=group,
        location=pool.location,
        address_space=network.AddressSpaceArgs(address_prefixes=[pool.network]),
        # Subnets are resources of their own: those that the cloud reads back are no change.
        opts=pulumi.ResourceOptions.merge(own, pulumi.ResourceOptions(ignore_changes=["subnets"])),
    )
    return network.Subnet(
        pool.label,
        subnet_name=pool.label,
        resource_group_name=group,
        virtual_network_name=whole.name,
        address_prefix=pool.network,
        network_security_group=network.NetworkSecurityGroupArgs(id=closed.id),
        opts=own,
    )


def _rule(name: str, priority: int, access: str, **told: object) -> network.SecurityRuleArgs:
    """Return one rule for what comes in."""
    return network.SecurityRuleArgs(
        name=name,
        priority=priority,
        access=access,
        direction="Inbound",
        source_port_range="*",
        destination_address_prefix="*",
        **told,
    )


def _machine(
    pool: Nodes,
    name: str,
    group: pulumi.Output[str],
    interface: pulumi.Output[str],
    key: HostKey,
    of: Mapping[str, str],
    protect: bool,
) -> compute.VirtualMachine:
    """Return the virtual machine itself."""
    keys = [
        compute.SshPublicKeyArgs(path=f"/home/{pool.user}/.ssh/authorized_keys", key_data=public)
        for public in pool.keys
    ]
    zone = pool.of(name, "zone")
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
            image_reference=_image(pool.of(name, "image")),
            os_disk=compute.OSDiskArgs(
                create_option="FromImage", delete_option="Delete", disk_size_gb=pool.of(name, "disk_gb")
            ),
        ),
        tags=dict(of),
        opts=pulumi.ResourceOptions(
            protect=protect,
            delete_before_replace=True,  # its name and its interface are free only then
            # The cloud takes each of these once: a change would make another machine, of custom data it only says that it cannot. What
            # they should be is compared with the tags instead, which tell what the machine was made of.
            ignore_changes=["osProfile", "storageProfile.imageReference", "tags"],
            hooks=cloud_machines.hooks(name, REFUSALS, _possible),
        ),
    )


def _image(told: str) -> compute.ImageReferenceArgs:
    if told.startswith("/"):
        return compute.ImageReferenceArgs(id=told)
    publisher, offer, sku, version = told.split(":")
    return compute.ImageReferenceArgs(publisher=publisher, offer=offer, sku=sku, version=version)


async def _possible() -> None:
    """Ask the cloud who we are. What it has room for, its plugin cannot ask."""
    await cloud_machines.call("pulumi-azure-native", WHO, {})

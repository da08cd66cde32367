"""Source `redfish`: machines with a BMC."""

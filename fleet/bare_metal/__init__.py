"""Machines with a BMC: power, BIOS settings, installer, seed."""

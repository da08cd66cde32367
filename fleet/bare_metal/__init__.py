"""Machines with a BMC: power, installer, seed."""

"""Machines without machines: nodes, their MI300X stand-in, mirrors, the small model. Imported by nothing in fleet/."""

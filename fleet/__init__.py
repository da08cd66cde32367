"""What brings GLM-4.6V up on a fleet: plan (what should be), machine (what is), provider (joins them), probes, cli.

Needs nothing at import; each part imports what it needs. CONTRIBUTING.md says where to change what.
"""

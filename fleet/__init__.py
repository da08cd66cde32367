"""Brings GLM-4.6V up on a fleet. Each folder is a room with one job: ARCHITECTURE.md draws them, CONTRIBUTING.md says where to change what.

Needs nothing at import; each part imports what it needs.
"""

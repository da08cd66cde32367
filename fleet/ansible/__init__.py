"""Runs of a playbook on one node: events, progress, cancel."""

"""Fetches a model's files onto a node and verifies them. Runs on the node: standard library of Python 3.10, nothing else of fleet.

The role weights sends it: roles/weights/files/weights_fetcher has a link to each module here, so the role's digest counts them.
On the node its parent folder has the program fetch-weights (roles/weights/files/fetch-weights).
"""

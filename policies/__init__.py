"""What may never be deployed: a policy pack that the Pulumi engine consults at every preview and update.

`rules/` has the rules, `data/` the dated facts behind them. `pack.py` turns them into policies of Pulumi's library and applies
the stack's waivers. `docs.py` generates docs/policies.md.
"""

"""What may never be deployed: a Pulumi policy pack that the engine asks at every preview and update.

`rules/` has the rules, `data/` the dated facts that they judge by, `pack.py` makes them policies of Pulumi's library, with
the stack's waivers. docs/policies.md is generated from the rules (docs.py).
"""

"""What may never be deployed: a Pulumi policy pack that the engine asks at every preview and update.

`rules/` has the rules, `data/` the dated facts that they judge by, `pack.py` joins them with the stack's waivers,
`server.py` speaks the engine's protocol. docs/policies.md is generated from the rules (docs.py).
"""

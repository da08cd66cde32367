"""Sources of nodes, one folder each: form.py (keys of the stack file) and machines.py (resources that Pulumi creates)."""

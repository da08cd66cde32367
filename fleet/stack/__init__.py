"""Stack files: their form, their validation, and the rules that need no connection. Imports no Pulumi."""

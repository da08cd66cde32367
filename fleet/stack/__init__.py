"""From a stack file to a validated Stack: its form, its validation, the rules that need no connection. Imports no Pulumi."""

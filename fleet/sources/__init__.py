"""Where nodes come from: one folder a source, with form.py (what the stack file may say) and machines.py (what Pulumi makes)."""

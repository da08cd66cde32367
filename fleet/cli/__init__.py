"""The command `fleet`: one file a verb."""

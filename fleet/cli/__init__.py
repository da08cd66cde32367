"""The command `fleet`, one file per verb: main.py has the list, common, table and stack_outputs the shared parts."""

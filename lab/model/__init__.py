"""The lab's small GLM-4.6V: its architecture, what it learns, and the checkpoint that came out. See README.md."""

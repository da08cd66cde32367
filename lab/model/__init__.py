"""The lab's small GLM-4.6V: its architecture, its lessons, and the resulting checkpoint. See README.md."""

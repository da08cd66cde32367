"""The report of a change: what a preview found, as one model, and its forms for a reviewer. Pure: reads events and files' texts, opens no connection."""

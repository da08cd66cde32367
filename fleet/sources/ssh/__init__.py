"""Source `ssh`: machines that already answer SSH."""

"""What a change does to a running node: reload, restart, reboot, replace; and the lines that a preview ends with. Pure."""

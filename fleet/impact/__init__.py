"""The effects of a change on a running node (reload, restart, reboot, replace), and the lines at the end of a preview. Pure."""

"""Claims about the roles, on real lab nodes: Ubuntu 24.04 and Debian 12 with systemd, apt, sshd and an engine of their own."""

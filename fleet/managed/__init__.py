"""What the fleet manages on a host: read it, compare it, revert it, own it."""

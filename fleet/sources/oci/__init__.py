"""Source `oci`: instances of Oracle's cloud."""

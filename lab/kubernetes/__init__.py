"""The lab's Kubernetes: its programs, built from the Go module proxy, a control plane and nodes in containers."""

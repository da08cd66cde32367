"""Names that stand for something in a stack on a Kubernetes cluster. Pure; used by the stack file's forms and by the policies."""

LAB = "glm-fleet-lab"  # the context of a cluster that the lab made: nothing there is protected, and images of the lab may run
NAMESPACE = "namespace"  # in `release`: the stack's namespaces, with the volumes of the weights

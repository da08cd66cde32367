"""The lab's plugin: its site and its machines as Pulumi resources. Started by the engine through pulumi-resource-lab."""

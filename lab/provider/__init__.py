"""The lab's plugin: its site and its nodes as Pulumi resources. The Pulumi engine starts it through pulumi-resource-lab."""

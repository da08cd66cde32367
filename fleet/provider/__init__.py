"""The Pulumi provider `fleet`: turns the Pulumi engine's requests into work on machines. Started by pulumi-resource-fleet."""

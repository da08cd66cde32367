"""The hinge: Pulumi's requests on one side, machines on the other. Started by the engine through pulumi-resource-fleet."""

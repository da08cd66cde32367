"""What should be: the stack file judged, the resources of the road, the effects of a change. Knows Pulumi, opens no connection."""

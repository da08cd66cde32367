"""Images of the lab: nodes, the site, the serving image's base. Each is built from packages and cached by content."""

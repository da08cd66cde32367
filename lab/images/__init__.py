"""What the lab's containers are made of: nodes, the site, the serving image's base. Each from packages alone, kept by content."""

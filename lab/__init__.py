"""Real hosts on one machine, in namespaces; it refuses to touch anything outside its own namespaces and folder."""

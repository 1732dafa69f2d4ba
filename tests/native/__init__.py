"""The native box through its thin module: leaves, images, mounts."""

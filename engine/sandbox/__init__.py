"""Sandboxes: the protocol, the life cycle, and the Linux one over the native box."""

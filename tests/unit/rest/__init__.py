"""The HTTP front by itself: its parts, and raw bytes on its socket."""

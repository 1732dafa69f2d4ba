"""Zygotes: interpreters that are started once, frozen, and forked for each sandbox. This is their host's side; what
runs in them is engine.guest.zygote over the native fork server."""

"""Kinds of hosts that this one is not, as machines to run tests in."""

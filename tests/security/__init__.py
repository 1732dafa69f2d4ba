"""Attacks on a sandbox from inside, and what they find."""

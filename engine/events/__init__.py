"""Asynchronous invocation: a durable queue, and what delivers from it. Start reading at room.py."""

"""A gRPC client of an engine, sync and async, and what it shares with an engine in the same process."""

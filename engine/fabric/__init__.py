"""What one machine provides to the rest of the engine: a locked data directory, durable files, a durable store."""

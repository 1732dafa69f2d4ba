"""What AWS's own clients, unmodified, find when they talk to the engine."""

"""What the engine sees of itself and of its functions. Nothing below imports it."""

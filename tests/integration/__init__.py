"""The whole engine, and whole sandboxes, with nothing mocked."""

"""The habits of the source tree and of its documents, held by tests."""

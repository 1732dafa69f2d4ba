"""The pipeline of an invocation: authorize, admit, run, record."""

"""The command `cleave`: a client of engine.v1 and nothing more, but for `serve`, which runs an engine.

One command a file: its declaration for typer, and below it what it does. What several need is in options (the choices
that every command takes), problems (what went wrong), client (the channel) and render (how answers look). Modules that
take long to load are imported inside the commands, so that `cleave --help` is quick.
"""

"""What runs INSIDE a sandbox: standard library only, nothing else of the engine, Python 3.9 and later.

A zygote imports this package under the name `cleave_guest`, freezes, and forks; each fork runs `runtime.run`. The
engine imports only `engine.guest.wire`, to speak the same frames.
"""

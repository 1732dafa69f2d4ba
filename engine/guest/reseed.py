"""Makes what a fork has copied of random state its own: siblings must not draw the same numbers.

Only modules that are loaded already are touched; none is imported. os.urandom, and with it secrets and uuid4, needs
nothing. Copies of OpenSSL inside installed packages are out of reach from here, and need not be reached: each compares
process ids, and a sandbox's is never the zygote's (engine.zygote.host). What draws from a state of its own and compares
nothing, such as a numpy.random.Generator that a package makes when it is imported, repeats: keep it out of a preload.
"""

from __future__ import annotations

import os
import sys

_UUID_STATE = ("_last_timestamp", "_last_timestamp_v6", "_last_timestamp_v7")


def after_fork() -> None:
    """Reseed random, OpenSSL, NumPy, and forget what uuid, tempfile and multiprocessing derived from random state.

    OpenSSL's own fork check compares process ids, and siblings in PID namespaces of their own have the same.
    """
    loaded = sys.modules.get
    random = loaded("random")
    if random is not None:
        random.seed()
    ssl = loaded("_ssl")
    if ssl is not None:
        ssl.RAND_add(os.urandom(32), 32.0)
    uuid = loaded("uuid")
    if uuid is not None:
        for name in _UUID_STATE:
            if hasattr(uuid, name):
                setattr(uuid, name, None)
    tempfile = loaded("tempfile")
    if tempfile is not None:
        setattr(tempfile, "_name_sequence", None)  # noqa: B010  # no part of its public face
    process = loaded("multiprocessing.process")
    if process is not None:
        process.current_process().authkey = os.urandom(32)
    numpy_random = loaded("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()

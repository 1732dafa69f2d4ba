"""Two threads in one native function without the interpreter's lock: what ThreadSanitizer has to complain of.

planted.py LIBRARY       the race of planted.c
planted.py LIBRARY one   the same from one thread after the other: none
"""

from __future__ import annotations

import ctypes
import sys
import threading

TIMES = 3_000_000

library = ctypes.CDLL(sys.argv[1])
start = threading.Barrier(1 if sys.argv[2:] else 2)


def plant() -> None:
    start.wait()
    library.plant(TIMES)


threads = [threading.Thread(target=plant) for _ in range(2)]
if sys.argv[2:] == ["one"]:
    for thread in threads:
        thread.start()
        thread.join()
else:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

"""What a rival starts: reads one event from standard input, calls app.handler of the folder that it is given, and
writes the answer, as the guest of a sandbox does. Standard library only; runs with -S."""

import json
import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    event = json.loads(sys.stdin.buffer.read())
    import app  # type: ignore[import-not-found]

    os.write(1, json.dumps(app.handler(event, None)).encode())

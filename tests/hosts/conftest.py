"""The machine takes minutes to make and to run: `make test-full` boots it, `make test` leaves it out.

`make test-hosts` makes its image and runs the short selection alone.
"""

from __future__ import annotations

import os

from tests.conftest import full_counts

collect_ignore = [] if full_counts() or os.environ.get("CLEAVE_HOSTS") else ["test_v2.py"]

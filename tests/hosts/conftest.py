"""The machines take minutes to make and to run: `make test` leaves them out.

* `make test-hosts` makes their image and runs the short selections, `make test-full` the long ones.
* `.ci/run` runs the short selection of v2 where the image can be made: on two cores without KVM that is about a minute
  for the image and two for the tests. It needs the network, for qemu and for a Debian; without it nothing fails.
"""

from __future__ import annotations

import os

from tests.conftest import full_counts

collect_ignore = [] if full_counts() or os.environ.get("CLEAVE_HOSTS") else ["test_v1.py", "test_v2.py"]

"""A Python of a test's own: the one that runs the tests, with packages that the test writes."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.runtimes.interpreters import Interpreter, examine, own_path
from engine.zygote.host import fork_module_path


class Packages:
    """A virtual environment, made by hand, outside of /tmp, which is another in each sandbox."""

    def __init__(self, folder: Path, base: str, copied: bool) -> None:
        self.python = folder / "bin" / "python"
        self._base = base
        self.site = folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
        self.python.parent.mkdir()
        self.site.mkdir(parents=True)
        if copied:
            self.copy_again()
        else:
            self.python.symlink_to(base)
        (folder / "pyvenv.cfg").write_text(f"home = {Path(base).parent}\n")

    def copy_again(self) -> None:
        """The program itself is another file, as after an upgrade."""
        shutil.copy2(self._base, self.python.with_name("new"))
        self.python.with_name("new").rename(self.python)

    @property
    def interpreter(self) -> Interpreter:
        """It."""
        return examine(str(self.python), fork_module_path())

    def write(self, **modules: str) -> None:
        """Install modules."""
        for name, source in modules.items():
            (self.site / f"{name}.py").write_text(textwrap.dedent(source))


@contextmanager
def own_packages(base: str = "", *, copied: bool = False) -> Iterator[Packages]:
    """One, gone afterwards; of the Python at `base`, whose program is a link to it or a copy."""
    with tempfile.TemporaryDirectory(prefix="cleave-test-", dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        yield Packages(Path(folder), os.path.realpath(base or own_path()), copied)

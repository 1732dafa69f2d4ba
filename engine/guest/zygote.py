"""The main program of a zygote: import what every sandbox needs, enter the minimal root, freeze, fork on request.

Started by exec as `python -I -S zygote.py SOCK JOURNAL FORK_MODULE GUEST_DIR UID_BASE UID_COUNT USER NAME PRELOAD
PACKAGES PREFIX…`, never forked from the engine, so nothing of the engine's memory is in it. USER is "own" for a user
namespace with one id, "mapped" for one whose ids the engine maps, else "host"; NAME is what its root is called. PRELOAD
are modules to import ahead, with commas between, and PACKAGES the folders of installed packages, with colons. It says
"import" and a module's name before each of them, and in the end "ready" and how many bytes they took, or "refused",
the module and why. It has one thread and stays so. In each fork it hands over to runtime.run and never returns.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from engine.guest.loop import Guest
    from engine.guest.preload import Watch

gc.disable()
_PARKS = 2  # what the fork server says in a sandbox that waits for its function


def _load_fork_module(path: str) -> ModuleType:
    """Import the native fork server from a copy of `path` in memory: where it lies on the host would be in the maps of
    every sandbox."""
    import _imp
    from importlib.machinery import ExtensionFileLoader, ModuleSpec

    copy = os.memfd_create("cleave")
    try:
        with open(path, "rb") as file:
            os.write(copy, file.read())
        name = f"/proc/self/fd/../fd/{copy}"  # no library of a function's is ever asked for by this name
        module: ModuleType = _imp.create_dynamic(ModuleSpec("_fork", ExtensionFileLoader("_fork", name), origin=name))
    finally:
        os.close(copy)
    _imp.exec_dynamic(module)
    return module


def _load_guest_package(folder: str) -> None:
    """Import the guest's package from its folder under the name cleave_guest."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("cleave_guest", folder + "/__init__.py", submodule_search_locations=[folder])
    assert spec is not None
    assert spec.loader is not None
    package = module_from_spec(spec)
    sys.modules["cleave_guest"] = package
    spec.loader.exec_module(package)


def _watch(flush: Callable[[], None]) -> Watch:
    if TYPE_CHECKING:
        from engine.guest import preload
    else:
        from cleave_guest import preload

    return preload.Watch(flush)


def _preload(modules: list[str], packages: list[str], watch: Watch, sock: int) -> int:
    """Import ahead; returns the bytes of memory that it took. Ends the process where it cannot be."""
    if TYPE_CHECKING:
        from engine.guest import preload
    else:
        from cleave_guest import preload

    def say(module: str) -> None:
        os.write(sock, b"import " + module.encode())

    try:
        preload.preload(modules, packages, watch, say)
    except preload.Refused as refused:
        os.write(sock, f"refused {refused.module} {refused.why}".encode(errors="replace"))
        os._exit(1)
    gc.collect()
    taken = watch.grown_bytes()
    watch.close()
    return taken


def _pages(fork: ModuleType, guest: Guest, proc: int) -> bytes:
    """What each start will write; b"" where this host does not tell."""
    if TYPE_CHECKING:
        from engine.guest.pages import written_by_a_start
    else:
        from cleave_guest.pages import written_by_a_start

    try:
        fork.pack_pages(proc)
    except OSError:  # then each start takes a little longer
        pass
    try:
        return written_by_a_start(guest, fork, proc)
    except OSError:
        return b""


def _have(fork: ModuleType, pages: bytes, guest: Guest) -> None:
    """The pages that a guest writes are its own before it is needed."""
    try:
        if pages:
            fork.touch(pages)
            return
    except OSError:  # before Linux 5.14
        pass
    if TYPE_CHECKING:
        from engine.guest import runtime
    else:
        from cleave_guest import runtime

    runtime.rehearse(guest, 1, whole=False)
    gc.collect(1)  # what that left is room for the function; the youngest alone, for no other page is written to
    gc.freeze()


def main(argv: list[str]) -> None:
    sock, journal, fork_path, guest_dir = int(argv[1]), int(argv[2]), argv[3], argv[4]
    uid_base, uid_count, user = int(argv[5]), int(argv[6]), argv[7]
    name, modules, packages = argv[8], argv[9].split(",") if argv[9] else [], argv[10].split(":") if argv[10] else []
    prefixes = tuple(prefix.encode() for prefix in argv[11:])
    sys.dont_write_bytecode = True
    if os.getpriority(os.PRIO_PROCESS, 0) < 0:
        os.setpriority(os.PRIO_PROCESS, 0, 0)  # the engine's own is above that of what it runs
    fork = _load_fork_module(fork_path)
    _load_guest_package(guest_dir)
    if TYPE_CHECKING:
        from engine.guest import reseed, runtime, wire
    else:
        from cleave_guest import reseed, runtime, wire

    if user != "host":
        fork.enter_user(user == "mapped")
    if user == "mapped":
        os.write(sock, b"map")
        os.read(sock, 16)  # that it was done
    if hasattr(sys, "orig_argv"):  # since 3.10
        sys.orig_argv = sys.orig_argv[:1]  # the rest are paths of the engine
    sys.argv = [""]
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)  # out of sight from now on
    watch = _watch(fork.flush) if modules else None
    fork.enter_root(prefixes, uid_base, uid_count, user != "host", name)
    fork.line_buffer()
    taken = _preload(modules, packages, watch, sock) if watch is not None else 0
    guest = runtime.anticipate(fork.flush, fork.put_environment)
    runtime.rehearse(guest)
    gc.collect()
    gc.freeze()
    fork.trim()
    pages = _pages(fork, guest, proc)
    os.close(proc)
    os.write(sock, b"ready %d" % taken)
    serves, boot = fork.serve(sock, journal)
    if not serves:
        os._exit(0)
    # A sandbox, from here on.
    if serves == _PARKS:
        _have(fork, pages, guest)
        boot = b""  # long ago by the time it has a function
    os.write(wire.ANSWERS_FD, wire.frame(wire.HELLO, boot))
    reseed.after_fork()
    gc.enable()
    runtime.run(guest)


if __name__ == "__main__":
    main(sys.argv)

"""Ways for a handler, its result and its module to fail, each with the document that AWS's runtime client makes of it.

test_error_table.py runs them all in each Python. A row is the source of one function; in its trace a frame is named by
the text of its line, which stands once in the whole module.
"""

from __future__ import annotations

from dataclasses import dataclass

FAILED_STR = "<exception str() failed>"


@dataclass(frozen=True)
class Failure:
    """A function `fail(context)` and what its failure is called. `trace`: (function, line) after the handler's own."""

    source: str
    error_type: str
    message: str
    trace: tuple[tuple[str, str], ...] | None = ()  # None: without frames, not even the handler's
    since: tuple[int, int] = (3, 9)


def raises(
    statement: str, error_type: str, message: str, *, before: str = "", since: tuple[int, int] = (3, 9)
) -> Failure:
    """One that fails in the line `statement`."""
    return Failure(
        f"{before}\ndef fail(context):\n    {statement}\n", error_type, message, (("fail", statement),), since
    )


def refused(result: str, message: str, *, before: str = "") -> Failure:
    """One whose result has no JSON form."""
    source = f"{before}\ndef fail(context):\n    return {result}\n"
    return Failure(source, "Runtime.MarshalError", f"Unable to marshal response: {message}", None)


ODD = """
class {name}(Exception):
    def {method}(self):
        {body}
"""

HANDLER: dict[str, Failure] = {
    # What is raised, and what is said of it.
    "a plain one": raises("raise ValueError('no such thing')", "ValueError", "no such thing"),
    "one without a message": raises("raise LookupError", "LookupError", ""),
    "an assertion": raises("assert context is None", "AssertionError", ""),
    "a key's message is its repr": raises("raise KeyError('k')", "KeyError", "'k'"),
    "several arguments": raises("raise ValueError('a', 1)", "ValueError", "('a', 1)"),
    "of the system": raises("open('/nosuch')", "FileNotFoundError", "[Errno 2] No such file or directory: '/nosuch'"),
    "several lines": raises("raise ValueError('one\\n  two\\n')", "ValueError", "one\n  two\n"),
    "control characters": raises("raise ValueError('\\x00\\x1b[0m\\x7f')", "ValueError", "\x00\x1b[0m\x7f"),
    "quotes and other scripts": raises("raise ValueError('\"ä€😀\\\\')", "ValueError", '"ä€😀\\'),
    "half a surrogate pair": raises("raise ValueError('a\\ud83d')", "ValueError", "a\ud83d"),
    "a name of other scripts": raises(
        "raise Fehlgröße('m')", "Fehlgröße", "m", before="class Fehlgröße(Exception): pass"
    ),
    "the class's own name, not its path": raises(
        "raise Outer.Inner('m')", "Inner", "m", before="class Outer:\n    class Inner(Exception): pass"
    ),
    "an import in the handler": raises("import nosuchmodule", "ModuleNotFoundError", "No module named 'nosuchmodule'"),
    "a syntax error that the handler raises": raises("raise SyntaxError('said so')", "SyntaxError", "said so"),
    "an iterator that is over": raises("next(iter(()))", "StopIteration", ""),
    "out of memory, said by itself": raises("raise MemoryError('said so')", "MemoryError", "said so"),
    "a note is no part of the message": raises(
        "raise noted()",
        "ValueError",
        "m",
        since=(3, 11),
        before=("def noted():\n    error = ValueError('m')\n    error.add_note('a note')\n    return error"),
    ),
    # Errors in the making of the document.
    "__str__ raises": raises(
        "raise StrRaises",
        "StrRaises",
        FAILED_STR,
        before=ODD.format(name="StrRaises", method="__str__", body="raise RuntimeError('in __str__')"),
    ),
    "__str__ exits": raises(
        "raise StrExits",
        "StrExits",
        FAILED_STR,
        before=ODD.format(name="StrExits", method="__str__", body="raise SystemExit(9)"),
    ),
    "__str__ gives no text": raises(
        "raise StrNumber",
        "StrNumber",
        FAILED_STR,
        before=ODD.format(name="StrNumber", method="__str__", body="return 5"),
    ),
    "__str__ has no end": raises(
        "raise StrEndless",
        "StrEndless",
        FAILED_STR,
        before=ODD.format(name="StrEndless", method="__str__", body="return str(self)"),
    ),
    "__repr__ of an argument raises": raises(
        "raise KeyError(NoRepr())",
        "KeyError",
        FAILED_STR,
        before=("class NoRepr:\n    def __repr__(self): raise RuntimeError('in __repr__')"),
    ),
    "__repr__ of its own is not asked": raises(
        "raise ReprRaises('m')",
        "ReprRaises",
        "m",
        before=ODD.format(name="ReprRaises", method="__repr__", body="raise RuntimeError('in __repr__')"),
    ),
    "what cannot be pickled": raises(
        "raise Unpicklable('m')",
        "Unpicklable",
        "m",
        before=ODD.format(name="Unpicklable", method="__reduce__", body="raise TypeError('cannot pickle')"),
    ),
    "attributes that raise": raises(
        "raise Touchy('m')",
        "Touchy",
        "m",
        before=ODD.format(name="Touchy", method="__getattribute__", body="raise RuntimeError('do not touch')"),
    ),
    # Several at once.
    "a cause": Failure(
        "def fail(context):\n    try:\n        int('no number')\n    except ValueError as error:\n"
        "        raise RuntimeError('because') from error\n",
        "RuntimeError",
        "because",
        (("fail", "raise RuntimeError('because') from error"),),
    ),
    "an error while one is handled": Failure(
        "def fail(context):\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        undefined_name\n",
        "NameError",
        "name 'undefined_name' is not defined",
        (("fail", "undefined_name"),),
    ),
    "an error in finally": Failure(
        "def fail(context):\n    try:\n        1 / 0\n    finally:\n        raise OSError('in finally')\n",
        "OSError",
        "in finally",
        (("fail", "raise OSError('in finally')"),),
    ),
    "causes in a circle": Failure(
        "def fail(context):\n    first, second = ValueError('first'), KeyError('second')\n"
        "    first.__cause__, second.__cause__ = second, first\n    raise first\n",
        "ValueError",
        "first",
        (("fail", "raise first"),),
    ),
    "a group": raises(
        "raise ExceptionGroup('several', [ValueError('a'), KeyError('b')])",
        "ExceptionGroup",
        "several (2 sub-exceptions)",
        since=(3, 11),
    ),
    "a group of errors only is caught": raises(
        "raise BaseExceptionGroup('all', [ExceptionGroup('inner', [ValueError('a')])])",
        "ExceptionGroup",
        "all (1 sub-exception)",
        since=(3, 11),
    ),
    "tasks that fail together": Failure(
        "import asyncio\nasync def fails():\n    raise ValueError('task')\n"
        "async def fail(context):\n    async with asyncio.TaskGroup() as group:\n        group.create_task(fails())\n",
        "ExceptionGroup",
        "unhandled errors in a TaskGroup (1 sub-exception)",
        None,
        (3, 11),
    ),
    # Where it was.
    "through a helper": Failure(
        "def helper_of_fail():\n    raise ValueError('deep')\ndef fail(context):\n    return helper_of_fail()\n",
        "ValueError",
        "deep",
        (("fail", "return helper_of_fail()"), ("helper_of_fail", "raise ValueError('deep')")),
    ),
    "without a traceback of its own": raises("raise ValueError('bare').with_traceback(None)", "ValueError", "bare"),
    "raised before, elsewhere": Failure(
        "def fail(context):\n    try:\n        raise ValueError('kept')\n    except ValueError as caught:\n"
        "        kept = caught\n    raise kept\n",
        "ValueError",
        "kept",
        (("fail", "raise kept"), ("fail", "raise ValueError('kept')")),
    ),
    "by something to await": Failure(
        "class Awaited:\n    def __await__(self):\n        yield from ()\n        raise ValueError('awaited')\n"
        "def fail(context):\n    return Awaited()\n",
        "ValueError",
        "awaited",
        None,
    ),
    # Results.
    "a set": refused("{1, 2}", "Object of type set is not JSON serializable"),
    "an object": refused("object()", "Object of type object is not JSON serializable"),
    "an exception": refused("ValueError('m')", "Object of type ValueError is not JSON serializable"),
    "a key that is a tuple": refused("{(1, 2): 3}", "keys must be str, int, float, bool or None, not tuple"),
    "bytes within that are no text": refused(
        "[b'\\xff']", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
    ),
    "a circle": refused(
        "endless()", "Circular reference detected", before="def endless():\n    a = []\n    a.append(a)\n    return a"
    ),
    "an _asdict that raises": refused(
        "BadRecord()", "no fields", before="class BadRecord:\n    def _asdict(self): raise ValueError('no fields')"
    ),
}
"""All of these are handler errors: the sandbox serves on."""


@dataclass(frozen=True)
class Exit:
    """A module and how its process ends. `log` is in its output."""

    source: str
    status: int
    log: str = ""
    since: tuple[int, int] = (3, 9)


def leaves(statement: str, status: int, log: str = "", *, since: tuple[int, int] = (3, 9)) -> Exit:
    """A handler that ends with this statement."""
    source = f"import atexit, os, sys, threading\ndef handler(event, context):\n    {statement}\n    return 'went on'\n"
    return Exit(source, status, log, since)


EXITS: dict[str, Exit] = {
    "SystemExit": leaves("raise SystemExit", 0),
    "SystemExit(None)": leaves("raise SystemExit(None)", 0),
    "SystemExit(0)": leaves("raise SystemExit(0)", 0),
    "SystemExit(1)": leaves("raise SystemExit(1)", 1),
    "SystemExit(256)": leaves("raise SystemExit(256)", 0),
    "SystemExit of a text": leaves("raise SystemExit('that is all')", 1, "that is all\n"),
    "SystemExit of an object that cannot be shown": leaves(
        "raise SystemExit(type('Odd', (), {'__str__': lambda self: 1 / 0})())", 1
    ),
    "KeyboardInterrupt": leaves("raise KeyboardInterrupt('stop')", -2, "KeyboardInterrupt: stop\n"),
    "GeneratorExit": leaves("raise GeneratorExit('gone')", 1, "GeneratorExit: gone\n"),
    "another BaseException": leaves("raise type('Stop', (BaseException,), {})('now')", 1, "Stop: now\n"),
    "a BaseException whose __str__ raises": leaves(
        "raise type('Stop', (BaseException,), {'__str__': lambda self: 1 / 0})", 1, "Stop: <exception str() failed>\n"
    ),
    "a group with an exit in it": leaves(
        "raise BaseExceptionGroup('mixed', [SystemExit(5), ValueError('m')])",
        1,
        "BaseExceptionGroup: mixed (2 sub-exceptions)\n",
        since=(3, 11),
    ),
    "an exit while an error is handled": Exit(
        "def handler(event, context):\n    try:\n        1 / 0\n    except ZeroDivisionError:\n"
        "        raise SystemExit(6)\n",
        6,
    ),
    "an exit in a coroutine": Exit("async def handler(event, context):\n    raise SystemExit(4)\n", 4),
    "an exit in a generator": Exit("def handler(event, context):\n    raise SystemExit(4)\n    yield\n", 4),
    "an exit in an async generator": Exit(
        "async def handler(event, context):\n    raise SystemExit(4)\n    yield\n", 4
    ),
    "os._exit": leaves("print('in the buffer', end=''); os._exit(9)", 9),
    "os.abort": leaves("os.abort()", -6),
    "an exit handler that raises": leaves(
        "atexit.register(print, 'first registered'); atexit.register(lambda: 1 / 0); sys.exit(3)",
        3,
        "first registered\n",
    ),
    "an exit handler that exits": leaves("atexit.register(sys.exit, 7); sys.exit(3)", 3),
    "sys.excepthook raises": leaves("sys.excepthook = None; raise GeneratorExit", 1),
}
"""All of these end the process."""

INIT: dict[str, tuple[str, str, str, str]] = {
    # handler, module, errorType, errorMessage
    "no dot": (
        "app",
        "",
        "Runtime.MalformedHandlerName",
        "Bad handler 'app': not enough values to unpack (expected 2, got 1)",
    ),
    "nothing": (
        "",
        "",
        "Runtime.MalformedHandlerName",
        "Bad handler '': not enough values to unpack (expected 2, got 1)",
    ),
    "no such module": (
        "nomod.handler",
        "",
        "Runtime.ImportModuleError",
        "Unable to import module 'nomod': No module named 'nomod'",
    ),
    "no such package": (
        "pkg/mod.handler",
        "",
        "Runtime.ImportModuleError",
        "Unable to import module 'pkg/mod': No module named 'pkg'",
    ),
    "no such library": (
        "app.handler",
        "import nosuchlibrary\n",
        "Runtime.ImportModuleError",
        "Unable to import module 'app': No module named 'nosuchlibrary'",
    ),
    "an ImportError of its own": (
        "app.handler",
        "raise ImportError('not on this host')\n",
        "Runtime.ImportModuleError",
        "Unable to import module 'app': not on this host",
    ),
    "a relative import": (
        "app.handler",
        "from . import other\n",
        "Runtime.ImportModuleError",
        "Unable to import module 'app': attempted relative import with no known parent package",
    ),
    "no such attribute": (
        "app.nosuch",
        "handler = 1\n",
        "Runtime.HandlerNotFound",
        "Handler 'nosuch' missing on module 'app'",
    ),
    "a built-in module": (
        "time.sleep",
        "",
        "Runtime.BuiltInModuleConflict",
        "Cannot use built-in module time as a handler module",
    ),
    "a module that raises": ("app.handler", "raise KeyError('config')\n", "KeyError", "'config'"),
    "a module that cannot say why": (
        "app.handler",
        "class Mute(Exception):\n    def __str__(self): return 1 / 0\nraise Mute\n",
        "Mute",
        FAILED_STR,
    ),
}
"""All of these fail in the init phase."""

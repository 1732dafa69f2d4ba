"""The root handler that AWS preinstalls, put in place at the moment the function first imports logging.

Importing logging ahead would cost every sandbox 0.5 ms and half a megabyte, most of them for nothing. As on AWS,
logging.basicConfig then does nothing, for the root logger has a handler. Source: awslambdaric/bootstrap.py
(_setup_logging) and lambda_runtime_log_utils.py.
"""

from __future__ import annotations

import os
import sys
import time

from . import marshal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    RequestIds = Callable[[], tuple[str, str | None]]  # request id and tenant id of the current invocation

_TEXT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
_TEXT_TIME = "%Y-%m-%dT%H:%M:%S"
_JSON_TIME = "%Y-%m-%dT%H:%M:%SZ"
# What every record has: anything else came in by `extra` and belongs into the JSON form.
_RECORD_FIELDS = frozenset(
    (
        *("name", "msg", "args", "levelname", "levelno", "pathname", "filename", "module", "exc_info", "exc_text"),
        *("stack_info", "lineno", "funcName", "created", "msecs", "relativeCreated", "thread", "threadName"),
        *("processName", "process", "taskName", "aws_request_id", "tenant_id", "message", "asctime"),
    )
)


def arm(request_ids: RequestIds, json_format: bool) -> None:
    """Install the handler now if logging is loaded already, else when it is."""
    if "logging" in sys.modules:
        _install(sys.modules["logging"], request_ids, json_format)
    else:
        sys.meta_path.insert(0, _LoggingFinder(request_ids, json_format))


class _LoggingFinder:
    """A meta-path finder for the one module, which takes itself away once that is loaded."""

    def __init__(self, request_ids: RequestIds, json_format: bool) -> None:
        self._request_ids = request_ids
        self._json_format = json_format

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "logging":
            return None
        for finder in list(sys.meta_path):
            spec: Any = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _LoggingLoader(spec.loader, self)
                return spec
        return None

    def loaded(self, module: Any) -> None:
        """Logging is there: set it up."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        _install(module, self._request_ids, self._json_format)


class _LoggingLoader:
    """The real loader with one thing to do after it."""

    def __init__(self, inner: Any, finder: _LoggingFinder) -> None:
        self._inner = inner
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create_module(self, spec: Any) -> Any:
        return self._inner.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__loader__ = module.__spec__.loader = self._inner
        self._inner.exec_module(module)
        self._finder.loaded(module)


def _install(logging: Any, request_ids: RequestIds, json_format: bool) -> None:
    try:
        handler = _handler_class(logging)(request_ids)
        logging.Formatter.converter = time.gmtime
        formatter = _json_formatter_class(logging)() if json_format else logging.Formatter(_TEXT, _TEXT_TIME)
        handler.setFormatter(formatter)
        root = logging.getLogger()
        level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
        level = {"TRACE": "DEBUG", "FATAL": "CRITICAL"}.get(level, level)
        if isinstance(logging.getLevelName(level), int):
            root.setLevel(level)
        root.addHandler(handler)
    except AttributeError:  # the function brings a module of its own that is called logging
        pass


def _handler_class(logging: Any) -> Any:
    class LambdaLoggerHandler(logging.Handler):  # type: ignore[misc]
        """Writes to sys.stdout as it is at the moment, each record ended by a line feed."""

        def __init__(self, request_ids: RequestIds) -> None:
            super().__init__()
            self._request_ids = request_ids

        def emit(self, record: Any) -> None:
            try:
                record.aws_request_id, record.tenant_id = self._request_ids()
                text = self.format(record)
                sys.stdout.write(text if text.endswith("\n") else text + "\n")
            except RecursionError:
                raise
            except Exception:
                self.handleError(record)

    return LambdaLoggerHandler


def _json_formatter_class(logging: Any) -> Any:
    class JsonFormatter(logging.Formatter):  # type: ignore[misc]
        """One JSON object a record, with AWS's names."""

        def __init__(self) -> None:
            super().__init__(datefmt=_JSON_TIME)

        def format(self, record: Any) -> str:
            fields = {
                "timestamp": self.formatTime(record, self.datefmt),
                "level": record.levelname,
                "message": record.getMessage(),
                "logger": record.name,
                "requestId": record.aws_request_id,
                "tenantId": record.tenant_id,
            }
            if record.exc_info and record.exc_info[0] is not None:
                kind, error, trace = record.exc_info
                import traceback

                fields["stackTrace"] = traceback.format_tb(trace)
                fields["errorType"] = kind.__name__
                fields["errorMessage"] = str(error)
                fields["location"] = f"{record.pathname}:{record.funcName}:{record.lineno}"
            for name, value in vars(record).items():
                if name not in _RECORD_FIELDS and name not in fields:
                    fields[name] = value
            return marshal.encode({name: value for name, value in fields.items() if value is not None}).decode()

    return JsonFormatter

"""A page of 50 out of 5,000 functions, as ListFunctions gives it: by boto3, and by a bare HTTP client.

Theory of operation: the registry, the code store and the HTTP front of an engine are a process of their own
(`python -m bench.listing COUNT`, its port on standard output, its end with that of standard input). Sandboxes have no
part in a list: the process has none, and needs no root. Pages are asked for from the first, the middle and the last of
the functions in turns, of $LATEST and of every version.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http.client
import io
import itertools
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvloop

from bench.web import lambda_client
from engine.cli.benching.comparison import summary
from engine.cli.benching.facts import ROOT
from engine.cli.benching.show import ms
from engine.fabric.sqlite import Sqlite
from engine.registry.api import ConfigChange
from engine.registry.attached import STORE_FILE as ATTACHED_FILE
from engine.registry.attached import Attached
from engine.registry.code import LocalCodeStore
from engine.registry.functions import FunctionRegistry
from engine.registry.schema import MIGRATIONS, STORE_FILE
from engine.rest.server import RestServer

NAME = "list-5000"
FUNCTIONS = 5_000
PAGE = 50
WITH_VERSION_EVERY = 10
_RUNTIME = "python3.11"


def measure(rounds: int) -> dict[str, Any]:
    """The row of so many rounds, each of one page from each place."""
    took: dict[str, list[float]] = {"boto3": [], "http": []}
    with _front(FUNCTIONS) as port:
        client = lambda_client(f"127.0.0.1:{port}")
        connection = http.client.HTTPConnection("127.0.0.1", port)
        places = [_function(number) for number in (0, FUNCTIONS // 2, FUNCTIONS - PAGE - 1)]
        for turn, (after, every) in zip(range(-2, rounds * 2 * len(places)), itertools.cycle(_pages(places))):
            wanted = {"Marker": after, **({"FunctionVersion": "ALL"} if every else {})}
            by_boto3 = _timed(partial(client.list_functions, MaxItems=PAGE, **wanted), _listed)
            by_http = _timed(partial(_read, connection, urlencode({"MaxItems": PAGE, **wanted})), _counted)
            if turn >= 0:  # the first of each are of clients that set themselves up
                took["boto3"].append(by_boto3)
                took["http"].append(by_http)
        connection.close()
        client.close()
    return {
        "name": NAME,
        "functions": FUNCTIONS,
        "rounds": rounds,
        "page_us": summary(took["boto3"]),
        "page_http_us": summary(took["http"]),
    }


HEAD = ("A PAGE OF 50 FUNCTIONS", "OUT OF", "BY BOTO3, P50", "P99", "BY HTTP, P50", "P99")


def table(rows: Sequence[dict[str, Any]]) -> list[Sequence[str]]:
    """One line, where it was measured."""
    return [
        (
            "ListFunctions",
            f"{row['functions']:,}",
            *(ms(row[kind][name]) for kind in ("page_us", "page_http_us") for name in ("p50", "p99")),
        )
        for row in rows
        if "page_http_us" in row
    ]


def _pages(places: Sequence[str]) -> list[tuple[str, bool]]:
    return [(after, every) for every in (False, True) for after in places]


def _function(number: int) -> str:
    return f"function-{number:05}"


def _timed(ask: Callable[[], Any], count: Callable[[Any], int]) -> float:
    """Microseconds. An answer of fewer functions than a page would be no page."""
    begun = time.perf_counter()
    answer = ask()
    took = (time.perf_counter() - begun) * 1e6
    if count(answer) != PAGE:
        raise RuntimeError(f"a page of {count(answer)} functions")
    return took


def _listed(answer: dict[str, Any]) -> int:
    return len(answer["Functions"])


def _counted(body: bytes) -> int:
    return body.count(b'"FunctionName"')


def _read(connection: http.client.HTTPConnection, query: str) -> bytes:
    connection.request("GET", f"/2015-03-31/functions/?{query}")
    return connection.getresponse().read()


@contextlib.contextmanager
def _front(functions: int) -> Iterator[int]:
    """An HTTP front over so many functions; yields its port."""
    command = [sys.executable, "-m", "bench.listing", str(functions)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(30)


async def _serve(functions: int) -> None:
    with tempfile.TemporaryDirectory(prefix="cleave-bench-") as folder:
        data = Path(folder)
        store = await Sqlite.open(data / STORE_FILE, MIGRATIONS)
        code = await LocalCodeStore.open(data / "code")
        registry = await FunctionRegistry.open(store, code, runtimes=[_RUNTIME])
        attached = await Attached.open(data / ATTACHED_FILE, registry)
        blob = await code.add(_zip())
        change = ConfigChange(runtime=_RUNTIME, handler="app.handler", environment={"STAGE": "bench"})
        for number in range(functions):
            await registry.create(_function(number), change, blob.sha256)
            if number % WITH_VERSION_EVERY == 0:
                await registry.versions.publish(_function(number))
        nobody: Any = None  # nothing is invoked
        server = RestServer(registry, code, nobody, attached, nobody, region="us-east-1", account="000000000000")
        port = await server.start("127.0.0.1", 0)
        # As an engine does at the end of its start: engine/service.py.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000)
        print(port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await server.stop(1)
        for part in (attached, registry, code, store):
            await part.close()


async def _zip() -> AsyncIterator[bytes]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("app.py", "def handler(event, context): return event\n")
    yield archive.getvalue()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1])))

"""Handlers that are awaited: one event loop for the life of the sandbox, and what becomes of tasks left behind."""

from __future__ import annotations

import pytest

from tests.unit.guest.driver import Guest


def test_a_coroutine_is_awaited(any_guest: Guest) -> None:
    any_guest.start(
        """
import asyncio
async def handler(event, context):
    await asyncio.sleep(0.001)
    return {"event": event, "id": context.aws_request_id}
"""
    )
    assert any_guest.result() == {"event": None, "id": "r1"}
    assert any_guest.call([1], request_id="r2") == {"event": [1], "id": "r2"}
    assert any_guest.log == b""


def test_a_handler_that_imports_no_asyncio_is_awaited_too(any_guest: Guest) -> None:
    any_guest.start("async def handler(event, context):\n    return 1\n")
    assert any_guest.result() == 1


def test_a_function_that_is_not_async_may_return_something_to_await(any_guest: Guest) -> None:
    any_guest.start(
        """
class Later:
    def __await__(self):
        return self._run().__await__()
    async def _run(self):
        return "later"
def handler(event, context):
    return Later()
"""
    )
    assert any_guest.result() == "later"


def test_an_awaited_handler_may_return_a_generator(any_guest: Guest) -> None:
    any_guest.start("async def handler(event, context):\n    return (n for n in range(2))\n")
    assert any_guest.frame()[1] == b"0\n1\n"


LOOPS = """
import asyncio
loops = []
async def handler(event, context):
    loops.append(asyncio.get_running_loop())
    return [len(loops), len(set(map(id, loops)))]
"""


def test_every_invocation_has_the_same_loop(any_guest: Guest) -> None:
    any_guest.start(LOOPS)
    assert any_guest.result() == [1, 1]
    assert any_guest.call() == [2, 1]


def test_the_loop_that_module_code_made_its_own_is_used(any_guest: Guest) -> None:
    any_guest.start(
        """
import asyncio
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
made = loop.run_until_complete(asyncio.sleep(0, "made"))
async def handler(event, context):
    return [made, asyncio.get_running_loop() is loop]
"""
    )
    assert any_guest.result() == ["made", True]


@pytest.mark.parametrize(
    "harm",
    [
        "asyncio.run(asyncio.sleep(0))",
        "asyncio.set_event_loop(None)",
        "loop = asyncio.new_event_loop(); asyncio.set_event_loop(loop); loop.close()",
    ],
)
def test_a_loop_that_module_code_used_up_is_no_hindrance(any_guest: Guest, harm: str) -> None:
    any_guest.start(f"import asyncio\n{harm}\nasync def handler(event, context):\n    return 1\n")
    assert any_guest.result() == 1
    assert any_guest.call() == 1
    assert any_guest.log == b""


TASKS = """
import asyncio
steps = []
task = None
async def work():
    for n in range(3):
        steps.append(n)
        await asyncio.sleep(0)
async def handler(event, context):
    global task
    if event == "leave":
        task = asyncio.ensure_future(work())
        return len(steps)
    if event == "look":
        return len(steps)
    await task
    return len(steps)
"""


def test_a_task_left_behind_is_suspended_until_the_next_invocation(any_guest: Guest) -> None:
    any_guest.start(TASKS, "leave")
    made = any_guest.result()
    assert made == 0
    assert any_guest.call("finish") == 3


def test_an_error_names_the_handler_and_nothing_of_the_loop(any_guest: Guest) -> None:
    any_guest.start(
        """
import asyncio
async def inner():
    await asyncio.sleep(0)
    raise KeyError("k")
async def handler(event, context):
    await inner()
"""
    )
    document = any_guest.error()
    assert document["errorType"] == "KeyError"
    assert [entry.split(", in ")[1].split("\n")[0] for entry in document["stackTrace"]] == ["handler", "inner"]


def test_an_exit_in_a_coroutine_ends_the_process(any_guest: Guest) -> None:
    any_guest.start("import sys\nasync def handler(event, context):\n    sys.exit(4)\n")
    assert any_guest.ended() == 4


def test_a_handler_that_cancels_itself_is_an_error(any_guest: Guest) -> None:
    any_guest.start(
        """
import asyncio
async def handler(event, context):
    if event == "cancel":
        asyncio.current_task().cancel()
        await asyncio.sleep(1)
    return 1
""",
        "cancel",
    )
    assert any_guest.error()["errorType"] == "CancelledError"
    assert any_guest.call() == 1

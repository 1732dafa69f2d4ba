"""The zygotes of an engine: one for each runtime and set of modules imported ahead, made when it is first asked for.

Theory of operation. Each is watched by a pidfd: one that dies is replaced at once, unless it never served for a while.
One that is old or has forked often is replaced before it is ended (rotated), so that no start waits and no
address-space layout lives for long; one that nobody asked for in that time is ended. There are so many at most: the one
that was asked for longest ago makes room. A set whose modules cannot be imported is remembered as trouble, and not
tried again for a minute. One that is to end is ended when no start has it.

Lives on the event loop's thread, which is the thread that starts them (see engine.zygote.host).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from engine.errors import EngineError, InvalidArgument, NotInvocable, SandboxFault, Unavailable
from engine.model.host import ZygoteFound
from engine.runtimes.interpreters import Interpreter, packages_of
from engine.sandbox.counts import Counts, Happening
from engine.zygote.host import PRELOAD_STAGE, ZYGOTE_STAGE, Zygote, ZygoteKey

_TROUBLE_S = 60.0
_SERVED_FOR_S = 1.0
"""One that dies younger than this is replaced when it is asked for, lest one that always dies is started for ever."""
_STARTERS = 32
_OWN_AT_ONCE = 8
"""Interpreters that are started for one sandbox each take some 10 MB until they have forked it."""
_LOOK_EVERY_S = 30.0


class ZygoteSettings(msgspec.Struct, frozen=True):
    """How long zygotes live, and how many there are."""

    max_age_s: float = 3_600.0
    max_forks: int = 10_000
    limit: int = 32
    preload_timeout_s: float = 10.0


@dataclass(slots=True, eq=False)
class _Kept:
    """One that serves."""

    key: ZygoteKey
    zygote: Zygote
    pidfd: int
    made_s: float
    asked_s: float
    rotate_s: float  # when it is old, and
    rotate_forks: int  # after how many forks; both are put off where a successor could not be made


class Zygotes:
    """Keeps them. `prepare_to_make` comes before all else."""

    def __init__(
        self,
        interpreters: Mapping[str, Interpreter],
        settings: ZygoteSettings,
        counts: Counts,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interpreters = interpreters
        self._settings = settings
        self._counts = counts
        self._clock = clock
        self._make: Callable[..., Zygote] | None = None
        self._kept: dict[ZygoteKey, _Kept] = {}
        self._first: ZygoteKey | None = None
        self._starting: set[Zygote] = set()
        self._users: dict[Zygote, int] = {}
        self._own = asyncio.Semaphore(_OWN_AT_ONCE)
        self._retired: set[Zygote] = set()
        self._making: dict[ZygoteKey, asyncio.Future[_Kept]] = {}
        self._rotating: set[_Kept] = set()
        self._troubles: dict[ZygoteKey, tuple[float, str]] = {}
        self._changes: dict[str, int] = {}  # of each runtime's interpreter
        self._sizes: dict[ZygoteKey, int] = {}
        self._starters = ThreadPoolExecutor(_STARTERS, thread_name_prefix="cleave-zygote")
        self._tasks: set[asyncio.Task[None]] = set()
        self._look: asyncio.TimerHandle | None = None
        self._closed = False

    def prepare_to_make(self, make: Callable[..., Zygote]) -> None:
        """`make` is Zygote with what is the same for all of this engine's."""
        self._make = make

    async def get(self, key: ZygoteKey) -> Zygote:
        """One to fork from. Raises InvalidArgument for a runtime that is not there, NotInvocable where a module cannot
        be imported ahead, SandboxFault, Unavailable."""
        kept = self._kept.get(key)
        if kept is None:
            kept = await self._first_of(key)
        kept.asked_s = self._clock()
        return kept.zygote

    @contextlib.asynccontextmanager
    async def lent(self, key: ZygoteKey, *, own: bool = False) -> AsyncIterator[Zygote]:
        """One to fork from, which is not ended before the end of the block, unless it dies or does not answer; with
        `own` one that is started for this block alone. Raises as `get` does."""
        async with contextlib.AsyncExitStack() as turn:
            if own:
                await turn.enter_async_context(self._own)
            async with self._lent(key, await (self._one(key) if own else self.get(key)), own) as zygote:
                yield zygote

    @contextlib.asynccontextmanager
    async def _lent(self, key: ZygoteKey, zygote: Zygote, own: bool) -> AsyncIterator[Zygote]:
        self._users[zygote] = self._users.get(zygote, 0) + 1
        try:
            yield zygote
        except SandboxFault as fault:
            if fault.stage == ZYGOTE_STAGE:
                await self._lost(key, zygote)
            raise
        finally:
            self._users[zygote] -= 1
            kept = self._kept.get(key)
            if kept is not None and (kept.zygote.forks >= kept.rotate_forks or self._clock() >= kept.rotate_s):
                self._rotate(kept)
            if not self._users[zygote]:
                del self._users[zygote]
                if own or zygote in self._retired:
                    self._retired.discard(zygote)
                    self._in_background(self._end(zygote))

    async def _lost(self, key: ZygoteKey, zygote: Zygote) -> None:
        """It did not answer. Returns when it is gone; the next `get` makes another."""
        kept = self._kept.get(key)
        if kept is not None and kept.zygote is zygote:
            self._forget(kept)
            self._counts.happened(Happening.ZYGOTE_LOST)
        await self._end(zygote)

    def interpreters_changed(self, runtimes: Iterable[str]) -> None:
        """The interpreters of these runtimes are others, or gone: nothing more is forked from what they were."""
        for kept in [kept for kept in self._kept.values() if kept.key.runtime in runtimes]:
            self._retire(kept)
        for runtime in runtimes:
            self._changes[runtime] = self._changes.get(runtime, 0) + 1
        for key in [key for key in self._troubles if key.runtime in runtimes]:
            del self._troubles[key]

    def trouble(self, key: ZygoteKey) -> str:
        """Why nothing can be forked for this, as far as it is known; "" if nothing is."""
        if key.runtime not in self._interpreters:
            return f"there is no {key.runtime} on this host any more"
        since, why = self._troubles.get(key, (0.0, ""))
        return why if why and self._clock() < since + _TROUBLE_S else ""

    def preload_bytes(self, key: ZygoteKey) -> int:
        """What its modules take, once for all sandboxes; 0 where that is not known."""
        return self._sizes.get(key, 0)

    def reports(self) -> tuple[ZygoteFound, ...]:
        """All that serve, and all that cannot."""
        now = self._clock()
        found = [
            ZygoteFound(
                *key, kept.zygote.pid, int(1_000 * (now - kept.made_s)), kept.zygote.forks, kept.zygote.preload_bytes
            )
            for key, kept in self._kept.items()
        ]
        found += [ZygoteFound(*key, trouble=why) for key in self._troubles if (why := self.trouble(key))]
        return tuple(sorted(found, key=lambda one: (one.runtime, one.preload)))

    def pids(self) -> Mapping[str, int]:
        """The process of each runtime's plain one."""
        return {key.runtime: kept.zygote.pid for key, kept in self._kept.items() if not key.preload}

    def stop(self) -> None:
        """Make no more: starts under way fail."""
        self._closed = True
        for starting in self._starting:
            starting.kill()

    async def close(self) -> None:
        """End all, and once more what was lent until then. Safe to call again."""
        self.stop()
        if self._look is not None:
            self._look.cancel()
        ended = [*(kept.zygote for kept in self._kept.values()), *self._retired]
        for kept in list(self._kept.values()):
            self._forget(kept)
        await asyncio.gather(*(self._end(zygote) for zygote in ended))
        while self._tasks or self._making:
            under_way: set[asyncio.Future[Any]] = set(self._tasks)
            await asyncio.wait(under_way | set(self._making.values()))
        await asyncio.get_running_loop().run_in_executor(None, partial(self._starters.shutdown, wait=True))

    # Making

    async def _first_of(self, key: ZygoteKey) -> _Kept:
        """One for all that ask meanwhile, whoever of them stays to have it."""
        making = self._making.get(key)
        if making is None or making.done():  # what has failed is nobody's answer that asks after it has
            making = self._making[key] = asyncio.ensure_future(self._make_first(key))
            making.add_done_callback(partial(self._made_first, key))
        return await asyncio.shield(making)

    async def _make_first(self, key: ZygoteKey) -> _Kept:
        zygote = await self._one(key)
        kept = self._kept.get(key)
        if kept is not None:  # a rotation was quicker
            await self._end(zygote)
        return kept or self._keep(key, zygote)

    def _made_first(self, key: ZygoteKey, making: asyncio.Future[_Kept]) -> None:
        if self._making.get(key) is making:
            del self._making[key]
        if not making.cancelled():
            making.exception()  # whoever asked gets it; nobody may be left to

    async def _one(self, key: ZygoteKey) -> Zygote:
        why = self.trouble(key) if key.runtime in self._interpreters else ""
        if why:
            raise _refused(key, why)
        return await self._start(key)

    async def _start(self, key: ZygoteKey) -> Zygote:
        interpreter = self._interpreters.get(key.runtime)
        if interpreter is None:
            raise InvalidArgument(
                f"there is no {key.runtime} on this host", fix=f"use one of {', '.join(sorted(self._interpreters))}"
            )
        if self._is_closed():
            raise _stopping()
        changes = self._changes.get(key.runtime)
        assert self._make is not None
        start = asyncio.get_running_loop().run_in_executor
        packages = await start(self._starters, packages_of, interpreter) if key.preload else ()
        if self._is_closed():
            raise _stopping()
        within_s = {"ready_within_s": self._settings.preload_timeout_s} if key.preload else {}
        zygote = self._make(interpreter, preload=key.preload, packages=packages, **within_s)
        try:
            zygote.spawn()
            self._starting.add(zygote)
            await start(self._starters, zygote.wait_ready)
        except asyncio.CancelledError:
            zygote.kill()  # the thread that waits for it sees that, and closes it
            raise
        except SandboxFault as fault:
            if fault.stage != PRELOAD_STAGE:
                raise
            self._troubles[key] = (self._clock(), fault.text)
            self._counts.happened(Happening.PRELOAD_REFUSED)
            raise _refused(key, fault.text) from fault
        finally:
            self._starting.discard(zygote)
        if changes != self._changes.get(key.runtime) or self._is_closed():
            await self._end(zygote)
            raise SandboxFault(ZYGOTE_STAGE, 0, "its interpreter is another, or the engine is stopping")
        self._troubles.pop(key, None)
        self._sizes[key] = zygote.preload_bytes
        return zygote

    def _is_closed(self) -> bool:
        return self._closed

    def _keep(self, key: ZygoteKey, zygote: Zygote) -> _Kept:
        now = self._clock()
        end_s, forks = now + self._settings.max_age_s, self._settings.max_forks
        kept = _Kept(key, zygote, os.pidfd_open(zygote.pid), now, now, end_s, forks)
        self._first = self._first or key
        self._make_room()
        self._kept[key] = kept
        asyncio.get_running_loop().add_reader(kept.pidfd, self._died, kept)
        if self._look is None:
            self._look_again()
        return kept

    def _make_room(self) -> None:
        others = [kept for kept in self._kept.values() if kept.key != self._first]
        if len(self._kept) >= self._settings.limit and others:
            self._retire(min(others, key=lambda kept: kept.asked_s))

    # Ending

    def _died(self, kept: _Kept) -> None:
        if self._kept.get(kept.key) is not kept:
            return
        self._forget(kept)
        self._counts.happened(Happening.ZYGOTE_LOST)
        self._in_background(self._end(kept.zygote))
        if self._clock() - kept.made_s >= _SERVED_FOR_S:
            self._in_background(self._revive(kept.key))

    async def _revive(self, key: ZygoteKey) -> None:
        with contextlib.suppress(EngineError):
            await self._first_of(key)

    def _forget(self, kept: _Kept) -> None:
        del self._kept[kept.key]
        asyncio.get_running_loop().remove_reader(kept.pidfd)
        os.close(kept.pidfd)

    def _retire(self, kept: _Kept) -> None:
        """End it when nobody has it any more."""
        self._forget(kept)
        if kept.zygote in self._users:
            self._retired.add(kept.zygote)
        else:
            self._in_background(self._end(kept.zygote))

    async def _end(self, zygote: Zygote) -> None:
        await asyncio.get_running_loop().run_in_executor(None, zygote.close)

    # Rotating

    def _look_again(self) -> None:
        """Look at those that nobody asks for."""
        now = self._clock()
        for key in [key for key in self._troubles if not self.trouble(key)]:
            del self._troubles[key]
        for kept in list(self._kept.values()):
            if now < kept.rotate_s:
                continue
            if kept.key == self._first or kept.asked_s > kept.made_s:
                self._rotate(kept)
            else:
                self._retire(kept)
        pause = min(_LOOK_EVERY_S, max(0.05, self._settings.max_age_s / 4))
        self._look = asyncio.get_running_loop().call_later(pause, self._look_again)

    def _rotate(self, kept: _Kept) -> None:
        if kept not in self._rotating and not self._closed:
            self._rotating.add(kept)
            self._in_background(self._replace(kept))

    async def _replace(self, kept: _Kept) -> None:
        try:
            successor = await self._start(kept.key)
        except EngineError:
            kept.rotate_s = self._clock() + _TROUBLE_S
            kept.rotate_forks = kept.zygote.forks + self._settings.max_forks
            self._counts.happened(Happening.ROTATION_FAILED)
            return
        finally:
            self._rotating.discard(kept)
        if self._kept.get(kept.key) is kept:
            self._retire(kept)
            self._counts.happened(Happening.ZYGOTE_ROTATED)
        if kept.key in self._kept:
            await self._end(successor)
        else:
            self._keep(kept.key, successor)

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _refused(key: ZygoteKey, why: str) -> NotInvocable:
    return NotInvocable(
        f"{key.runtime} cannot import ahead what the function's preload names: {why}",
        fix="change the function's preload; a module that is left out of it can be imported by the function itself",
        metadata={"field": "config.preload"},
    )


def _stopping() -> Unavailable:
    return Unavailable("the engine is stopping", fix="try again when it has started")

"""A call that blocks, on a thread of its own, awaited."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from smolvm import _smolvm

T = TypeVar("T")

_GRACE = 0.4
"""How many seconds a task that is cancelled waits for its call to end."""

_running: set[_smolvm.Cancel] = set()


async def call(
    work: Callable[[_smolvm.Cancel], T], *, discard: Callable[[T], object] | None = None
) -> T:
    """Awaits ``work``, which is given what ends it when this task is cancelled.

    What it returns all the same, when nobody awaits it any more, goes to ``discard``. Neither runs
    on the event loop's thread.
    """
    running = _Call(work, discard)
    running.start()
    try:
        await asyncio.wait([running.ended])
    except asyncio.CancelledError:
        running.abandon()
        await asyncio.wait([running.ended], timeout=_GRACE)
        raise
    except BaseException:
        # The coroutine is closed.
        running.abandon()
        raise
    return running.take()


class _Call(Generic[T]):
    """One call: a thread that works, and a loop that waits for it."""

    def __init__(
        self, work: Callable[[_smolvm.Cancel], T], discard: Callable[[T], object] | None
    ) -> None:
        self._work = work
        self._discard = discard
        self._cancel = _smolvm.Cancel()
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._abandoned = False
        self._results: list[T] = []
        self._error: BaseException | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def start(self) -> None:
        context = contextvars.copy_context()
        _running.add(self._cancel)
        try:
            threading.Thread(target=context.run, args=[self._run], name="smolvm-aio").start()
        except BaseException:
            _running.discard(self._cancel)
            raise

    def take(self) -> T:
        """The result of what has ended."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                # Else the error and its traceback would hold each other.
                del error, self
        return self._results.pop()

    def abandon(self) -> None:
        """Ends the call, and has its result discarded."""
        self._cancel.cancel()
        with self._lock:
            self._abandoned = True
            results, self._results = self._results, []
        if results and self._discard is not None:
            threading.Thread(target=self._discard, args=results, name="smolvm-aio").start()

    def _run(self) -> None:
        try:
            result = self._work(self._cancel)
        except BaseException as error:  # It is raised where the call is awaited.
            self._error = error
        else:
            with self._lock:
                kept = not self._abandoned
                if kept:
                    self._results.append(result)
            if not kept and self._discard is not None:
                self._discard(result)
            del result
        finally:
            _running.discard(self._cancel)
            post(self._loop, self._end)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


def post(
    loop: asyncio.AbstractEventLoop,
    function: Callable[[], object],
    context: contextvars.Context | None = None,
) -> None:
    """Has a function run on the thread of a loop, unless that is closed."""
    try:
        loop.call_soon_threadsafe(function, context=context)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _end_all() -> None:
    for cancel in list(_running):
        cancel.cancel()


# The interpreter waits for all threads before it exits. Calls whose loop was left in the middle
# would keep it waiting. (`atexit` comes too late for that.)
_register = getattr(threading, "_register_atexit", None)
if _register is not None:
    _register(_end_all)

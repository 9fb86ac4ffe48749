"""A command that runs in a VM, its streams awaited."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

from typing_extensions import Self

from smolvm import _smolvm
from smolvm.aio._call import call
from smolvm.exceptions import OperationTimeoutError, SmolVMError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_PART = 64 * 1024
_MOST = 64 * 1024 * 1024
"""How much is kept for one reading: a guest must not fill the memory of its host."""


class StreamReader:
    """What a command writes, read as it comes; much like :class:`asyncio.StreamReader`.

    A reading that is cancelled loses nothing: the next one has what it had. Several tasks may read;
    each gets a part.

    Example::

        async for line in process.stdout:
            print(line.decode(), end="")
    """

    def __init__(self, native: _smolvm.Process, is_stderr: bool) -> None:
        self._native = native
        self._is_stderr = is_stderr
        self._buffer = bytearray()
        self._is_at_end = False
        self._turn = asyncio.Lock()
        # Between the threads of two readings, of which the first one was cancelled.
        self._lock = threading.Lock()
        self._arrived: deque[bytes] = deque()

    async def read(self, n: int = -1) -> bytes:
        """Reads at most ``n`` bytes, as soon as there are any; without ``n`` all up to the end.

        Returns:
            The bytes; none at the end.

        Raises:
            SmolVMError: Without ``n``, more than 64 MiB come.
        """
        async with self._turn:
            if n == 0:
                return b""
            if n > 0:
                if not self._buffer:
                    await self._fill()
                return self._take(n)
            while await self._fill():
                self._check()
            return self._take(len(self._buffer))

    async def readline(self) -> bytes:
        """Reads a line, with its end.

        Returns:
            The line; what comes last may have no line end; nothing at the end.

        Raises:
            SmolVMError: More than 64 MiB come without a line end.
        """
        async with self._turn:
            searched = 0
            while (end := self._buffer.find(b"\n", searched)) < 0:
                self._check()
                searched = len(self._buffer)
                if not await self._fill():
                    return self._take(len(self._buffer))
            return self._take(end + 1)

    async def readexactly(self, n: int) -> bytes:
        """Reads ``n`` bytes.

        Raises:
            asyncio.IncompleteReadError: The end comes first. It has what came before.
        """
        async with self._turn:
            while len(self._buffer) < n:
                if not await self._fill():
                    raise asyncio.IncompleteReadError(self._take(n), n)
            return self._take(n)

    def at_eof(self) -> bool:
        """Whether the end was seen and all was read."""
        return self._is_at_end and not self._buffer

    async def close(self) -> None:
        """Throws away what is not read yet, and what still comes."""
        self._is_at_end = True
        self._buffer.clear()
        await call(lambda _: self._native.close_output(self._is_stderr))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def _fill(self) -> bool:
        """Waits for more; whether it has come."""
        self._collect()
        if self._is_at_end:
            return False
        before = len(self._buffer)
        await call(self._read)
        self._collect()
        return len(self._buffer) > before

    def _read(self, cancel: _smolvm.Cancel) -> None:
        with self._lock:
            if not self._arrived:
                self._arrived.append(self._native.read(self._is_stderr, _PART, cancel))

    def _collect(self) -> None:
        while self._arrived:
            part = self._arrived.popleft()
            self._buffer += part
            self._is_at_end |= not part

    def _check(self) -> None:
        if len(self._buffer) > _MOST:
            message = f"more than {_MOST} bytes have come at once: read them in parts, with read(n)"
            raise SmolVMError(message, {"limit": _MOST})

    def _take(self, n: int) -> bytes:
        taken = bytes(self._buffer[:n])
        del self._buffer[:n]
        return taken


class StreamWriter:
    """What a command reads. Nothing is kept back, so that there is nothing to flush."""

    def __init__(self, native: _smolvm.Process) -> None:
        self._native = native
        self._turn = asyncio.Lock()
        self._is_closed = False

    async def write(self, data: ReadableBuffer) -> None:
        """Writes all of ``data``; waits while the command does not read. Of one that is cancelled a
        part may have been written.

        Raises:
            BrokenPipeError: The command has ended, or the stream is closed.
        """
        data = bytes(memoryview(data))

        def write(cancel: _smolvm.Cancel) -> None:
            left = memoryview(data)
            while left and not cancel.cancelled:
                left = left[self._native.write(bytes(left[:_PART]), cancel) :]

        async with self._turn:
            if self._is_closed:
                raise BrokenPipeError("standard input is closed")
            await call(write)

    async def close(self) -> None:
        """Ends what the command reads."""
        self._is_closed = True
        await call(lambda _: self._native.close_stdin())


class Process:
    """A command that runs in a VM, as ``VM.popen`` has started it; much like
    :class:`asyncio.subprocess.Process`.

    What is not read of its output makes it wait, after some hundred KiB. As a context manager it
    ends with its block: a command that still runs is killed with all of its process group.

    Attributes:
        pid: Its number in the guest.
        stdin: What it reads, to be written to; None unless it was started with
            ``stdin=subprocess.PIPE``.
        stdout: What it writes, to be read as it comes.
        stderr: What it writes to standard error.
        returncode: Its exit code once ``poll`` or ``wait`` has seen its end, else None; where a
            signal ended it, the signal's number, negative.
    """

    stdin: StreamWriter | None
    stdout: StreamReader
    stderr: StreamReader
    returncode: int | None

    def __init__(self, native: _smolvm.Process) -> None:
        self._native = native
        self.pid: int = native.pid
        self.stdin = StreamWriter(native) if native.has_stdin else None
        self.stdout = StreamReader(native, is_stderr=False)
        self.stderr = StreamReader(native, is_stderr=True)
        self.returncode = None

    async def poll(self) -> int | None:
        """Whether it has ended: its exit code, or None."""
        return await self._wait(0.0)

    async def wait(self, timeout: float | None = None) -> int:
        """Waits until it has ended. One that is cancelled leaves it running.

        Args:
            timeout: How many seconds to wait at most. It goes on running after that.

        Returns:
            Its exit code; where a signal ended it, the signal's number, negative.

        Raises:
            OperationTimeoutError: It still runs.
        """
        code = await self._wait(timeout)
        if code is None:
            message = f"the command still runs after {timeout} s; it was not killed"
            raise OperationTimeoutError(message, {"timeout": timeout, "pid": self.pid})
        return code

    async def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self.returncode = await call(lambda cancel: self._native.wait(timeout, cancel))
        return self.returncode

    async def send_signal(self, signal_number: int) -> None:
        """Sends a signal to it and to all of its process group. Does nothing once it has ended."""
        await call(lambda _: self._native.send_signal(signal_number))

    async def terminate(self) -> None:
        """Asks it to end (``SIGTERM``)."""
        await self.send_signal(signal.SIGTERM)

    async def kill(self) -> None:
        """Kills it (``SIGKILL``)."""
        await self.send_signal(signal.SIGKILL)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # In one call, so that it is all done where the task is cancelled meanwhile.
        self.returncode = await call(self._end)

    def _end(self, cancel: _smolvm.Cancel) -> int | None:
        native = self._native
        native.close_stdin()
        code = native.wait(0.0)
        if code is None:
            native.send_signal(signal.SIGKILL)
        # Its end is told after its output, which nobody reads any more.
        native.close_output(False)
        native.close_output(True)
        return native.wait(None, cancel) if code is None else code

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else f"exited with {self.returncode}"
        return f"<aio.Process {self.pid} {state}>"

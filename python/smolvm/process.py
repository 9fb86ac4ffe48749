"""A command that runs in a VM, its streams as they come."""

from __future__ import annotations

import io
import signal
from types import TracebackType
from typing import TYPE_CHECKING

from typing_extensions import Self

from smolvm import _smolvm
from smolvm.exceptions import OperationTimeoutError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["Process"]


class _Output(io.RawIOBase):
    """Standard output or error."""

    def __init__(self, native: _smolvm.Process, is_stderr: bool) -> None:
        self._native = native
        self._is_stderr = is_stderr

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._native.read(self._is_stderr, len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._native.close_output(self._is_stderr)
        super().close()


class _Input(io.RawIOBase):
    """Standard input."""

    def __init__(self, native: _smolvm.Process) -> None:
        self._native = native

    def writable(self) -> bool:
        return True

    def write(self, buffer: ReadableBuffer, /) -> int:
        return self._native.write(bytes(memoryview(buffer)))

    def close(self) -> None:
        if not self.closed:
            self._native.close_stdin()
        super().close()


class Process:
    """A command that runs in a VM, as ``VM.popen`` has started it; much like
    :class:`subprocess.Popen`.

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

    stdin: io.BufferedWriter | None
    stdout: io.BufferedReader
    stderr: io.BufferedReader
    returncode: int | None

    def __init__(self, native: _smolvm.Process) -> None:
        self._native = native
        self.pid: int = native.pid
        self.stdout = io.BufferedReader(_Output(native, is_stderr=False))
        self.stderr = io.BufferedReader(_Output(native, is_stderr=True))
        self.stdin = io.BufferedWriter(_Input(native)) if native.has_stdin else None
        self.returncode = None

    def poll(self) -> int | None:
        """Whether it has ended: its exit code, or None."""
        return self._wait(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Waits until it has ended.

        Args:
            timeout: How many seconds to wait at most. It goes on running after that.

        Returns:
            Its exit code; where a signal ended it, the signal's number, negative.

        Raises:
            OperationTimeoutError: It still runs.
        """
        code = self._wait(timeout)
        if code is None:
            message = f"the command still runs after {timeout} s; it was not killed"
            raise OperationTimeoutError(message, {"timeout": timeout, "pid": self.pid})
        return code

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self.returncode = self._native.wait(timeout)
        return self.returncode

    def send_signal(self, signal_number: int) -> None:
        """Sends a signal to it and to all of its process group. Does nothing once it has ended."""
        self._native.send_signal(signal_number)

    def terminate(self) -> None:
        """Asks it to end (``SIGTERM``)."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kills it (``SIGKILL``)."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self.stdin is not None:
                self.stdin.close()
        except BrokenPipeError:
            pass  # It has ended without reading all of it.
        finally:
            if self.poll() is None:
                self.kill()
            # Its end is told after its output, which nobody reads any more.
            self.stdout.close()
            self.stderr.close()
            self.wait()

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else f"exited with {self.returncode}"
        return f"<Process {self.pid} {state}>"

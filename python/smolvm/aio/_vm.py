"""Virtual machines, awaited."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Generator, Mapping
from types import TracebackType
from typing import Any, TypeVar

from typing_extensions import Self, Unpack

from smolvm import _smolvm
from smolvm._arguments import (
    MAX_OUTPUT,
    CommandLine,
    encoded,
    input_bytes,
    input_or_pipe,
    variables,
)
from smolvm._paths import StrPath
from smolvm.aio._call import call
from smolvm.aio._process import Process
from smolvm.exceptions import SmolVMError
from smolvm.vm import (
    CommandResult,
    Snapshot,
    VMConfig,
    VMFields,
    VMInfo,
    VMState,
    located,
)

T = TypeVar("T")


class SmolVM:
    """A virtual machine that boots an image and runs commands in it: :class:`smolvm.SmolVM`,
    awaited.

    It is made by ``async with``, by ``await``, or by the first of its calls, and does nothing
    before :meth:`start`. Leaving an ``async with`` block stops and deletes it; so does the end of
    this process, by whatever means. All calls can be made from many tasks at once.

    Args:
        config: What it is to be.

    Raises:
        VMAlreadyExistsError: Another VM has the id. (This and what follows when it is made.)
        ImageError: The kernel cannot be booted.
        HostError: This host lacks something.

    Example::

        async with SmolVM(config) as vm:
            await vm.start()
            print((await vm.run("uname -r")).stdout)

        vm = await SmolVM(config)
        await vm.delete()
    """

    def __init__(self, config: VMConfig) -> None:
        self._config: VMConfig | None = config
        self._native: _smolvm.Machine | None = None
        self._making = asyncio.Lock()

    @classmethod
    async def from_id(cls, vm_id: str) -> SmolVM:
        """The VM of this id, whichever process made it.

        Raises:
            VMNotFoundError: There is none.
        """
        vm = SmolVM.__new__(SmolVM)
        vm._config = None
        vm._making = asyncio.Lock()
        vm._native = await call(lambda _: _smolvm.Machine.from_id(vm_id))
        return vm

    @property
    def vm_id(self) -> str:
        """The name of the VM.

        Raises:
            SmolVMError: It is made up, and the VM was not made yet.
        """
        vm_id = self._known_id()
        if vm_id is None:
            raise SmolVMError("the VM was not made yet, and has no id: await it first")
        return vm_id

    async def status(self) -> VMState:
        """How it does."""
        return VMState(await self._call(lambda native, _: native.status))

    async def info(self) -> VMInfo:
        """What is known of it."""
        return VMInfo(**await self._call(lambda native, _: native.info()))

    async def start(self, boot_timeout: float = 30.0) -> None:
        """Boots it; returns when it runs commands. Does nothing where it runs already. A boot that
        is cancelled leaves it stopped.

        Args:
            boot_timeout: How many seconds it may take.

        Raises:
            OperationTimeoutError: It takes longer. The details have the end of its ``console``.
            SmolVMError: It ended while it booted, or belongs to another process.
        """
        await self._call(lambda native, cancel: native.start(boot_timeout, cancel))

    async def stop(self, timeout: float = 3.0) -> None:
        """Ends the guest in order, then by force. It can be started again, with its disk as it is.
        Does nothing where it does not run. It ends also where the task is cancelled meanwhile.

        Args:
            timeout: How many seconds the guest may take to end in order.
        """
        if self._native is not None:
            await self._call(lambda native, _: native.stop(timeout))

    async def delete(self) -> None:
        """Ends it at once and removes all that it had, also where the task is cancelled
        meanwhile."""
        if self._native is not None:
            await self._call(lambda native, _: native.delete())

    async def pause(self) -> None:
        """Has it stand still; its memory stays. Does nothing where it is paused already."""
        await self._call(lambda native, _: native.pause())

    async def resume(self) -> None:
        """Lets it go on after :meth:`pause`, and tells it the time."""
        await self._call(lambda native, _: native.resume())

    async def snapshot(self, directory: StrPath) -> Snapshot:
        """Writes down what it is at this moment: :meth:`smolvm.SmolVM.snapshot`. Where the task is
        cancelled nothing is left of it, and the VM goes on."""
        path, digest = await self._call(lambda native, cancel: native.snapshot(directory, cancel))
        return Snapshot(path=path, digest=digest)

    @classmethod
    async def restore(
        cls,
        snapshot: Snapshot | StrPath,
        *,
        vm_id: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> SmolVM:
        """A VM of its own that goes on from a snapshot: :meth:`smolvm.SmolVM.restore`. It runs when
        it is returned."""
        directory, digest = located(snapshot)
        vm = SmolVM.__new__(SmolVM)
        vm._config = None
        vm._making = asyncio.Lock()
        vm._native = await call(
            lambda cancel: _smolvm.Machine.restore(
                directory, vm_id, dict(env or {}), digest, timeout, cancel
            )
        )
        return vm

    async def run(
        self,
        command: CommandLine,
        *,
        timeout: float | None = 30.0,
        env: Mapping[str, str] | None = None,
        cwd: StrPath | None = None,
        stdin: str | bytes | None = None,
        user: str | None = None,
        max_output: int = MAX_OUTPUT,
    ) -> CommandResult:
        """Runs a command and returns what became of it. Where the task is cancelled it is killed.

        Args:
            command: A text is a line for the guest's ``sh -c``, a list is run as it is.
            timeout: How many seconds it may take; None for as long as it wants. It is killed then,
                with all of its process group.
            env: Variables to add to its environment.
            cwd: The directory in the guest to run it in; the user's home where it is left out.
            stdin: What it reads; nothing where it is left out.
            user: The user to run it as: a name, or ``uid`` or ``uid:gid`` in digits; root where it
                is left out.
            max_output: How many bytes it may write in all. One that writes more is killed.

        Returns:
            Its exit code and output. A command that fails raises nothing.

        Raises:
            OperationTimeoutError: It took too long. The details have what it had written.
            SmolVMError: The VM does not run, or the command cannot be started.

        Example::

            await asyncio.gather(*(vm.run(f"echo {n}") for n in range(10)))
        """
        line, environment, given = encoded(command), variables(env), input_bytes(stdin)
        fields = await self._call(
            lambda native, cancel: native.run(
                line, timeout, environment, cwd, user, given, max_output, cancel
            )
        )
        return CommandResult(**fields)

    async def popen(
        self,
        command: CommandLine,
        *,
        timeout: float | None = 30.0,
        env: Mapping[str, str] | None = None,
        cwd: StrPath | None = None,
        stdin: str | bytes | int | None = None,
        user: str | None = None,
    ) -> Process:
        """Starts a command and returns its streams, which are read and written as they come.

        Args:
            command: As for :meth:`run`.
            timeout: How many seconds it may take to start. It may run for as long as it wants.
            env: As for :meth:`run`.
            cwd: As for :meth:`run`.
            stdin: What it reads, or ``subprocess.PIPE`` to write to ``Process.stdin``.
            user: As for :meth:`run`.

        Example::

            async with await vm.popen("for i in 1 2 3; do echo $i; sleep 1; done") as process:
                async for line in process.stdout:
                    print(line)
        """
        line, environment = encoded(command), variables(env)
        given, piped = input_or_pipe(stdin)
        native = await self._call(
            lambda native, cancel: native.popen(
                line, timeout, environment, cwd, user, given, piped, cancel
            ),
            discard=lambda process: process.send_signal(signal.SIGKILL),
        )
        return Process(native)

    async def get_ip(self) -> str:
        """The guest's address.

        Raises:
            NetworkError: It has no network.
            SmolVMError: It does not run.
        """
        return await self._call(lambda native, _: native.get_ip())

    async def console_log(self) -> str:
        """What the guest's console has said, the last MiB or two of it."""
        return await self._call(lambda native, _: native.console_log())

    async def wait_ready(self, timeout: float = 30.0) -> None:
        """Waits until the image's own init has started what it starts, where it has one that tells.

        Raises:
            OperationTimeoutError: That takes longer than ``timeout`` seconds.
        """
        await self._call(lambda native, cancel: native.wait_ready(timeout, cancel))

    async def forward(self, guest_port: int, host_port: int | None = None) -> int:
        """Opens a port of this host's loopback that leads to a TCP port of the guest, until the VM
        is stopped.

        Args:
            guest_port: The port of the guest.
            host_port: The port of 127.0.0.1; any free one where it is left out.

        Returns:
            The port of 127.0.0.1.

        Raises:
            NetworkError: The port is taken.
        """
        return await self._call(lambda native, _: native.forward(guest_port, host_port))

    async def copy_to(self, host: StrPath, guest: StrPath) -> None:
        """Copies a file or directory of this host into the guest, as ``cp -r`` does. What has been
        copied when the task is cancelled stays."""
        await self._call(lambda native, cancel: native.copy_to(host, guest, cancel))

    async def copy_from(self, guest: StrPath, host: StrPath) -> None:
        """Copies a file or directory of the guest to this host, as ``cp -r`` does. Nothing is
        written outside ``host``, whatever the guest says. What has been copied when the task is
        cancelled stays, in whole files."""
        await self._call(lambda native, cancel: native.copy_from(guest, host, cancel))

    async def _call(
        self,
        work: Callable[[_smolvm.Machine, _smolvm.Cancel], T],
        *,
        discard: Callable[[T], object] | None = None,
    ) -> T:
        native = await self._machine()
        return await call(lambda cancel: work(native, cancel), discard=discard)

    async def _machine(self) -> _smolvm.Machine:
        """What does the work, made by the first who asks."""
        if self._native is None:
            async with self._making:
                config = self._config
                if self._native is None and config is not None:
                    self._native = await call(
                        lambda _: _smolvm.Machine(config), discard=lambda made: made.delete()
                    )
        assert self._native is not None
        return self._native

    async def _made(self) -> Self:
        await self._machine()
        return self

    def _known_id(self) -> str | None:
        if self._native is not None:
            return self._native.vm_id
        return self._config.vm_id if self._config is not None else None

    def __await__(self) -> Generator[Any, None, Self]:
        return self._made().__await__()

    async def __aenter__(self) -> Self:
        return await self._made()

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        native = self._native
        # A child that was forked inside the block leaves it, too.
        if native is None or not native.is_here:
            return

        def end(_: _smolvm.Cancel) -> None:
            try:
                native.stop(3.0)
            finally:
                native.delete()

        # In one call, so that it is all done where the task is cancelled meanwhile.
        await call(end)

    def __repr__(self) -> str:
        return f"<aio.{type(self).__name__} {self._known_id() or 'not made yet'!r}>"


class VM(SmolVM):
    """A virtual machine that has started when its ``async with`` block begins, and is gone after
    it: :class:`smolvm.VM`, awaited.

    Takes the fields of :class:`smolvm.VMConfig`.

    Example::

        async with VM(kernel_path=image.kernel_path, rootfs_path=image.rootfs_path) as vm:
            print((await vm.run("echo hello")).stdout)
    """

    def __init__(
        self,
        *,
        kernel_path: StrPath,
        rootfs_path: StrPath,
        **fields: Unpack[VMFields],
    ) -> None:
        config = VMConfig(kernel_path=kernel_path, rootfs_path=rootfs_path, **fields)
        super().__init__(config)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            # The block is not entered, and so not left.
            await self.delete()
            raise
        return self

"""Virtual machines: what they are to be, how they do, and what runs in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self, TypedDict, Unpack

from smolvm import _smolvm
from smolvm._arguments import (
    MAX_OUTPUT,
    CommandLine,
    encoded,
    input_bytes,
    input_or_pipe,
    variables,
)
from smolvm._paths import AbsolutePath, StrPath
from smolvm.process import Process

__all__ = ["VM", "CommandResult", "SmolVM", "Snapshot", "VMConfig", "VMInfo", "VMState"]

Backend: TypeAlias = Literal["auto", "qemu", "firecracker"]
DiskMode: TypeAlias = Literal["isolated", "shared"]
Network: TypeAlias = Literal["auto", "user", "tap", "none"]
Egress: TypeAlias = Literal["all", "nothing"]


class VMConfig(BaseModel):
    """What a virtual machine is to be: its image, its size and what it may reach.

    Attributes:
        vm_id: Its name: lower-case letters, digits and hyphens, at most 64. Made up when left out.
        kernel_path: The kernel. When it is a cached image's, the image's initrd and boot arguments
            come with it, so that any cached image boots by two paths.
        rootfs_path: The root file system. It is not written to.
        initrd_path: The initial RAM disk of the image.
        vcpu_count: The number of virtual processors, 1 to 32. Left out, a machine whose
            processors are emulated has 1: a second one would slow the first one down.
        mem_size_mib: The memory in MiB, 128 to 16384.
        boot_args: What the kernel is told, besides what the backend needs.
        backend: The program that runs it: ``qemu``, ``firecracker``, or the best that there is.
        disk_mode: ``isolated``: what it writes is its own and gone with it. ``shared``: it writes
            to ``rootfs_path`` itself, which then must not be a cached image's.
        network: ``user``: it reaches what you reach, but not this host; ``none``; ``tap``; or
            what the backend does best.
        egress: What it reaches through its network: ``all`` but this host, link-local and metadata
            addresses, or ``nothing``.
        allow: What it reaches instead of all: addresses, networks and names, each with ``:PORT``
            for one port alone, such as ``10.20.0.0/16``, ``*.debian.org:80``.
        env: Variables in the environment of every command.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True
    )

    vm_id: str | None = None
    kernel_path: AbsolutePath
    rootfs_path: AbsolutePath
    initrd_path: AbsolutePath | None = None
    vcpu_count: int = Field(default=2, ge=1, le=32)
    mem_size_mib: int = Field(default=512, ge=128, le=16384)
    boot_args: str | None = None
    backend: Backend = "auto"
    disk_mode: DiskMode = "isolated"
    network: Network = "auto"
    egress: Egress = "all"
    allow: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            vm_id: str | None = None,
            kernel_path: StrPath,
            rootfs_path: StrPath,
            initrd_path: StrPath | None = None,
            vcpu_count: int = 2,
            mem_size_mib: int = 512,
            boot_args: str | None = None,
            backend: Backend = "auto",
            disk_mode: DiskMode = "isolated",
            network: Network = "auto",
            egress: Egress = "all",
            allow: Sequence[str] = (),
            env: Mapping[str, str] = ...,
        ) -> None: ...

    @model_validator(mode="after")
    def _check(self) -> Self:
        _smolvm.check_config(self)
        return self

    @property
    def _given_vcpu_count(self) -> int | None:
        return self.vcpu_count if "vcpu_count" in self.model_fields_set else None

    def __hash__(self) -> int:
        # A dictionary has no hash. Two that differ only there may share one.
        fields = ((name, value) for name, value in self if name != "env")
        return hash((type(self), *fields))

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        # The environment may hold secrets, and what is shown ends up in logs.
        for name, value in super().__repr_args__():
            yield name, sorted(value) if name == "env" else value


class VMState(str, Enum):
    """How a virtual machine does."""

    CREATED = "created"
    """It was made and never started."""
    RUNNING = "running"
    """It runs."""
    PAUSED = "paused"
    """It stands still, with all that it has in memory, until it is resumed."""
    STOPPED = "stopped"
    """It was stopped, or has ended by itself in order."""
    ERROR = "error"
    """It ended otherwise."""

    def __str__(self) -> str:
        return self.value


class VMInfo(BaseModel):
    """What is known of a virtual machine.

    Attributes:
        vm_id: Its name.
        status: How it does.
        created_at: When it was made.
        detached: Whether it outlives the program that made it.
        pid: The process of its VMM, while it runs.
        ended: How its VMM ended, such as ``exit 0``, once it has.
        ip_address: Its address, where it has a network.
        kernel_path: The kernel that it boots.
        rootfs_path: The root file system that its disk was made from.
        vcpu_count: Its virtual processors, where a number was given.
        mem_size_mib: Its memory in MiB.
        directory: Where its files lie.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    vm_id: str
    status: VMState
    created_at: datetime
    detached: bool
    pid: int | None
    ended: str | None
    ip_address: str | None
    kernel_path: Path
    rootfs_path: Path
    vcpu_count: int | None
    mem_size_mib: int
    directory: Path


class CommandResult(BaseModel):
    """How a command ended, and what it wrote.

    Attributes:
        exit_code: The exit code; where a signal ended it, the signal's number, negative.
        stdout: What it wrote to standard output, as UTF-8; other bytes are replaced by U+FFFD.
        stderr: What it wrote to standard error.
        stdout_bytes: The very bytes of standard output.
        stderr_bytes: The very bytes of standard error.
        duration: How long it took, in seconds.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64"
    )

    exit_code: int
    stdout: str
    stderr: str
    stdout_bytes: bytes = Field(repr=False)
    stderr_bytes: bytes = Field(repr=False)
    duration: float

    @property
    def ok(self) -> bool:
        """Whether it exited with code 0."""
        return self.exit_code == 0


class Snapshot(BaseModel):
    """What a VM was at one moment, in a directory.

    Attributes:
        path: The directory.
        digest: The SHA-256 digest of all of it.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    path: Path
    digest: str


def located(snapshot: Snapshot | StrPath) -> tuple[StrPath, str | None]:
    """The directory of a snapshot, and the digest that it must have, where that is known."""
    if isinstance(snapshot, Snapshot):
        return snapshot.path, snapshot.digest
    return snapshot, None


class SmolVM:
    """A virtual machine that boots an image and runs commands in it.

    It is made here and does nothing before :meth:`start`. Leaving a ``with`` block stops and
    deletes it; so does the end of this process, by whatever means. All calls can be made from many
    threads at once.

    In a child that is forked it is another program's: it runs commands there, but cannot be
    started, and leaving the block there ends nothing.

    Args:
        config: What it is to be.

    Raises:
        VMAlreadyExistsError: Another VM has the id.
        ImageError: The kernel cannot be booted.
        HostError: This host lacks something.

    Example::

        with SmolVM(config) as vm:
            vm.start()
            print(vm.run("uname -r").stdout)
    """

    _native: _smolvm.Machine

    def __init__(self, config: VMConfig) -> None:
        self._native = _smolvm.Machine(config)

    @classmethod
    def from_id(cls, vm_id: str) -> SmolVM:
        """The VM of this id, whichever process made it.

        Raises:
            VMNotFoundError: There is none.
        """
        vm = SmolVM.__new__(SmolVM)
        vm._native = _smolvm.Machine.from_id(vm_id)
        return vm

    @property
    def vm_id(self) -> str:
        """The name of the VM."""
        return self._native.vm_id

    @property
    def status(self) -> VMState:
        """How it does."""
        return VMState(self._native.status)

    @property
    def info(self) -> VMInfo:
        """What is known of it."""
        return VMInfo(**self._native.info())

    def start(self, boot_timeout: float = 30.0) -> None:
        """Boots it; returns when it runs commands. Does nothing where it runs already.

        Args:
            boot_timeout: How many seconds it may take.

        Raises:
            OperationTimeoutError: It takes longer. The details have the end of its ``console``.
            SmolVMError: It ended while it booted, or belongs to another process.
        """
        self._native.start(boot_timeout)

    def stop(self, timeout: float = 3.0) -> None:
        """Ends the guest in order, then by force. It can be started again, with its disk as it is.
        Does nothing where it does not run.

        Args:
            timeout: How many seconds the guest may take to end in order.
        """
        self._native.stop(timeout)

    def delete(self) -> None:
        """Ends it at once, and removes all that it had."""
        self._native.delete()

    def pause(self) -> None:
        """Has it stand still; its memory stays. Does nothing where it is paused already."""
        self._native.pause()

    def resume(self) -> None:
        """Lets it go on after :meth:`pause`, and tells it the time."""
        self._native.resume()

    def snapshot(self, directory: StrPath) -> Snapshot:
        """Writes down what it is at this moment, memory and disk, in a new directory, from which
        others go on (:meth:`restore`). It stands still meanwhile, and goes on.

        The directory is there when it is whole, or not at all. It holds all that the guest has in
        memory, secrets included.

        On Firecracker this takes its jail, and so root, and ends commands that run.

        Raises:
            SmolVMError: It does not run, there is something at ``directory``, or no room for it; or
                it is on Firecracker without a jail.
        """
        path, digest = self._native.snapshot(directory)
        return Snapshot(path=path, digest=digest)

    @classmethod
    def restore(
        cls,
        snapshot: Snapshot | StrPath,
        *,
        vm_id: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Self:
        """A VM of its own that goes on from a snapshot, with random numbers, a disk, a name and an
        address of its own. It runs when it is returned, and goes with its ``with`` block and with
        this process.

        What ran in the guest goes on, but not what was run by :meth:`run` and :meth:`popen`.

        Args:
            snapshot: What :meth:`snapshot` returned, or a directory. The first is compared with the
                digest that it had.
            vm_id: Its name; one is made up where it is left out.
            env: The environment of the commands that this process runs in it.
            timeout: How many seconds it may take.

        Raises:
            SmolVMError: The snapshot is damaged, was made with another version of the VMM, or the
                image has changed since.
            OperationTimeoutError: It takes longer.
        """
        directory, digest = located(snapshot)
        vm = cls.__new__(cls)
        vm._native = _smolvm.Machine.restore(directory, vm_id, dict(env or {}), digest, timeout)
        return vm

    def run(
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
        """Runs a command and returns what became of it.

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
            KeyboardInterrupt: Within a second of Ctrl-C. The command is killed.

        Example::

            vm.run("echo $HOME | wc -c")
            vm.run(["ls", "-l", "/a file"])
            vm.run("cat", stdin="what cat reads", user="nobody")
        """
        native = self._native.run(
            encoded(command), timeout, variables(env), cwd, user, input_bytes(stdin), max_output
        )
        return CommandResult(**native)

    def popen(
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

            with vm.popen("for i in 1 2 3; do echo $i; sleep 1; done") as process:
                for line in process.stdout:
                    print(line)
        """
        given, piped = input_or_pipe(stdin)
        native = self._native.popen(
            encoded(command), timeout, variables(env), cwd, user, given, piped
        )
        return Process(native)

    def get_ip(self) -> str:
        """The guest's address.

        Raises:
            NetworkError: It has no network.
            SmolVMError: It does not run.
        """
        return self._native.get_ip()

    def console_log(self) -> str:
        """What the guest's console has said, the last MiB or two of it."""
        return self._native.console_log()

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Waits until the image's own init has started what it starts, where it has one that tells.

        Raises:
            OperationTimeoutError: That takes longer than ``timeout`` seconds.
        """
        self._native.wait_ready(timeout)

    def forward(self, guest_port: int, host_port: int | None = None) -> int:
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
        return self._native.forward(guest_port, host_port)

    def copy_to(self, host: StrPath, guest: StrPath) -> None:
        """Copies a file or directory of this host into the guest, as ``cp -r`` does."""
        self._native.copy_to(host, guest)

    def copy_from(self, guest: StrPath, host: StrPath) -> None:
        """Copies a file or directory of the guest to this host, as ``cp -r`` does. Nothing is
        written outside ``host``, whatever the guest says."""
        self._native.copy_from(guest, host)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A child that was forked inside the block leaves it, too.
        if not self._native.is_here:
            return
        try:
            self.stop()
        finally:
            self.delete()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.vm_id!r} {self.status}>"


class VMFields(TypedDict, total=False):
    """The fields of a :class:`VMConfig` that may be left out."""

    vm_id: str | None
    initrd_path: StrPath | None
    vcpu_count: int
    mem_size_mib: int
    boot_args: str | None
    backend: Backend
    disk_mode: DiskMode
    network: Network
    egress: Egress
    allow: Sequence[str]
    env: Mapping[str, str]


class VM(SmolVM):
    """A virtual machine that has started when its ``with`` block begins, and is gone after it.

    Takes the fields of :class:`VMConfig`.

    Example::

        with VM(kernel_path=image.kernel_path, rootfs_path=image.rootfs_path) as vm:
            print(vm.run("echo hello").stdout)
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

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            # The block is not entered, and so not left.
            self.delete()
            raise
        return self

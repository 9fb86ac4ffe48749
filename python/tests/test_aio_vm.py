"""Virtual machines that really boot, awaited."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_aio import cancelled, ours, until

import smolvm
from smolvm import ImageManager, ImageSource, LocalImage, VMConfig, VMState
from smolvm.aio import VM, SmolVM
from smolvm.exceptions import (
    NetworkError,
    OperationTimeoutError,
    SmolVMError,
    VMAlreadyExistsError,
    VMNotFoundError,
)

Test = Callable[[SmolVM], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def image(images: Path, tmp_path_factory: pytest.TempPathFactory) -> LocalImage:
    directory = images / "debian-tiny"
    source = ImageSource(
        name="tiny",
        kernel_url=f"file://{directory}/vmlinuz",
        initrd_url=f"file://{directory}/initrd.img",
        rootfs_url=f"file://{directory}/rootfs.ext4",
    )
    return ImageManager(tmp_path_factory.mktemp("cache"), {"tiny": source}).ensure_image("tiny")


@pytest.fixture(scope="module")
def shared(image: LocalImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home directory in which the machine `shared` runs."""
    home, before = tmp_path_factory.mktemp("home"), os.environ["HOME"]
    os.environ["HOME"] = str(home)
    vm = smolvm.VM(kernel_path=image.kernel_path, rootfs_path=image.rootfs_path, vm_id="shared")
    os.environ["HOME"] = before
    with vm:
        yield home


@pytest.fixture
def with_vm(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Test], None]:
    """Runs a test with the machine that runs; the test leaves it as it is."""
    monkeypatch.setenv("HOME", str(shared))

    def run(test: Test) -> None:
        async def main() -> None:
            await test(await SmolVM.from_id("shared"))

        asyncio.run(main())

    return run


def config(image: LocalImage, vm_id: str) -> VMConfig:
    return VMConfig(
        kernel_path=image.kernel_path, rootfs_path=image.rootfs_path, vm_id=vm_id, network="none"
    )


def test_a_machine_from_its_making_to_its_end(image: LocalImage, home: Path) -> None:
    async def test() -> None:
        fresh = SmolVM(VMConfig(kernel_path=image.kernel_path, rootfs_path=image.rootfs_path))
        with pytest.raises(SmolVMError, match="not made yet"):
            print(fresh.vm_id)
        await fresh.stop()
        await fresh.delete()
        assert not (home / ".smolvm").exists()

        async with SmolVM(config(image, "life")) as vm:
            assert vm.vm_id == "life"
            assert repr(vm) == "<aio.SmolVM 'life'>"
            assert await vm.status() is VMState.CREATED
            with pytest.raises(SmolVMError, match="not running"):
                await vm.run("true")
            with pytest.raises(VMAlreadyExistsError):
                await SmolVM(config(image, "life"))

            # A boot that is cancelled leaves it stopped.
            boot = asyncio.ensure_future(vm.start())
            console = home / ".smolvm/vms/life/console.log"
            await until(lambda: console.exists() and console.stat().st_size > 0)
            boot.cancel()
            await cancelled(boot)
            assert await vm.status() is VMState.STOPPED

            await asyncio.gather(vm.start(), vm.start())
            info = await vm.info()
            assert (info.vm_id, info.status) == ("life", VMState.RUNNING)
            with pytest.raises(NetworkError):
                await vm.get_ip()
            raise LookupError("the block")

    with pytest.raises(LookupError, match="the block"):
        asyncio.run(test())
    assert not (home / ".smolvm/vms/life").exists()


def test_a_boot_that_is_cancelled_at_the_door_leaves_nothing(image: LocalImage, home: Path) -> None:
    async def test() -> None:
        async def enter() -> None:
            async with VM(
                kernel_path=image.kernel_path, rootfs_path=image.rootfs_path, vm_id="door"
            ):
                raise AssertionError("it was entered")

        entering = asyncio.ensure_future(enter())
        directory = home / ".smolvm/vms/door"
        await until((directory / "console.log").exists)
        entering.cancel()
        await cancelled(entering)
        assert not directory.exists()
        with pytest.raises(VMNotFoundError):
            await SmolVM.from_id("door")

    asyncio.run(test())


def test_commands_run_as_those_that_block(with_vm: Callable[[Test], None]) -> None:
    """Behaviour 47: ten at once, input, output, exit codes, time-outs."""

    async def test(vm: SmolVM) -> None:
        results = await asyncio.gather(*(vm.run(f"echo {n}; exit {n}") for n in range(10)))
        assert [result.exit_code for result in results] == list(range(10))
        assert [result.stdout for result in results] == [f"{n}\n" for n in range(10)]
        read = await vm.run("cat; echo $A $PWD", stdin="ü", env={"A": "1"}, cwd=Path("/tmp"))
        assert read.stdout == "ü1 /tmp\n"
        assert (await vm.run(["id", "-u"], user="65534")).stdout == "65534\n"
        with pytest.raises(OperationTimeoutError) as caught:
            await vm.run("echo begun; sleep 987", timeout=1.0)
        assert caught.value.details["stdout"] == "begun\n"
        with pytest.raises(SmolVMError, match="more than 100 bytes"):
            await vm.run("yes", max_output=100)
        assert await vm.get_ip() == "10.0.2.15"
        assert "Linux" in await vm.console_log()
        await vm.wait_ready(60)

    with_vm(test)


def test_a_cancelled_command_is_killed(with_vm: Callable[[Test], None]) -> None:
    async def test(vm: SmolVM) -> None:
        running = asyncio.ensure_future(vm.run("sleep 984 & sleep 984", timeout=None))
        while "sleep 984" not in (await vm.run("ps w | grep -v grep")).stdout:
            await asyncio.sleep(0.05)
        running.cancel()
        await cancelled(running)
        assert "sleep 984" not in (await vm.run("ps w | grep -v grep")).stdout

    with_vm(test)


def test_streams_come_as_they_are_written(with_vm: Callable[[Test], None]) -> None:
    async def test(vm: SmolVM) -> None:
        command = "while read line; do echo got $line; done; echo end >&2; exit 5"
        async with await vm.popen(command, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            for word in (b"one\n", b"two\n"):
                await process.stdin.write(word)
                assert await process.stdout.readline() == b"got " + word
            assert await process.poll() is None
            assert "running" in repr(process)
            await process.stdin.close()
            with pytest.raises(BrokenPipeError):
                await process.stdin.write(b"more")
            assert await process.wait(30) == 5
            assert await process.stdout.read() == b""
            assert process.stdout.at_eof()
            assert await process.stderr.read() == b"end\n"
        assert process.returncode == 5

        async with await vm.popen("printf 'a\\nb\\nlast'") as process:
            assert [line async for line in process.stdout] == [b"a\n", b"b\n", b"last"]
        async with await vm.popen("printf 123456") as process:
            assert await process.stdout.readexactly(3) == b"123"
            assert await process.stdout.read(2) == b"45"
            with pytest.raises(asyncio.IncompleteReadError):
                await process.stdout.readexactly(2)

    with_vm(test)


def test_a_lot_goes_in_and_comes_out_at_the_same_time(with_vm: Callable[[Test], None]) -> None:
    async def test(vm: SmolVM) -> None:
        data = os.urandom(4 << 20)
        async with await vm.popen("cat", stdin=subprocess.PIPE) as process:
            stdin = process.stdin
            assert stdin is not None

            async def feed() -> None:
                await stdin.write(data)
                await stdin.close()

            _, came = await asyncio.gather(feed(), process.stdout.read())
        assert came == data

    with_vm(test)


def test_a_reading_that_is_cancelled_loses_nothing(with_vm: Callable[[Test], None]) -> None:
    async def test(vm: SmolVM) -> None:
        async with await vm.popen("cat", stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            await process.stdin.write(b"half")
            reading = asyncio.ensure_future(process.stdout.readline())
            await asyncio.sleep(0.3)
            reading.cancel()
            await cancelled(reading)
            await process.stdin.write(b" and half\n")
            assert await process.stdout.readline() == b"half and half\n"

            writing = asyncio.ensure_future(process.stdin.write(b"x" * (16 << 20)))
            await asyncio.sleep(0.3)
            assert not writing.done()
            writing.cancel()
            await cancelled(writing)
        assert process.returncode == -signal.SIGKILL

    with_vm(test)


def test_a_process_is_waited_for_and_killed(with_vm: Callable[[Test], None]) -> None:
    async def test(vm: SmolVM) -> None:
        async with await vm.popen(["sleep", "983"]) as process:
            with pytest.raises(OperationTimeoutError, match="not killed"):
                await process.wait(0.1)
            waiting = asyncio.ensure_future(process.wait())
            await asyncio.sleep(0.1)
            waiting.cancel()
            await cancelled(waiting)
            assert await process.poll() is None
        assert process.returncode == -signal.SIGKILL
        async with await vm.popen(["sleep", "983"]) as process:
            await process.terminate()
            assert await process.wait(30) == -signal.SIGTERM
        await until(lambda: not ours())

    with_vm(test)


def test_files_and_ports(with_vm: Callable[[Test], None], tmp_path: Path) -> None:
    async def test(vm: SmolVM) -> None:
        (tmp_path / "file").write_bytes(b"\0content")
        await vm.copy_to(tmp_path / "file", "/root/file")
        await vm.copy_from("/root/file", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == b"\0content"
        await vm.run("mkdir -p /www && echo served > /www/a && httpd -p 8081 -h /www")
        port = await vm.forward(8081)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /a HTTP/1.0\r\n\r\n")
        assert (await reader.read()).endswith(b"served\n")
        writer.close()

    with_vm(test)


def test_the_loop_goes_on_while_calls_wait(with_vm: Callable[[Test], None]) -> None:
    """Timings are printed, not asserted; that it goes on at all is."""

    async def test(vm: SmolVM) -> None:
        turns, longest = 0, 0.0
        sleeping = asyncio.ensure_future(vm.run("sleep 1"))
        while not sleeping.done():
            before = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - before)
            turns += 1
        print(f"{turns} turns, the longest took {longest * 1000:.1f} ms")
        assert turns > 1
        assert (await sleeping).ok

    with_vm(test)


def test_others_go_on_from_a_snapshot(with_vm: Callable[[Test], None], tmp_path: Path) -> None:
    async def test(vm: SmolVM) -> None:
        await vm.pause()
        assert await vm.status() is VMState.PAUSED
        await vm.resume()
        snapshot = await vm.snapshot(tmp_path / "snapshot")
        async with await SmolVM.restore(snapshot, timeout=120) as worker:
            assert (await worker.run("echo hi")).stdout == "hi\n"

    with_vm(test)

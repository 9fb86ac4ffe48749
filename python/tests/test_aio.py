"""The async face: it waits without blocking the loop, and ends what it waits for."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from conftest import lacking
from server import Server
from test_images import KERNEL, ROOTFS, serve

from smolvm import LocalImage, images
from smolvm.aio import ImageManager
from smolvm.exceptions import ImageError, ValidationError

IN_TIME = 30.0

Runner = Callable[[Coroutine[Any, Any, None]], None]


def module(name: str) -> Any:
    """One that the package itself does not need."""
    try:
        return importlib.import_module(name)
    except ImportError:
        lacking(f"there is no module {name}: python/requirements.txt has it")


def with_asyncio(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def with_uvloop(test: Coroutine[Any, Any, None]) -> None:
    module("uvloop").run(test)


def with_anyio(test: Coroutine[Any, Any, None]) -> None:
    async def main() -> None:
        await test

    module("anyio").run(main)


def ours() -> list[str]:
    """The threads that calls work on."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    python = [thread.name for thread in threading.enumerate()]
    return [name for name in names + python if name in {"smolvm-aio", "smolvm-call"}]


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + IN_TIME
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def cancelled(awaitable: Awaitable[object]) -> None:
    """Awaits what is cancelled, and prints how long that took. No thread may be left."""
    before = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await awaitable
    print(f"cancelled in {time.monotonic() - before:.3f} s")
    await until(lambda: not ours())


def test_a_manager_takes_the_same_on_both_faces() -> None:
    assert inspect.signature(ImageManager) == inspect.signature(images.ImageManager)


def test_an_image_is_fetched_and_hit(server: Server, tmp_path: Path) -> None:
    async def test() -> None:
        manager = ImageManager(tmp_path / "cache", serve(server))
        assert manager.cache_dir == tmp_path / "cache"
        assert await manager.list_available() == ["x"]
        assert not await manager.is_cached("x")
        image = await manager.ensure_image("x")
        assert isinstance(image, LocalImage)
        assert image.rootfs_path.read_bytes() == ROOTFS
        assert await manager.is_cached("x")
        asked = len(server.requests)
        assert await manager.ensure_image("x") == image
        assert len(server.requests) == asked
        assert repr(manager).startswith("aio.ImageManager(")

    asyncio.run(test())


def test_errors_are_those_of_the_calls_that_block(server: Server, tmp_path: Path) -> None:
    async def test() -> None:
        manager = ImageManager(tmp_path / "cache", serve(server))
        with pytest.raises(ImageError, match="Unknown image: 'nope'"):
            await manager.ensure_image("nope")
        with pytest.raises(ValidationError):
            await manager.ensure_image("")
        server.files.clear()
        with pytest.raises(ImageError) as caught:
            await manager.ensure_image("x")
        assert caught.value.details["url"]
        assert caught.value.__cause__ is not None

    asyncio.run(test())


def test_ten_at_once_transfer_once(server: Server, tmp_path: Path) -> None:
    """Behaviour 30."""

    async def test() -> None:
        managers = [ImageManager(tmp_path / "cache", serve(server)) for _ in range(10)]
        images = await asyncio.gather(*(manager.ensure_image("x") for manager in managers))
        assert len(set(images)) == 1
        assert sorted(server.requests) == ["/k", "/r"]

    asyncio.run(test())


def test_progress_is_told_on_the_loops_thread_in_order(server: Server, tmp_path: Path) -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who")

    async def test() -> None:
        who.set("me")
        told: list[tuple[str, int, int | None]] = []

        def on_progress(label: str, done: int, total: int | None) -> None:
            assert threading.current_thread() is threading.main_thread()
            assert asyncio.get_running_loop()
            assert who.get() == "me"
            told.append((label, done, total))

        manager = ImageManager(tmp_path / "cache", serve(server))
        await manager.ensure_image("x", on_progress=on_progress)
        count = len(told)
        for label, content in [("kernel", KERNEL), ("rootfs", ROOTFS)]:
            steps = [done for name, done, _ in told if name == label]
            assert steps == sorted(steps)
            assert steps[-1] == len(content)
        await asyncio.sleep(0.05)
        assert len(told) == count

    asyncio.run(test())


def test_what_progress_raises_ends_the_fetch(server: Server, tmp_path: Path) -> None:
    async def test() -> None:
        registry = serve(server)
        server.stall_at["/r"] = 400_000
        manager = ImageManager(tmp_path / "cache", registry)

        def on_progress(label: str, done: int, total: int | None) -> None:
            raise LookupError("enough")

        with pytest.raises(LookupError, match="enough"):
            await manager.ensure_image("x", on_progress=on_progress)
        assert not await manager.is_cached("x")

    asyncio.run(test())


@pytest.mark.parametrize("run", [with_asyncio, with_uvloop, with_anyio])
def test_a_cancelled_fetch_ends_and_the_next_goes_on_from_there(
    run: Runner, server: Server, tmp_path: Path
) -> None:
    async def test() -> None:
        server.stall_at["/r"] = 1_000_000
        manager = ImageManager(tmp_path / "cache", serve(server))
        fetch = asyncio.ensure_future(manager.ensure_image("x"))
        # The loop goes on while the fetch is stalled.
        await until(server.stalled.is_set)
        assert ours()
        fetch.cancel()
        await cancelled(fetch)
        assert not await manager.is_cached("x")
        server.stall_at.clear()
        image = await manager.ensure_image("x")
        assert image.rootfs_path.read_bytes() == ROOTFS
        assert server.requests.count("/r") == 2

    run(test())


def test_a_time_out_ends_what_it_waits_for(server: Server, tmp_path: Path) -> None:
    async def test() -> None:
        server.stall_at["/r"] = 1_000_000
        manager = ImageManager(tmp_path / "cache", serve(server))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(manager.ensure_image("x"), 0.2)
        await until(lambda: not ours())

    asyncio.run(test())


def test_a_cancelled_anyio_scope_ends_what_is_in_it(server: Server, tmp_path: Path) -> None:
    anyio = module("anyio")

    async def test() -> None:
        server.stall_at["/r"] = 1_000_000
        manager = ImageManager(tmp_path / "cache", serve(server))
        with anyio.move_on_after(0.2) as scope:
            await manager.ensure_image("x")
        assert scope.cancelled_caught
        await until(lambda: not ours())

    anyio.run(test)


def test_a_failure_in_a_group_ends_the_others(server: Server, tmp_path: Path) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("Python 3.10 has no task groups")

    async def test() -> None:
        server.stall_at["/r"] = 1_000_000
        manager = ImageManager(tmp_path / "cache", serve(server))
        with pytest.raises(BaseExceptionGroup) as caught:  # noqa: F821
            async with asyncio.TaskGroup() as group:
                for _ in range(9):
                    group.create_task(manager.ensure_image("x"))
                await until(server.stalled.is_set)
                group.create_task(manager.ensure_image("nope"))
        assert caught.group_contains(ImageError, match="nope")
        await until(lambda: not ours())

    asyncio.run(test())


def test_a_hundred_that_wait_hold_up_neither_each_other_nor_the_executor(
    server: Server, tmp_path: Path
) -> None:
    async def test() -> None:
        server.stall_at["/r"] = 1_000_000
        manager = ImageManager(tmp_path / "cache", serve(server))
        fetches = [asyncio.create_task(manager.ensure_image("x")) for _ in range(100)]
        await until(server.stalled.is_set)
        assert not await manager.is_cached("x")
        assert await asyncio.to_thread(lambda: "free") == "free"
        for fetch in fetches[:50]:
            fetch.cancel()
        await asyncio.wait(fetches[:50])
        assert all(fetch.cancelled() for fetch in fetches[:50])
        server.stall_at.clear()
        server.released.set()
        images = await asyncio.gather(*fetches[50:])
        assert images[0].rootfs_path.read_bytes() == ROOTFS
        assert len(set(images)) == 1
        await until(lambda: not ours())

    asyncio.run(test())


LEFT = """
import asyncio, sys
from smolvm.aio import ImageManager
from smolvm.images import load_registry

async def main():
    manager = ImageManager(sys.argv[1], load_registry(sys.argv[2]))
    task = asyncio.ensure_future(manager.ensure_image("x"))
    arrived = asyncio.Event()
    def on_progress(*_):
        arrived.set()
    other = asyncio.ensure_future(manager.ensure_image("x", on_progress=on_progress))
    await arrived.wait()
    return task, other

loop = asyncio.new_event_loop()
tasks = loop.run_until_complete(main())
loop.close()
print("left", flush=True)
"""


def test_calls_of_a_loop_that_was_left_do_not_keep_the_program(
    server: Server, tmp_path: Path
) -> None:
    source = serve(server)["x"]
    server.stall_at["/r"] = 1_000_000
    registry = tmp_path / "registry.toml"
    registry.write_text(
        f'[images.x]\nkernel_url = "{source.kernel_url}"\nrootfs_url = "{source.rootfs_url}"\n'
    )
    command = [sys.executable, "-c", LEFT, str(tmp_path / "cache"), str(registry)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=IN_TIME, check=False)
    assert (ended.stdout, ended.returncode) == ("left\n", 0), ended.stderr

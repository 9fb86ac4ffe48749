"""Children that are forked while other threads of their parent are at work."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from server import Server
from test_images import KERNEL, ROOTFS, serve

from smolvm import ImageManager

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")

IN_TIME = 30


def forked(child: Callable[[], object]) -> int:
    """Forks a child that runs a function, and is killed if it hangs."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(IN_TIME)
        status = 1
        try:
            child()
            status = 0
        finally:
            os._exit(status)
    return pid


def ended_well(pid: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_child_works_while_a_thread_of_its_parent_downloads(
    server: Server, tmp_path: Path
) -> None:
    registry = {**serve(server, "x")}
    server.files["/k2"] = server.files["/r2"] = b"another"
    server.stall_at["/r"] = 700_000
    x = registry["x"]
    registry["y"] = x.model_copy(
        update={
            "name": "y",
            "kernel_url": server.url("/k2"),
            "kernel_sha256": None,
            "rootfs_url": server.url("/r2"),
            "rootfs_sha256": None,
        }
    )
    manager = ImageManager(tmp_path / "cache", registry)
    fetch = threading.Thread(target=manager.ensure_image, args=("x",))
    fetch.start()
    assert server.stalled.wait(IN_TIME)

    def child() -> None:
        assert not manager.is_cached("x")
        image = manager.ensure_image("y")
        assert image.rootfs_path.read_bytes() == b"another"

    assert ended_well(forked(child))
    # One that waits for what its parent fetches gets it.
    waiting = forked(lambda: manager.ensure_image("x").rootfs_path.read_bytes())
    server.released.set()
    fetch.join(IN_TIME)
    assert not fetch.is_alive()
    assert ended_well(waiting)
    assert manager.ensure_image("x").rootfs_path.read_bytes() == ROOTFS


def test_children_do_not_hang_however_busy_the_threads_of_their_parent_are(
    server: Server, tmp_path: Path
) -> None:
    manager = ImageManager(tmp_path / "cache", serve(server))
    manager.ensure_image("x")
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            manager.ensure_image("x")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        assert all(
            ended_well(forked(lambda: manager.ensure_image("x").kernel_path)) for _ in range(30)
        )
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_a_child_does_not_keep_the_lock_of_a_parent_that_was_killed(
    server: Server, tmp_path: Path
) -> None:
    """Behaviour 31."""
    manager = ImageManager(tmp_path / "cache", serve(server))
    server.stall_at["/r"] = 700_000
    begins, begin = os.pipe()
    heard, told = os.pipe()

    def parent() -> None:
        held = ImageManager(tmp_path / "cache", manager.registry)
        threading.Thread(target=held.ensure_image, args=("x",), daemon=True).start()
        os.read(begins, 1)
        child = os.fork()
        if child == 0:
            signal.alarm(2 * IN_TIME)
            signal.pause()
        os.write(told, b"%d" % child)
        signal.pause()

    parent_id = forked(parent)
    assert server.stalled.wait(IN_TIME)
    os.write(begin, b"x")
    child_id = int(os.read(heard, 20))
    try:
        end(parent_id)
        server.stall_at.clear()
        image = manager.ensure_image("x")
        assert image.kernel_path.read_bytes() == KERNEL
        assert image.rootfs_path.read_bytes() == ROOTFS
        os.kill(child_id, 0)
    finally:
        os.kill(child_id, signal.SIGKILL)
        for descriptor in (begins, begin, heard, told):
            os.close(descriptor)

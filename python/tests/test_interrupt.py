"""Ctrl-C: a real signal to a real process, in the middle of a call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from server import Server
from test_images import KERNEL, ROOTFS, serve

from smolvm import ImageManager

FETCH = """
import sys, time
from smolvm import ImageManager
from smolvm.images import load_registry

manager = ImageManager(sys.argv[1], load_registry(sys.argv[2]))
print("begins", flush=True)
try:
    manager.ensure_image("x")
except KeyboardInterrupt:
    print("interrupted", flush=True)
    assert not manager.is_cached("x")
"""


def registry_file(server: Server, directory: Path) -> Path:
    source = serve(server)["x"]
    path = directory / "registry.toml"
    path.write_text(
        f'[images.x]\nkernel_url = "{source.kernel_url}"\nrootfs_url = "{source.rootfs_url}"\n'
        f'kernel_sha256 = "{source.kernel_sha256}"\nrootfs_sha256 = "{source.rootfs_sha256}"\n'
    )
    return path


def start(program: str, *arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_ends_a_stalled_download_and_leaves_the_cache_whole(
    server: Server, tmp_path: Path
) -> None:
    """Within a second; here it is only asserted that it is before the stall would end."""
    registry, cache = registry_file(server, tmp_path), tmp_path / "cache"
    server.stall_at["/r"] = 1_000_000
    with start(FETCH, cache, registry) as process:
        assert server.stalled.wait(60)
        before = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        took = time.monotonic() - before
    assert (out, process.returncode) == ("begins\ninterrupted\n", 0), err
    print(f"it took {took:.3f} s")
    server.stall_at.clear()
    image = ImageManager(cache, serve(server)).ensure_image("x")
    assert image.kernel_path.read_bytes() == KERNEL
    assert image.rootfs_path.read_bytes() == ROOTFS


HANDLER = """
import signal, sys, threading
from smolvm import ImageManager
from smolvm.images import load_registry

class Stop(Exception):
    pass

def stop(*_):
    raise Stop

signal.signal(signal.SIGUSR1, stop)
manager = ImageManager(sys.argv[1], load_registry(sys.argv[2]))
try:
    manager.ensure_image("x")
except Stop:
    print("stopped by", Stop.__name__, flush=True)
"""


def test_what_a_signal_handler_raises_ends_the_call(server: Server, tmp_path: Path) -> None:
    registry = registry_file(server, tmp_path)
    server.stall_at["/r"] = 1_000_000
    with start(HANDLER, tmp_path / "cache", registry) as process:
        assert server.stalled.wait(60)
        os.kill(process.pid, signal.SIGUSR1)
        out, err = process.communicate(timeout=20)
    assert out == "stopped by Stop\n", err

"""What the tests share: a home of their own, a server with faults, and images that boot."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import Server

ROOT = Path(__file__).resolve().parents[2]

SETTINGS = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SMOLVM_CA_FILE", "NETRC"]

# What is started in the background ignores Ctrl-C, and so would all that the tests start, to which
# they send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def must_have_all() -> bool:
    return os.environ.get("SMOLVM_TEST_REQUIRE_ALL") == "1"


def lacking(reason: str) -> None:
    """Skips the test, and says why; in CI nothing may be skipped."""
    if must_have_all():
        pytest.fail(f"{reason}, and SMOLVM_TEST_REQUIRE_ALL=1 forbids to skip it")
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory of the test's own, and none of this user's settings."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def images() -> Path:
    """The directory with the real images that `cargo xtask images` makes."""
    directory = Path(os.environ.get("SMOLVM_TEST_IMAGES") or ROOT / "target/images")
    if not (directory / "debian-systemd").is_dir():
        lacking(f"there are no images in {directory}: cargo xtask images makes them")
    if shutil.which("qemu-system-x86_64") is None:
        lacking("there is no qemu-system-x86_64: cargo xtask setup installs it")
    return directory


def place(source: Path, destination: Path) -> None:
    """Puts a file where it would be put by hand; as a link where that is possible, since it is
    large."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)

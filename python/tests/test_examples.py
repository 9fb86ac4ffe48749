"""Every program under examples/, run as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, place
from server import Server
from test_docs import EXAMPLES, find
from test_docs import docs as docs
from test_images import ROOTFS, serve

DIRECTORY = ROOT / "examples"
IN_TIME = 300.0

COMPLETE = """Available images:
  [✓] hello
  [✗] quickstart-x86_64

Using image: hello
  Kernel: {home}/.smolvm/images/hello/vmlinux.bin
  Rootfs: {home}/.smolvm/images/hello/rootfs.ext4

VM started with IP: 10.0.2.15
Output: Hello from SmolVM!
"""


@pytest.fixture
def hello(home: Path, images: Path) -> None:
    """A real image that boots, put by hand under its documented name."""
    directory = home / ".smolvm/images/hello"
    place(images / "debian-systemd/vmlinuz", directory / "vmlinux.bin")
    place(images / "debian-systemd/rootfs.ext4", directory / "rootfs.ext4")


@pytest.fixture
def tiny(images: Path, tmp_path: Path) -> Path:
    """A registry of an image that boots in a moment, `tiny`."""
    directory = images / "debian-tiny"
    registry = tmp_path / "registry.toml"
    registry.write_text(
        f'[images.tiny]\nkernel_url = "file://{directory}/vmlinuz"\n'
        f'initrd_url = "file://{directory}/initrd.img"\n'
        f'rootfs_url = "file://{directory}/rootfs.ext4"\n'
    )
    return registry


def example(name: str, *arguments: str | Path) -> str:
    command = [sys.executable, DIRECTORY / name, *arguments]
    return output(command)


def output(command: list[str | Path]) -> str:
    ended = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", timeout=IN_TIME, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_each_is_run_here() -> None:
    here = Path(__file__).read_text()
    there = [path for path in DIRECTORY.rglob("*.py") if "test_" not in path.name]
    assert there
    for path in there:
        assert f'"{path.name}"' in here


def test_the_complete_one_is_that_of_the_documentation(docs: list[str]) -> None:
    documented = next(known for known in EXAMPLES if known.title == "complete example")
    start, end = find(docs, documented)
    assert (DIRECTORY / "complete.py").read_text().splitlines() == docs[start:end]


@pytest.mark.usefixtures("hello")
def test_complete(home: Path) -> None:
    assert example("complete.py") == COMPLETE.replace("{home}", str(home))


def test_untrusted(tiny: Path) -> None:
    lines = example("untrusted.py", "tiny", tiny).splitlines()
    assert lines[0] == "a sum: exit code 0: 42"
    assert lines[1].startswith("a mistake: exit code 1: cat: ")
    assert lines[2] == "an endless loop: ended after 3 s; so far: thinking"
    assert lines[3].startswith("a flood: ended: ")
    assert "100000 bytes" in lines[3]
    assert lines[4:] == ["a look around: exit code 0: 65534", "lo"]


def test_ten(tiny: Path) -> None:
    numbers = " ".join(str(number) for number in range(10))
    assert example("ten.py", "tiny", tiny) == f"The VMs have read: {numbers}\n"


def test_the_suite_with_a_fixture(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOLVM_REGISTRY", str(tiny))
    command: list[str | Path] = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    assert "2 passed" in output([*command, "-o", "smolvm_image=tiny", DIRECTORY / "testing"])


@pytest.mark.parametrize("name", ["progress_rich.py", "progress_tqdm.py"])
def test_progress(name: str, server: Server, home: Path, tmp_path: Path) -> None:
    source = serve(server)["x"]
    registry = tmp_path / "registry.toml"
    registry.write_text(
        f'[images.x]\nkernel_url = "{source.kernel_url}"\nrootfs_url = "{source.rootfs_url}"\n'
    )
    rootfs = home / ".smolvm/images/x/rootfs.ext4"
    assert example(name, "x", registry).splitlines()[-1] == str(rootfs)
    assert rootfs.read_bytes() == ROOTFS

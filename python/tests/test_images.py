"""The image manager, against a real server and real files."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import stat
import tempfile
import threading
from http import HTTPStatus
from pathlib import Path

import pytest
from server import Server

from smolvm import ImageManager, ImageSource
from smolvm.exceptions import ImageError, SmolVMError, ValidationError
from smolvm.images import BUILTIN_IMAGES, load_registry

KERNEL = os.urandom(300_000)
ROOTFS = os.urandom(1_500_000)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def serve(server: Server, name: str = "x") -> dict[str, ImageSource]:
    """A registry of one pinned image that the server has."""
    server.files = {"/k": KERNEL, "/r": ROOTFS}
    source = ImageSource(
        name=name,
        kernel_url=server.url("/k"),
        kernel_sha256=sha256(KERNEL),
        rootfs_url=server.url("/r"),
        rootfs_sha256=sha256(ROOTFS).upper(),
    )
    return {name: source}


def test_the_defaults_are_the_documented_ones(home: Path) -> None:
    manager = ImageManager()
    assert manager.cache_dir == home / ".smolvm/images"
    assert manager.registry == BUILTIN_IMAGES
    assert manager.registry is not BUILTIN_IMAGES
    assert manager.list_available() == ["hello", "quickstart-x86_64"]
    assert not manager.is_cached("hello")
    assert not manager.is_cached("")
    # Behaviour 9: nothing was made.
    assert list(home.iterdir()) == []
    assert "hello" in repr(manager)


def test_an_empty_registry_replaces_the_built_in_one() -> None:
    assert ImageManager(registry={}).list_available() == []


def test_an_image_is_fetched_once_and_then_hit(server: Server, tmp_path: Path) -> None:
    """Behaviour 5: a hit asks no server."""
    manager = ImageManager(tmp_path / "cache", serve(server))
    image = manager.ensure_image("x")
    assert image.name == "x"
    assert image.kernel_path == tmp_path / "cache/x/vmlinux.bin"
    assert image.kernel_path.read_bytes() == KERNEL
    assert image.rootfs_path.read_bytes() == ROOTFS
    assert stat.S_IMODE(image.rootfs_path.stat().st_mode) & 0o222 == 0
    assert manager.is_cached("x")
    asked = len(server.requests)
    assert manager.ensure_image("x") == image
    assert len(server.requests) == asked


@pytest.mark.parametrize("kind", [str, Path, os.fspath])
def test_every_kind_of_path_is_taken(
    kind: type[str] | type[Path], server: Server, tmp_path: Path
) -> None:
    manager = ImageManager(kind(tmp_path / "cache"), serve(server))
    assert manager.cache_dir == tmp_path / "cache"


def test_a_tilde_is_this_users_home(home: Path) -> None:
    """Behaviour 42."""
    assert ImageManager("~/images").cache_dir == home / "images"
    assert ImageManager("").cache_dir == home / ".smolvm/images"


def test_progress_is_told_on_the_calling_thread_up_to_the_end(
    server: Server, tmp_path: Path
) -> None:
    manager = ImageManager(tmp_path / "cache", serve(server))
    told: dict[str, list[tuple[int, int | None]]] = {}
    threads: set[int] = set()

    def on_progress(label: str, done: int, total: int | None) -> None:
        told.setdefault(label, []).append((done, total))
        threads.add(threading.get_ident())

    for _ in range(2):
        told.clear()
        manager.ensure_image("x", on_progress=on_progress)
        assert threads == {threading.get_ident()}
        assert set(told) == {"kernel", "rootfs"}
        assert told["kernel"][-1] == (len(KERNEL), len(KERNEL))
        assert told["rootfs"][-1] == (len(ROOTFS), len(ROOTFS))
        assert told["rootfs"] == sorted(told["rootfs"])


def test_what_progress_raises_ends_the_fetch(server: Server, tmp_path: Path) -> None:
    registry = serve(server)
    server.stall_at["/r"] = 400_000
    manager = ImageManager(tmp_path / "cache", registry)

    def on_progress(label: str, done: int, total: int | None) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        manager.ensure_image("x", on_progress=on_progress)
    assert not manager.is_cached("x")
    server.stall_at.clear()
    assert manager.ensure_image("x").rootfs_path.read_bytes() == ROOTFS


def test_an_unknown_name_is_told_with_what_there_is() -> None:
    """Behaviour 38."""
    with pytest.raises(ImageError) as caught:
        ImageManager().ensure_image("helo")
    error = caught.value
    assert str(error) == error.message
    assert error.message == (
        "Unknown image: 'helo'. Available images: hello, quickstart-x86_64. Did you mean 'hello'?"
    )
    assert error.details == {
        "image": "helo",
        "available": ["hello", "quickstart-x86_64"],
        "suggestion": "hello",
    }


@pytest.mark.parametrize("name", ["", "  ", "\t"])
def test_a_blank_name_is_a_value_error_and_ours(name: str) -> None:
    with pytest.raises(ValueError, match="image name cannot be empty") as caught:
        ImageManager().ensure_image(name)
    assert isinstance(caught.value, SmolVMError)
    assert str(caught.value) == "image name cannot be empty"


@pytest.mark.parametrize("name", ["../etc", "a/b", "hello\n", "a\0b", "é", ".x", "nul", "a" * 129])
def test_a_malformed_name_is_an_image_error(name: str, home: Path) -> None:
    """Behaviour 37."""
    with pytest.raises(ImageError) as caught:
        ImageManager().ensure_image(name)
    assert not isinstance(caught.value, ValueError)
    assert list(home.iterdir()) == []


def test_wrong_bytes_are_told_in_full(server: Server, tmp_path: Path) -> None:
    """Behaviour 4."""
    registry = serve(server)
    server.files["/k"] = b"other"
    manager = ImageManager(tmp_path / "cache", registry)
    with pytest.raises(ImageError) as caught:
        manager.ensure_image("x")
    assert caught.value.details == {
        "image": "x",
        "asset": "kernel",
        "url": server.url("/k"),
        "expected": sha256(KERNEL),
        "actual": sha256(b"other"),
        "content": None,
    }
    assert not (tmp_path / "cache/x/vmlinux.bin").exists()


def test_a_refusal_has_its_status_url_and_attempts_but_no_secrets(
    server: Server, tmp_path: Path
) -> None:
    """Behaviour 13."""
    server.refused["/k"] = HTTPStatus.FORBIDDEN
    url = server.url("/k").replace("//", "//me:hunter2@") + "?sig=hunter2"
    server.refused["/k?sig=hunter2"] = HTTPStatus.FORBIDDEN
    source = ImageSource(name="x", kernel_url=url, rootfs_url=url)
    with pytest.raises(ImageError) as caught:
        ImageManager(tmp_path / "cache", {"x": source}).ensure_image("x")
    error = caught.value
    assert error.details["status"] == HTTPStatus.FORBIDDEN
    assert error.details["attempts"] == 1
    assert error.details["url"] == server.url("/k") + "?sig=***"
    assert error.__cause__ is not None
    assert "403" in str(error.__cause__)
    assert "hunter2" not in repr(error.details) + str(error) + repr(error.__cause__)


def test_the_cause_is_chained_down_to_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    manager = ImageManager(tmp_path / "file/cache", BUILTIN_IMAGES, offline=False)
    with pytest.raises(ImageError) as caught:
        manager.ensure_image("hello")
    assert isinstance(caught.value.__cause__, NotADirectoryError)
    assert caught.value.details["path"] == tmp_path / "file/cache"


def test_offline_says_what_is_missing(home: Path) -> None:
    """Behaviour 24."""
    with pytest.raises(ImageError) as caught:
        ImageManager(offline=True).ensure_image("hello")
    assert caught.value.details == {
        "image": "hello",
        "missing": ["kernel", "rootfs"],
        "path": home / ".smolvm/images/hello",
    }


def test_errors_can_be_pickled() -> None:
    error = ImageError("text", {"url": "http://h"})
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.message, copy.details) == (ImageError, "text", {"url": "http://h"})


def test_a_key_that_is_not_the_name_is_refused(server: Server) -> None:
    registry = {"other": serve(server)["x"]}
    with pytest.raises(ValidationError, match="other"):
        ImageManager(registry=registry)


def test_verify_values_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValidationError, match="always"):
        ImageManager(verify="sometimes")  # type: ignore[arg-type] # pyright: ignore


def test_what_has_not_changed_need_not_be_hashed(server: Server, tmp_path: Path) -> None:
    manager = ImageManager(tmp_path / "cache", serve(server), verify="changed")
    kernel = manager.ensure_image("x").kernel_path
    assert manager.ensure_image("x").kernel_path == kernel
    stamps = list(kernel.parent.glob(".verified-*.json"))
    assert len(stamps) == 1
    kernel.chmod(0o600)
    kernel.write_bytes(KERNEL[::-1])
    assert manager.ensure_image("x").kernel_path.read_bytes() == KERNEL


def test_where_there_is_no_fs_verity_images_are_as_ever(server: Server) -> None:
    """Memory has none, on any kernel; what it does where it is there is a test in Rust."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        manager = ImageManager(memory, serve(server), verify="changed", fs_verity=True)
        for _ in range(2):
            assert manager.ensure_image("x").kernel_path.read_bytes() == KERNEL


def test_an_image_that_is_added_later_is_known(server: Server, tmp_path: Path) -> None:
    manager = ImageManager(tmp_path / "cache", {})
    manager.registry.update(serve(server))
    assert manager.list_available() == ["x"]
    assert manager.ensure_image("x").kernel_path.read_bytes() == KERNEL
    del manager.registry["x"]
    with pytest.raises(ImageError, match="Unknown image"):
        manager.ensure_image("x")


def test_registry_files_are_read_with_the_place_of_what_is_wrong(tmp_path: Path) -> None:
    """Behaviour 39."""
    path = tmp_path / "registry.toml"
    path.write_text(
        '[images.mine]\nkernel_url = "https://me:pass@h/k"\nrootfs_url = "https://h/r"\n'
        f'rootfs_sha256 = "{"A" * 64}"\ninitrd_url = "https://h/i"\nboot_args = "quiet"\n'
    )
    source = load_registry(path)["mine"]
    assert source.kernel_url == "https://me:pass@h/k"
    assert source.rootfs_sha256 == "a" * 64
    assert (source.initrd_url, source.boot_args) == ("https://h/i", "quiet")
    path.write_text('[images.mine]\nkernel_url = "x"\n')
    with pytest.raises(ImageError) as caught:
        load_registry(str(path))
    assert caught.value.details["path"] == path
    assert caught.value.details["line"] == 2
    with pytest.raises(ImageError) as caught:
        load_registry(tmp_path / "nothing.toml")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_what_the_library_logs_goes_to_python(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Behaviour 3: that there is no pin is said, once."""
    server.files = {"/k": KERNEL, "/r": ROOTFS}
    source = ImageSource(
        name="unpinned-for-logging", kernel_url=server.url("/k"), rootfs_url=server.url("/r")
    )
    manager = ImageManager(tmp_path / "cache", {source.name: source})
    manager.ensure_image(source.name)
    (tmp_path / "cache" / source.name / "vmlinux.bin").unlink()
    manager.ensure_image(source.name)
    told = [record for record in caplog.records if "no SHA-256 digest" in record.getMessage()]
    assert len(told) == 1
    assert told[0].name.startswith("smolvm.image.")
    assert told[0].levelno == logging.WARNING


def test_many_threads_hit_one_image_a_thousand_times(server: Server, tmp_path: Path) -> None:
    """Behaviour 30: no error, and neither memory nor descriptors grow."""
    manager = ImageManager(tmp_path / "cache", serve(server))
    image = manager.ensure_image("x")
    errors: list[BaseException] = []

    def hit(times: int) -> None:
        try:
            for _ in range(times):
                assert manager.ensure_image("x") == image
        except BaseException as error:
            errors.append(error)

    def all_hit(times: int) -> None:
        threads = [threading.Thread(target=hit, args=(times,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    all_hit(10)
    descriptors, memory = len(os.listdir("/proc/self/fd")), resident()
    all_hit(63)
    assert errors == []
    assert len(os.listdir("/proc/self/fd")) == descriptors
    # What an allocator keeps for its threads, and no more: a leak of each call's would be above.
    assert resident() - memory < 16 * 1024 * 1024


def resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")

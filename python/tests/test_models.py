"""The models: frozen, strict, and careful with secrets."""

from __future__ import annotations

import pickle
from pathlib import Path

import pydantic
import pytest

import smolvm
from smolvm import CommandResult, ImageSource, LocalImage, VMConfig
from smolvm.images import BUILTIN_IMAGES

DIGEST = "0" * 64


class Pathy:
    """An `os.PathLike` that is no `pathlib.Path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


def source(**fields: str | None) -> ImageSource:
    base = {"name": "x", "kernel_url": "http://h/k", "rootfs_url": "http://h/r"}
    return ImageSource.model_validate({**base, **fields})


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    kernel, rootfs = tmp_path / "kernel", tmp_path / "rootfs"
    kernel.write_bytes(b"k")
    rootfs.write_bytes(b"r")
    return kernel, rootfs


def test_sources_are_values() -> None:
    one = source(kernel_sha256=DIGEST)
    assert one == source(kernel_sha256=DIGEST)
    assert hash(one) == hash(source(kernel_sha256=DIGEST))
    assert one != source()
    assert ImageSource.model_validate(one.model_dump()) == one
    assert ImageSource.model_validate_json(one.model_dump_json()) == one
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(pydantic.ValidationError):
        one.name = "y"  # pyright: ignore[reportAttributeAccessIssue]
    assert one.kernel_filename == "vmlinux.bin"
    assert one.rootfs_filename == "rootfs.ext4"
    assert one.initrd_filename == "initrd.img"


@pytest.mark.parametrize(
    "fields",
    [
        {"unknown": "field"},
        {"name": ""},
        {"name": "../x"},
        {"kernel_url": "ftp://h/k"},
        {"kernel_url": "vmlinux"},
        {"kernel_sha256": ""},
        {"kernel_sha256": "abc123"},
        {"rootfs_sha256": "g" * 64},
        {"kernel_filename": "../k"},
        {"kernel_filename": "/etc/passwd"},
        {"kernel_filename": "a/b"},
        {"kernel_filename": "rootfs.ext4"},
        {"initrd_sha256": DIGEST},
        {"boot_args": "a\nb"},
    ],
)
def test_sources_that_cannot_be_are_refused(fields: dict[str, str]) -> None:
    """Behaviours 1, 2 and 37: refused before any network work."""
    with pytest.raises(ValueError, match=r"."):
        source(**fields)


def test_a_digest_in_upper_case_with_a_prefix_is_one() -> None:
    """Behaviour 1."""
    assert source(kernel_sha256=f" SHA256:{'A' * 64}\n").kernel_sha256 is not None


def test_no_secret_of_a_url_is_shown() -> None:
    secret = source(kernel_url="http://me:hunter2@h/k?sig=hunter2")
    assert "hunter2" not in repr(secret)
    assert "hunter2" not in str(secret)
    assert secret.kernel_url == "http://me:hunter2@h/k?sig=hunter2"
    with pytest.raises(pydantic.ValidationError) as caught:
        source(kernel_url="http://me:hunter2@h/k", kernel_sha256="x")
    assert "hunter2" not in str(caught.value)


def test_both_builtin_images_are_there() -> None:
    assert sorted(BUILTIN_IMAGES) == ["hello", "quickstart-x86_64"]
    assert all(isinstance(image, ImageSource) for image in BUILTIN_IMAGES.values())
    assert all(key == image.name for key, image in BUILTIN_IMAGES.items())


def test_local_images_take_every_kind_of_path_and_give_absolute_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = LocalImage(name="x", kernel_path="k", rootfs_path=Pathy(tmp_path / "r"))
    assert image.kernel_path == tmp_path / "k"
    assert image.rootfs_path == tmp_path / "r"
    assert image.initrd_path is None
    assert hash(image) == hash(LocalImage.model_validate(image.model_dump()))


def test_configurations_have_the_documented_defaults(files: tuple[Path, Path]) -> None:
    kernel, rootfs = files
    config = VMConfig(kernel_path=str(kernel), rootfs_path=Pathy(rootfs))
    assert config.kernel_path == kernel
    assert config.rootfs_path == rootfs
    assert config.model_dump(exclude={"kernel_path", "rootfs_path"}) == {
        "vm_id": None,
        "initrd_path": None,
        "vcpu_count": 2,
        "mem_size_mib": 512,
        "boot_args": None,
        "backend": "auto",
        "disk_mode": "isolated",
        "network": "auto",
        "egress": "all",
        "allow": (),
        "env": {},
    }
    assert hash(config) == hash(VMConfig(kernel_path=kernel, rootfs_path=rootfs))
    assert config == VMConfig.model_validate(config.model_dump())


@pytest.mark.parametrize(
    "fields",
    [
        {"vm_id": "Upper"},
        {"vm_id": "-a"},
        {"vm_id": "a" * 65},
        {"vm_id": ""},
        {"vcpu_count": 0},
        {"vcpu_count": 33},
        {"mem_size_mib": 127},
        {"mem_size_mib": 16385},
        {"mem_size_mib": -1},
        {"mem_size_mib": 1 << 80},
        {"backend": "xen"},
        {"disk_mode": "none"},
        {"network": "bridge"},
        {"egress": "some"},
        {"allow": ["10.0.0.0/33"]},
        {"allow": ["a b"]},
        {"allow": "example.com"},
        {"egress": "nothing", "allow": ["example.com"]},
        {"env": {"A=B": "x"}},
        {"env": {"": "x"}},
        {"boot_args": "a\nb"},
        {"kernel_path": "/nonexistent/kernel"},
        {"rootfs_path": "/"},
        {"initrd_path": "/nonexistent/initrd"},
        {"unknown": 1},
    ],
)
def test_configurations_that_cannot_be_are_refused(
    fields: dict[str, object], files: tuple[Path, Path]
) -> None:
    base: dict[str, object] = {"kernel_path": files[0], "rootfs_path": files[1]}
    with pytest.raises(pydantic.ValidationError):
        VMConfig.model_validate({**base, **fields})


@pytest.mark.parametrize("vm_id", ["a", "a1", "hello-vm", "a" * 64])
def test_ids_of_one_to_64_characters_are_taken(vm_id: str, files: tuple[Path, Path]) -> None:
    config = VMConfig(vm_id=vm_id, kernel_path=files[0], rootfs_path=files[1])
    assert config.vm_id == vm_id


def test_destinations_are_those_of_the_command(files: tuple[Path, Path]) -> None:
    allow = ["10.20.0.0/16", "*.debian.org:80", "192.0.2.7:443"]
    config = VMConfig(kernel_path=files[0], rootfs_path=files[1], allow=allow)
    assert config.allow == tuple(allow)
    assert hash(config) == hash(config.model_copy())
    assert VMConfig(kernel_path=files[0], rootfs_path=files[1], egress="nothing").allow == ()


def test_no_value_of_the_environment_is_shown(files: tuple[Path, Path]) -> None:
    config = VMConfig(kernel_path=files[0], rootfs_path=files[1], env={"TOKEN": "hunter2"})
    assert "TOKEN" in repr(config)
    assert "hunter2" not in repr(config)


def test_results_keep_every_byte() -> None:
    result = CommandResult(
        exit_code=1,
        stdout="\ufffd",
        stderr="",
        stdout_bytes=b"\xff",
        stderr_bytes=b"",
        duration=0.5,
    )
    assert not result.ok
    assert CommandResult.model_validate_json(result.model_dump_json()) == result


def test_the_version_is_that_of_the_crates() -> None:
    assert smolvm.__version__.count(".") == 2

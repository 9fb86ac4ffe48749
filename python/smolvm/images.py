"""Images: where they come from, and where they lie.

``BUILTIN_IMAGES`` are the images that every manager knows that is given no others. To add to them::

    from smolvm.images import BUILTIN_IMAGES

    registry = dict(BUILTIN_IMAGES)
    registry["my-image"] = ImageSource(...)
    manager = ImageManager(registry=registry)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, model_validator
from typing_extensions import Self

from smolvm import _smolvm
from smolvm._paths import AbsolutePath, StrPath

__all__ = ["BUILTIN_IMAGES", "ImageManager", "ImageSource", "LocalImage", "load_registry"]


class ImageSource(BaseModel):
    """The definition of an image: where its kernel and root file system are published, and what
    they must contain.

    Attributes:
        name: The name of the image: letters, digits, ``.``, ``_`` and ``-``.
        kernel_url: Where the kernel is: an ``http``, ``https`` or ``file`` URL.
        kernel_sha256: The SHA-256 digest that the kernel must have, 64 hexadecimal digits. None:
            it is not checked when it arrives, only against what was seen then ever after.
        rootfs_url: Where the root file system is.
        rootfs_sha256: The digest that it must have, or None.
        kernel_filename: The name of the kernel's file in the cache.
        rootfs_filename: The name of the root file system's file in the cache.
        initrd_url: Where the initial RAM disk is, for an image that has one.
        initrd_sha256: The digest that it must have, or None.
        initrd_filename: The name of its file in the cache.
        boot_args: The kernel command line that the image asks for, besides what a VM needs.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True
    )

    name: str
    kernel_url: str
    kernel_sha256: str | None = None
    rootfs_url: str
    rootfs_sha256: str | None = None
    kernel_filename: str = "vmlinux.bin"
    rootfs_filename: str = "rootfs.ext4"
    initrd_url: str | None = None
    initrd_sha256: str | None = None
    initrd_filename: str = "initrd.img"
    boot_args: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        _smolvm.check_source(self)
        return self

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        # URLs may hold passwords, and what is shown ends up in logs.
        for name, value in super().__repr_args__():
            if name is not None and name.endswith("_url") and value is not None:
                value = _smolvm.redacted_url(value)
            yield name, value


class LocalImage(BaseModel):
    """A cached image, verified and ready for use.

    The files are read-only, and other images and processes may share them. A VM never writes to
    them.

    Attributes:
        name: The name of the image.
        kernel_path: The kernel, absolute.
        rootfs_path: The root file system, absolute.
        initrd_path: The initial RAM disk, for an image that has one.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    name: str
    kernel_path: AbsolutePath
    rootfs_path: AbsolutePath
    initrd_path: AbsolutePath | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            name: str,
            kernel_path: StrPath,
            rootfs_path: StrPath,
            initrd_path: StrPath | None = None,
        ) -> None: ...


def _registry(sources: Iterable[_smolvm.SourceFields]) -> dict[str, ImageSource]:
    return {source["name"]: ImageSource(**source) for source in sources}


BUILTIN_IMAGES: dict[str, ImageSource] = _registry(_smolvm.builtin_images())
"""The images that are known without a registry: ``hello`` and ``quickstart-x86_64``, as the
Firecracker project publishes them. It publishes no digests, so they have none."""


def load_registry(path: StrPath) -> dict[str, ImageSource]:
    """Reads a registry file: JSON where its name ends in ``.json``, else TOML.

    ::

        [images.debian-12]
        kernel_url = "https://example.com/vmlinuz"
        kernel_sha256 = "…"
        rootfs_url = "https://example.com/rootfs.ext4"
        rootfs_sha256 = "…"

    Args:
        path: The file.

    Returns:
        Its images by name, for ``ImageManager(registry=…)``.

    Raises:
        ImageError: It cannot be read, or has anything wrong in it; the message names the line and
            the column.
    """
    return _registry(_smolvm.load_registry(path))


class ImageManager:
    """Fetches, caches and validates images.

    Any number of managers, threads and processes may share a cache directory: each file is fetched
    once, and nobody ever sees one that is not whole and right. A manager may be used after a fork,
    in the parent and in the child.

    Args:
        cache_dir: Where images are cached, by default ``~/.smolvm/images``. ``~`` is expanded.
        registry: The images to know, by name, in place of ``BUILTIN_IMAGES``.
        verify: ``"always"``: every byte is hashed at every use. ``"changed"``: only what may have
            changed since it was last verified.
        offline: Never use the network: what is not cached is an error.
        sync: Wait until what was fetched is on the disk.
        fs_verity: Have the kernel keep cached files from changing, where their file system can
            (fs-verity); for good, until they are removed.

    Raises:
        ValidationError: A key of the registry is not the name of its image, or ``verify`` is not
            known.

    Example::

        manager = ImageManager()
        image = manager.ensure_image("hello")
        print(image.kernel_path, image.rootfs_path)
    """

    registry: dict[str, ImageSource]
    """The images that this manager knows, by name. It may be changed."""

    def __init__(
        self,
        cache_dir: StrPath | None = None,
        registry: Mapping[str, ImageSource] | None = None,
        *,
        verify: Literal["always", "changed"] = "always",
        offline: bool = False,
        sync: bool = False,
        fs_verity: bool = False,
    ) -> None:
        self.registry = dict(BUILTIN_IMAGES if registry is None else registry)
        self._settings = (verify, offline, sync, fs_verity)
        self._known = dict(self.registry)
        self._native = self._make(cache_dir)

    def _make(self, cache_dir: StrPath | None) -> _smolvm.ImageManager:
        return _smolvm.ImageManager(cache_dir, list(self._known.items()), *self._settings)

    def _current(self) -> _smolvm.ImageManager:
        """What does the work, with the registry as it is now."""
        if self.registry != self._known:
            self._known = dict(self.registry)
            self._native = self._make(self._native.cache_dir)
        return self._native

    @property
    def cache_dir(self) -> Path:
        """The directory of the cache, absolute. It need not exist yet."""
        return self._native.cache_dir

    def list_available(self) -> list[str]:
        """Lists the names of all registered images.

        Returns:
            The names, sorted.
        """
        return self._current().list_available()

    def is_cached(self, name: str) -> bool:
        """Checks whether an image is fully cached. Hashes nothing, makes nothing and never fails.

        Args:
            name: The name of the image.

        Returns:
            Whether all of its files are in the cache, with the sizes that they should have.
        """
        return self._current().is_cached(name)

    def ensure_image(
        self,
        name: str,
        *,
        on_progress: Callable[[str, int, int | None], object] | None = None,
    ) -> LocalImage:
        """Makes an image be in the cache, whole and right, and says where it lies.

        What is there is hashed, every byte of it; what passes is used without any network traffic.
        What is missing or damaged is fetched, that alone, from where an earlier run has ended.

        Args:
            name: The name of the image.
            on_progress: Called with ``"kernel"``, ``"initrd"`` or ``"rootfs"``, the bytes that are
                there, and the bytes in all (None where the server does not say), on the thread
                that called. The last call for each file has both numbers the same. What it raises
                ends the fetch and is raised here.

        Returns:
            The paths of the image's files.

        Raises:
            ImageError: The name is not in the registry, the download failed, or its bytes are not
                what they should be. What was cached before is untouched.
            ValidationError: The name is blank. (It is a ``ValueError``.)
            KeyboardInterrupt: Within a second of Ctrl-C. What has arrived is kept, and the next
                call goes on from there.
        """
        return self._ensure_image(name, on_progress, None)

    def _ensure_image(
        self,
        name: str,
        on_progress: Callable[[str, int, int | None], object] | None,
        cancel: _smolvm.Cancel | None,
    ) -> LocalImage:
        return LocalImage(**self._current().ensure_image(name, on_progress, cancel))

    def __repr__(self) -> str:
        names = ", ".join(sorted(self.registry))
        return f"ImageManager(cache_dir={str(self.cache_dir)!r}, images=[{names}])"

"""The image manager, awaited."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from smolvm import _smolvm, images
from smolvm._paths import StrPath
from smolvm.aio._call import call, post
from smolvm.exceptions import SmolVMError
from smolvm.images import ImageSource, LocalImage


class ImageManager:
    """Fetches, caches and validates images: :class:`smolvm.ImageManager`, awaited.

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
        first, second = await asyncio.gather(
            manager.ensure_image("hello"), manager.ensure_image("quickstart-x86_64")
        )
    """

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
        self._blocking = images.ImageManager(
            cache_dir,
            registry,
            verify=verify,
            offline=offline,
            sync=sync,
            fs_verity=fs_verity,
        )

    @property
    def cache_dir(self) -> Path:
        """The directory of the cache, absolute. It need not exist yet."""
        return self._blocking.cache_dir

    @property
    def registry(self) -> dict[str, ImageSource]:
        """The images that this manager knows, by name. It may be changed."""
        return self._blocking.registry

    async def list_available(self) -> list[str]:
        """Lists the names of all registered images.

        Returns:
            The names, sorted.
        """
        return self._blocking.list_available()

    async def is_cached(self, name: str) -> bool:
        """Checks whether an image is fully cached. Hashes nothing, makes nothing and never fails.

        Args:
            name: The name of the image.

        Returns:
            Whether all of its files are in the cache, with the sizes that they should have.
        """
        return await call(lambda _: self._blocking.is_cached(name))

    async def ensure_image(
        self,
        name: str,
        *,
        on_progress: Callable[[str, int, int | None], object] | None = None,
    ) -> LocalImage:
        """Makes an image be in the cache, whole and right, and says where it lies.

        Where the task is cancelled the transfer ends. What has arrived is kept, and the next call
        goes on from there.

        Args:
            name: The name of the image.
            on_progress: A function, not a coroutine: called on the event loop's thread with
                ``"kernel"``, ``"initrd"`` or ``"rootfs"``, the bytes that are there, and the bytes
                in all (None where the server does not say). The last call for each file has both
                numbers the same, and comes before this returns. What it raises ends the fetch and
                is raised here.

        Returns:
            The paths of the image's files.

        Raises:
            ImageError: The name is not in the registry, the download failed, or its bytes are not
                what they should be. What was cached before is untouched.
            ValidationError: The name is blank. (It is a ``ValueError``.)
        """
        ensure_image = self._blocking._ensure_image  # pyright: ignore[reportPrivateUsage]
        if on_progress is None:
            return await call(lambda cancel: ensure_image(name, None, cancel))
        with _Progress(on_progress) as progress:
            try:
                image = await call(
                    lambda cancel: ensure_image(name, progress.reporter(cancel), cancel)
                )
            except SmolVMError:
                progress.reraise()
                raise
            progress.reraise()
            return image

    def __repr__(self) -> str:
        return f"aio.{self._blocking!r}"


class _Progress:
    """Brings what a thread reports to the thread of the event loop, in order."""

    def __init__(self, on_progress: Callable[[str, int, int | None], object]) -> None:
        self._on_progress = on_progress
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._news: dict[str, tuple[int, int | None]] = {}
        self._closed = False
        self._error: BaseException | None = None

    def reporter(self, cancel: _smolvm.Cancel) -> Callable[[str, int, int | None], None]:
        """What the working thread is to call."""

        def report(label: str, done: int, total: int | None) -> None:
            # What the loop has not come to yet is replaced by what is newer.
            with self._lock:
                is_announced = bool(self._news)
                self._news[label] = (done, total)
            if not is_announced:
                post(self._loop, lambda: self._tell(cancel), self._context)

        return report

    def _tell(self, cancel: _smolvm.Cancel) -> None:
        with self._lock:
            news, self._news = self._news, {}
        try:
            for label, (done, total) in news.items():
                if not self._closed:
                    self._on_progress(label, done, total)
        except BaseException as error:  # It is raised where the call is awaited.
            self._error = error
            self._closed = True
            cancel.cancel()

    def reraise(self) -> None:
        """Raises what the function has raised."""
        if self._error is not None:
            raise self._error from None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._error = None

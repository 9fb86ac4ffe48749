"""The calls of :mod:`smolvm` for asyncio: the same names, awaited instead of blocking.

::

    from smolvm.aio import VM, ImageManager

    image = await ImageManager().ensure_image("hello")
    async with VM(kernel_path=image.kernel_path, rootfs_path=image.rootfs_path) as vm:
        result = await vm.run("uname -a")
        print(result.stdout)

Every method is awaited, also those that are properties there (``await vm.status()``,
``await vm.info()``). Models and errors are those of :mod:`smolvm`.

Each call works on a thread of its own, none of the event loop's executor, so that any number of
them can wait at once. A call whose task is cancelled ends, and what it had begun ends with it: a
download (what has arrived is kept), a boot, a command in the guest. The task goes on once that has
happened, or after a moment where it takes longer. So :func:`asyncio.timeout`,
``asyncio.wait_for`` and task groups work as for anything else.
"""

from smolvm.aio._images import ImageManager
from smolvm.aio._process import Process, StreamReader, StreamWriter
from smolvm.aio._vm import VM, SmolVM

__all__ = ["VM", "ImageManager", "Process", "SmolVM", "StreamReader", "StreamWriter"]

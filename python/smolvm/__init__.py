"""Images and microVMs for untrusted code.

An :class:`ImageManager` turns the name of an image into a kernel and a root file system on disk:
fetched once, verified at every use, shared by all processes. A :class:`VM` boots them and runs
commands, whatever the root file system holds::

    from smolvm import VM, ImageManager

    image = ImageManager().ensure_image("hello")
    with VM(kernel_path=image.kernel_path, rootfs_path=image.rootfs_path) as vm:
        print(vm.run("uname -a").stdout)

Errors are in :mod:`smolvm.exceptions`, all under ``SmolVMError``. What the library has to say while
it works goes to :mod:`logging`, under ``smolvm``.
"""

from smolvm._smolvm import __version__
from smolvm.images import ImageManager, ImageSource, LocalImage
from smolvm.process import Process
from smolvm.vm import VM, CommandResult, SmolVM, Snapshot, VMConfig, VMInfo, VMState

__all__ = [
    "VM",
    "CommandResult",
    "ImageManager",
    "ImageSource",
    "LocalImage",
    "Process",
    "SmolVM",
    "Snapshot",
    "VMConfig",
    "VMInfo",
    "VMState",
    "__version__",
]

"""Ten VMs at once from one image: each has a disk of its own, and the image stays as it is.

python examples/ten.py [IMAGE [REGISTRY]]
"""

from __future__ import annotations

import asyncio
import sys

from smolvm import LocalImage
from smolvm.aio import VM, ImageManager
from smolvm.images import load_registry

COUNT = 10


async def work(image: LocalImage, number: int) -> str:
    """Boots a VM, has it write to its disk, and returns what it then reads."""
    async with VM(
        kernel_path=image.kernel_path,
        rootfs_path=image.rootfs_path,
        mem_size_mib=128,
        network="none",
    ) as vm:
        await vm.run(f"echo {number} >> /number")
        return (await vm.run("cat /number")).stdout.strip()


async def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "hello"
    registry = load_registry(sys.argv[2]) if len(sys.argv) > 2 else None
    image = await ImageManager(registry=registry).ensure_image(name)
    # Where one fails, the others are ended, too. From Python 3.11 on a TaskGroup does that.
    tasks = [asyncio.create_task(work(image, number)) for number in range(COUNT)]
    try:
        numbers = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    print("The VMs have read:", " ".join(numbers))


if __name__ == "__main__":
    asyncio.run(main())

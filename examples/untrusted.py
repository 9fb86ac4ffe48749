"""An agent that runs code that it does not trust: what a model has written, what a user has sent.

Each piece runs in one VM without a network, as a user without rights, with a time-out and a limit
to what it may write. Whatever becomes of it, the agent gets a text that it can go on with.

    python examples/untrusted.py [IMAGE [REGISTRY]]
"""

from __future__ import annotations

import sys

from smolvm import VM, ImageManager
from smolvm.exceptions import OperationTimeoutError, SmolVMError
from smolvm.images import load_registry

PIECES = {
    "a sum": "echo $((6 * 7))",
    "a mistake": "cat /no/such/file",
    "an endless loop": "echo thinking; while :; do :; done",
    "a flood": "yes",
    "a look around": "id -u; ls /sys/class/net",
}


def run_untrusted(vm: VM, code: str) -> str:
    """Runs a piece of code, and says what became of it."""
    try:
        result = vm.run(code, timeout=3, user="65534:65534", cwd="/tmp", max_output=100_000)
    except OperationTimeoutError as error:
        return f"ended after {error.details['timeout']:g} s; so far: {error.details['stdout']}"
    except SmolVMError as error:
        return f"ended: {error.message}"
    return f"exit code {result.exit_code}: {result.stdout}{result.stderr}"


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "hello"
    registry = load_registry(sys.argv[2]) if len(sys.argv) > 2 else None
    image = ImageManager(registry=registry).ensure_image(name)
    with VM(
        kernel_path=image.kernel_path,
        rootfs_path=image.rootfs_path,
        mem_size_mib=256,
        network="none",
    ) as vm:
        for title, code in PIECES.items():
            print(f"{title}: {run_untrusted(vm, code).strip()}")


if __name__ == "__main__":
    main()

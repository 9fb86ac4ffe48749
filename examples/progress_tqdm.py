"""The progress of a download, with tqdm: a bar for each file.

python examples/progress_tqdm.py [IMAGE [REGISTRY]]
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import NoReturn

from tqdm import tqdm

from smolvm import ImageManager
from smolvm.images import load_registry


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "hello"
    registry = load_registry(sys.argv[2]) if len(sys.argv) > 2 else None
    manager = ImageManager(registry=registry)

    with ExitStack() as stack:
        bars: dict[str, tqdm[NoReturn]] = {}

        def on_progress(label: str, done: int, total: int | None) -> None:
            if label not in bars:
                bar: tqdm[NoReturn] = tqdm(desc=label, unit="B", unit_scale=True)
                bars[label] = stack.enter_context(bar)
            bar = bars[label]
            bar.total = total
            bar.update(done - bar.n)

        image = manager.ensure_image(name, on_progress=on_progress)
    print(image.rootfs_path)


if __name__ == "__main__":
    main()

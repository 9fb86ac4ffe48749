"""The progress of a download, with rich: a bar for each file.

python examples/progress_rich.py [IMAGE [REGISTRY]]
"""

from __future__ import annotations

import sys

from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from smolvm import ImageManager
from smolvm.images import load_registry


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "hello"
    registry = load_registry(sys.argv[2]) if len(sys.argv) > 2 else None
    manager = ImageManager(registry=registry)

    columns = [TextColumn("{task.description:>8}"), BarColumn(), DownloadColumn()]
    with Progress(*columns) as progress:
        bars: dict[str, TaskID] = {}

        def on_progress(label: str, done: int, total: int | None) -> None:
            if label not in bars:
                bars[label] = progress.add_task(label)
            progress.update(bars[label], completed=done, total=total)

        image = manager.ensure_image(name, on_progress=on_progress)
    print(image.rootfs_path)


if __name__ == "__main__":
    main()

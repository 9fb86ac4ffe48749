"""Paths as people give them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, TypeAlias, cast

from pydantic import BeforeValidator

StrPath: TypeAlias = str | os.PathLike[str]
"""A path: text, a ``pathlib.Path``, or anything else with ``__fspath__``."""


def _absolute(value: object) -> object:
    # What is no path is left to pydantic, which says so.
    if isinstance(value, str):
        return Path(value).absolute()
    if isinstance(value, os.PathLike):
        return Path(os.fsdecode(cast("os.PathLike[str]", value))).absolute()
    return value


AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]
"""A field that holds an absolute path, and takes every kind of path."""

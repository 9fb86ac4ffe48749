"""What the calls of a VM take, as the extension module wants it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import TypeAlias

CommandLine: TypeAlias = str | Sequence[str | bytes | os.PathLike[str]]

MAX_OUTPUT = 64 * 1024 * 1024


def encoded(command: CommandLine) -> bytes | list[bytes]:
    if isinstance(command, str):
        return os.fsencode(command)
    if isinstance(command, bytes):
        raise TypeError("a command is a text or a list")
    return [os.fsencode(argument) for argument in command]


def variables(env: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if env is None else dict(env)


def input_bytes(stdin: str | bytes | None) -> bytes | None:
    return stdin.encode() if isinstance(stdin, str) else stdin


def input_or_pipe(stdin: str | bytes | int | None) -> tuple[bytes | None, bool]:
    """What is given as input, and whether it is a pipe."""
    if stdin is None or isinstance(stdin, str | bytes):
        return input_bytes(stdin), False
    if stdin != subprocess.PIPE:
        raise TypeError("stdin is text, bytes or subprocess.PIPE")
    return None, True

"""The build backend (PEP 517, PEP 660): maturin's, with the `smolvm` command in the wheel.

maturin builds an extension module or a command, not both for one wheel. So the command is built
here first, with cargo, and put where maturin takes the wheel's scripts from (`tool.maturin.data` in
pyproject.toml).

The cargo profile is `release`, or what `SMOLVM_BUILD_PROFILE` or the setting `profile` names:
`pip install . --config-settings=profile=dev`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import maturin
from maturin import (
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

Settings = dict[str, Any] | None

SCRIPTS = Path("target/wheel/smolvm.data/scripts")

# Without it maturin does nothing at all, not even tell the package's name.
SCRIPTS.mkdir(parents=True, exist_ok=True)


def build_wheel(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    settings = _prepare(config_settings)
    name: str = maturin.build_wheel(wheel_directory, settings, metadata_directory)
    return name


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    settings = _prepare(config_settings)
    name: str = maturin.build_editable(wheel_directory, settings, metadata_directory)
    return name


def _prepare(config_settings: Settings) -> dict[str, Any]:
    """Builds the command and puts it in its place; the settings for maturin."""
    settings = dict(config_settings or {})
    profile = settings.pop("profile", None) or os.environ.get("SMOLVM_BUILD_PROFILE") or "release"
    shutil.copy2(_command(profile), SCRIPTS / "smolvm")
    arguments = str(settings.get("build-args", ""))
    settings["build-args"] = f"--profile {profile} {arguments}".strip()
    return settings


def _command(profile: str) -> str:
    """Builds the command; its path."""
    # Not `--locked`: cargo drops from the lock file what a source distribution does not have.
    cargo = ["cargo", "build", "--package", "smolvm-cli", "--profile", profile]
    cargo.append("--message-format=json-render-diagnostics")
    built = subprocess.run(cargo, check=True, stdout=subprocess.PIPE, text=True)
    for line in built.stdout.splitlines():
        executable = json.loads(line).get("executable")
        if executable:
            return str(executable)
    raise RuntimeError("cargo has built no command: is crates/smolvm-cli there?")

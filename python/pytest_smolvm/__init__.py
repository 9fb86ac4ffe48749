"""A pytest plugin: images, and a running VM for each test that asks for one.

It is there wherever smolvm is installed, and does nothing for tests that do not name its fixtures:

``smolvm_image``
    ``smolvm_image("name")`` is a :class:`smolvm.LocalImage`, fetched and verified the first time
    that a test of the session asks for it.
``smolvm_vm``
    A running :class:`smolvm.VM` of the test's own, gone after it. Where the test fails, its report
    has the end of the VM's console.
``smolvm_manager``
    The :class:`smolvm.ImageManager` behind both, one for the session. Override it in a
    ``conftest.py`` to set it up otherwise.

``@pytest.mark.smolvm(image="…", boot_timeout=60, …)`` says what the VM of a test, a class or a
module is to be; besides these two it takes the fields of :class:`smolvm.VMConfig`. Marks that are
nearer to the test come first::

    @pytest.mark.smolvm(image="debian-12", mem_size_mib=1024)
    def test_the_package_installs(smolvm_vm):
        smolvm_vm.copy_to("dist/package.deb", "/root/package.deb")
        assert smolvm_vm.run("dpkg -i /root/package.deb").ok

Settings of pytest's configuration file: ``smolvm_image``, the image where no mark names one
(``hello``); ``smolvm_cache_dir``; ``smolvm_registry``, a file with images to know besides the
built-in ones. The environment variables ``SMOLVM_CACHE_DIR`` and ``SMOLVM_REGISTRY`` come before
the latter two.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

# This module is loaded by every pytest that runs where smolvm is installed: whatever takes time to
# import is imported by the fixtures.
if TYPE_CHECKING:
    from smolvm import VM, ImageManager, LocalImage

__all__ = ["ImageFunction", "smolvm_image", "smolvm_manager", "smolvm_vm"]

ImageFunction: TypeAlias = "Callable[[str], LocalImage]"
"""The type of the fixture ``smolvm_image``."""

_CONSOLE = pytest.StashKey[Callable[[], str]]()
_CONSOLE_LINES = 200

_MARK = (
    "smolvm(image, boot_timeout, **fields): the image of the test's fixture smolvm_vm, how many "
    "seconds it may take to boot, and other fields of smolvm.VMConfig"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("smolvm_image", "the image that smolvm_vm boots without a mark", default="hello")
    parser.addini("smolvm_cache_dir", "the directory where images are cached")
    parser.addini("smolvm_registry", "a registry file with images besides the built-in ones")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARK)


@pytest.fixture(scope="session")
def smolvm_manager(pytestconfig: pytest.Config) -> ImageManager:
    """The image manager of this session."""
    from smolvm.images import BUILTIN_IMAGES, ImageManager, load_registry

    registry = dict(BUILTIN_IMAGES)
    if path := _path(pytestconfig, "registry"):
        registry.update(load_registry(path))
    return ImageManager(_path(pytestconfig, "cache_dir"), registry)


@pytest.fixture(scope="session")
def smolvm_image(smolvm_manager: ImageManager) -> ImageFunction:
    """``smolvm_image("name")``: an image, fetched and verified once in this session."""

    def image(name: str) -> LocalImage:
        return smolvm_manager.ensure_image(name)

    return functools.cache(image)


@pytest.fixture
def smolvm_vm(request: pytest.FixtureRequest, smolvm_image: ImageFunction) -> Iterator[VM]:
    """A running VM of the test's own, as its marks ``smolvm`` want it."""
    from smolvm import VM

    node: pytest.Item = request.node
    fields = _marked(node)
    image = smolvm_image(fields.pop("image", None) or request.config.getini("smolvm_image"))
    boot_timeout = fields.pop("boot_timeout", 30.0)
    given: dict[str, Any] = {
        "kernel_path": image.kernel_path,
        "rootfs_path": image.rootfs_path,
        **fields,
    }
    vm = VM(**given)
    node.stash[_CONSOLE] = vm.console_log
    try:
        try:
            vm.start(boot_timeout)
        except BaseException:
            console = vm.console_log()
            node.stash[_CONSOLE] = lambda: console
            raise
        yield vm
    finally:
        try:
            vm.stop()
        finally:
            vm.delete()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    console = item.stash.get(_CONSOLE, None)
    if report.failed and report.when != "teardown" and console is not None:
        report.sections.append(("Console of smolvm_vm", _printable(console())))
    return report


def _path(config: pytest.Config, name: str) -> Path | None:
    """A setting that is a path; that of a file is relative to it."""
    if value := os.environ.get(f"SMOLVM_{name.upper()}"):
        return Path(value).expanduser()
    if value := config.getini(f"smolvm_{name}"):
        base = config.rootpath if config.inipath is None else config.inipath.parent
        return base / Path(value).expanduser()
    return None


def _marked(node: pytest.Item) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for mark in reversed(list(node.iter_markers("smolvm"))):
        if mark.args:
            raise pytest.UsageError('the mark smolvm takes names: smolvm(image="…")')
        fields.update(mark.kwargs)
    return fields


def _printable(console: str) -> str:
    """The end of a console. A guest must not be able to write to this terminal as it likes."""
    lines = re.sub(r"[^\n\t\x20-\x7e\xa0-\U0010ffff]", "", console).splitlines()
    return "\n".join(lines[-_CONSOLE_LINES:])

"""Every example of the user's documentation, run as it is written.

The examples are read out of the documentation itself, so that it cannot drift away from them. What
has to be replaced, and only that, is listed with each.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import ROOT, lacking, place
from pydantic import BaseModel
from server import Server

import smolvm

KERNEL = b"a kernel\n" * 1000
ROOTFS = b"a root file system\n" * 1000


@dataclass(frozen=True)
class Example:
    """A part of the documentation, from one line to another (the first one after it)."""

    title: str
    first: str
    last: str
    occurrence: int = 0
    boots: bool = False
    replace: dict[str, str] = field(default_factory=dict[str, str])
    prints: str = ""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


EXAMPLES = [
    Example(
        "class definition",
        "from smolvm import ImageManager",
        "manager = ImageManager(cache_dir=None, registry=None)",
    ),
    Example(
        "list_available",
        "from smolvm import ImageManager",
        "print(f\"Available images: {', '.join(images)}\")",
        occurrence=1,
        prints="Available images: hello, quickstart-x86_64\n",
    ),
    Example(
        "is_cached",
        "manager = ImageManager()",
        '    print("Image needs to be downloaded")',
        occurrence=1,
        prints="Image is ready to use\n",
    ),
    Example(
        "ensure_image",
        "from smolvm import ImageManager, VMConfig, SmolVM",
        "    vm.start()",
        boots=True,
        prints="Image: hello\nKernel: {home}/.smolvm/images/hello/vmlinux.bin\n"
        "Rootfs: {home}/.smolvm/images/hello/rootfs.ext4\n",
    ),
    Example("hello", "manager = ImageManager()", 'image = manager.ensure_image("hello")', 3),
    Example(
        "quickstart-x86_64",
        "manager = ImageManager()",
        'image = manager.ensure_image("quickstart-x86_64")',
        4,
    ),
    Example(
        "custom registry",
        "from smolvm import ImageManager, ImageSource",
        'image = manager.ensure_image("my-custom-image")',
        replace={
            "https://example.com": "{server}",
            "abc123...": sha256(KERNEL),
            "def456...": sha256(ROOTFS),
        },
    ),
    Example(
        "combined registry",
        "from smolvm.images import BUILTIN_IMAGES",
        "manager = ImageManager(registry=registry)",
        replace={
            "ImageSource(...)": 'ImageSource(name="my-image", kernel_url="{server}/vmlinux.bin", '
            'rootfs_url="{server}/rootfs.ext4")'
        },
    ),
    Example(
        "download security",
        "manager = ImageManager()",
        'image = manager.ensure_image("hello")',
        occurrence=5,
    ),
    Example(
        "cache directory",
        "from pathlib import Path",
        'manager = ImageManager(cache_dir=Path("/var/cache/smolvm"))',
    ),
    Example(
        "complete example",
        "from smolvm import ImageManager, VM",
        '    print(f"Output: {result.stdout.strip()}")',
        boots=True,
        prints="""Available images:
  [✓] hello
  [✓] quickstart-x86_64

Using image: hello
  Kernel: {home}/.smolvm/images/hello/vmlinux.bin
  Rootfs: {home}/.smolvm/images/hello/rootfs.ext4

VM started with IP: {ip}
Output: Hello from SmolVM!
""",
    ),
    Example(
        "error handling",
        "from smolvm import ImageManager",
        "    # Output: Invalid input: image name cannot be empty",
        occurrence=2,
        prints="Failed to get image: Unknown image: 'nonexistent-image'. "
        "Available images: hello, quickstart-x86_64\n"
        "Invalid input: image name cannot be empty\n",
    ),
    Example(
        "bypassing verification",
        "from smolvm import ImageManager, ImageSource",
        'image = manager.ensure_image("dev-image")',
        occurrence=1,
        replace={"http://localhost:8000": "{server}"},
    ),
]

MODELS: dict[str, type[BaseModel]] = {
    "class ImageSource(BaseModel):": smolvm.ImageSource,
    "class LocalImage(BaseModel):": smolvm.LocalImage,
}

METHODS: dict[str, Callable[..., object]] = {
    "def list_available() -> list[str]": smolvm.ImageManager.list_available,
    "def is_cached(name: str) -> bool": smolvm.ImageManager.is_cached,
    "def ensure_image(name: str) -> LocalImage": smolvm.ImageManager.ensure_image,
}


@pytest.fixture(scope="module")
def docs() -> list[str]:
    directory = Path(os.environ.get("SMOLVM_TEST_DOCS") or ROOT.parent / "shared")
    path = directory / "imagemanager-docs.txt"
    if not path.is_file():
        lacking(f"the documentation {path} is not there (SMOLVM_TEST_DOCS names its directory)")
    return path.read_text().splitlines()


def find(docs: list[str], example: Example) -> tuple[int, int]:
    """The lines of an example: where it begins, and behind its end."""
    starts = [number for number, line in enumerate(docs) if line == example.first]
    assert example.occurrence < len(starts), f"the documentation has changed: {example.first!r}"
    start = starts[example.occurrence]
    end = docs.index(example.last, start)
    return start, end + 1


@pytest.fixture
def hello(home: Path, images: Path) -> None:
    """Both built-in images, put by hand under their documented names: real ones, that boot.

    Behaviour 8: they are adopted, with neither pins nor a record, without a download.
    """
    for name in ["hello", "quickstart-x86_64"]:
        directory = home / ".smolvm/images" / name
        place(images / "debian-systemd/vmlinuz", directory / "vmlinux.bin")
        place(images / "debian-systemd/rootfs.ext4", directory / "rootfs.ext4")


@pytest.mark.usefixtures("hello")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)
def test_examples_run_as_written(
    example: Example,
    docs: list[str],
    home: Path,
    server: Server,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start, end = find(docs, example)
    code = "\n".join(docs[start:end])
    for old, new in example.replace.items():
        assert old in code
        code = code.replace(old, new.replace("{server}", server.url("")))
    server.files = {"/vmlinux.bin": KERNEL, "/rootfs.ext4": ROOTFS}
    names: dict[str, object] = {
        "ImageManager": smolvm.ImageManager,
        "ImageSource": smolvm.ImageSource,
    }

    exec(compile(code, example.title, "exec"), names)

    prints = example.prints.replace("{home}", str(home))
    if "{ip}" in prints:
        prints = prints.replace("{ip}", "10.0.2.15")
    assert capsys.readouterr().out == prints
    if example.replace and "image" in names:
        image = names["image"]
        assert isinstance(image, smolvm.LocalImage)
        assert image.kernel_path.read_bytes() == KERNEL
        assert image.rootfs_path.read_bytes() == ROOTFS
        assert set(server.requests) == {"/vmlinux.bin", "/rootfs.ext4"}
    else:
        assert server.requests == []


def test_commented_outputs_are_those_of_the_examples(docs: list[str]) -> None:
    text = "\n".join(docs)
    for example in EXAMPLES:
        start, end = find(docs, example)
        for line in docs[start : end + 1]:
            if "# Output: " in line:
                # It may be broken over two lines.
                output = line.split("# Output: ")[1].rstrip()
                assert output in example.prints
    assert text.count("# Output: ") == 3


def test_no_line_of_code_is_left_out(docs: list[str]) -> None:
    covered: set[int] = set()
    for example in EXAMPLES:
        covered.update(range(*find(docs, example)))
    code = (
        "from ",
        "import ",
        "manager",
        "image = ",
        "registry =",
        "registry[",
        "custom_registry",
        "with ",
        "try:",
    )
    left_out = [
        line
        for number, line in enumerate(docs)
        if number not in covered and line.startswith(code) and is_code(line)
    ]
    assert left_out == []


def is_code(line: str) -> bool:
    try:
        ast.parse(line.rstrip(":") if line == "try:" else line)
    except SyntaxError:
        return line.endswith((":", "{", "("))
    return True


@pytest.mark.parametrize("heading", MODELS)
def test_models_have_the_documented_fields(heading: str, docs: list[str]) -> None:
    model = MODELS[heading]
    start = docs.index(heading)
    end = docs.index("", start) if "" in docs[start:] else len(docs)
    body = [line for line in docs[start + 1 : end] if line.startswith("    ")]
    definition = ast.parse("\n".join([heading, *body])).body[0]
    assert isinstance(definition, ast.ClassDef)
    for statement in definition.body:
        assert isinstance(statement, ast.AnnAssign)
        assert isinstance(statement.target, ast.Name)
        known = model.model_fields[statement.target.id]
        assert known.is_required() == (statement.value is None)
        if statement.value is not None:
            assert known.default == ast.literal_eval(statement.value)


@pytest.mark.parametrize("signature", METHODS)
def test_methods_have_the_documented_signatures(signature: str, docs: list[str]) -> None:
    assert signature in docs
    documented = ast.parse(f"{signature}: ...").body[0]
    assert isinstance(documented, ast.FunctionDef)
    actual = inspect.signature(METHODS[signature])
    positional = [
        name
        for name, parameter in actual.parameters.items()
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and name != "self"
    ]
    assert positional == [argument.arg for argument in documented.args.args]
    assert documented.returns is not None
    assert actual.return_annotation == ast.unparse(documented.returns)


@pytest.mark.usefixtures("hello")
def test_the_cache_looks_as_it_is_drawn(docs: list[str], home: Path) -> None:
    smolvm.ImageManager().ensure_image("hello")
    directory: Path | None = None
    drawn = docs[docs.index("~/.smolvm/images/") + 1 :][:6]
    for line in drawn:
        name = line.lstrip("│├└─ ")
        if name.endswith("/"):
            directory = home / ".smolvm/images" / name
        else:
            assert directory is not None
            assert (directory / name).is_file()

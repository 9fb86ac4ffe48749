"""Virtual machines that really boot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from test_fork import ended_well, forked

from smolvm import VM, ImageManager, ImageSource, LocalImage, SmolVM, VMConfig, VMState
from smolvm.exceptions import (
    ImageError,
    NetworkError,
    OperationTimeoutError,
    SmolVMError,
    ValidationError,
    VMAlreadyExistsError,
    VMNotFoundError,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture(scope="module")
def image(images: Path, tmp_path_factory: pytest.TempPathFactory) -> LocalImage:
    """A real image in a cache: its initrd and boot arguments come with its kernel's path."""
    directory = images / "debian-tiny"
    source = ImageSource(
        name="tiny",
        kernel_url=f"file://{directory}/vmlinuz",
        initrd_url=f"file://{directory}/initrd.img",
        rootfs_url=f"file://{directory}/rootfs.ext4",
    )
    cache = tmp_path_factory.mktemp("cache")
    return ImageManager(cache, {"tiny": source}).ensure_image("tiny")


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the machine that several tests use; each test has its own."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def vm(image: LocalImage, shared_home: Path) -> Iterator[VM]:
    """One that runs, for tests that leave it as it is."""
    before = os.environ["HOME"]
    os.environ["HOME"] = str(shared_home)
    vm = VM(kernel_path=image.kernel_path, rootfs_path=image.rootfs_path, vm_id="shared")
    os.environ["HOME"] = before
    with vm:
        yield vm


def machine(image: LocalImage, **fields: object) -> SmolVM:
    fields = {"kernel_path": image.kernel_path, "rootfs_path": image.rootfs_path, **fields}
    return SmolVM(VMConfig.model_validate(fields))


def state(vm: SmolVM) -> VMState:
    """What it is now: a type checker takes a property for what it was when it was last compared."""
    return vm.status


def test_a_machine_from_its_making_to_its_end(image: LocalImage, home: Path) -> None:
    with machine(image, vm_id="life", network="none", env={"FROM": "config"}) as vm:
        assert vm.vm_id == "life"
        assert state(vm) is VMState.CREATED
        assert repr(vm) == "<SmolVM 'life' created>"
        with pytest.raises(SmolVMError, match="not running"):
            vm.run("true")
        vm.start()
        vm.start()
        assert state(vm) is VMState.RUNNING
        assert vm.run("echo $FROM").stdout == "config\n"
        with pytest.raises(NetworkError):
            vm.get_ip()
        info = vm.info
        assert (info.vm_id, info.status) == ("life", VMState.RUNNING)
        assert info.kernel_path == image.kernel_path
        assert info.directory == home / ".smolvm/vms/life"
        assert info.pid is not None
        assert hash(info) == hash(vm.info)
        with pytest.raises(VMAlreadyExistsError):
            machine(image, vm_id="life")
        again = SmolVM.from_id("life")
        assert again.run("echo $FROM again").stdout == "again\n"

        vm.run("echo kept > /kept")
        vm.stop()
        vm.stop()
        assert state(vm) is VMState.STOPPED
        with pytest.raises(SmolVMError, match="belongs to another program"):
            again.start()
        with pytest.raises(SmolVMError, match="not running"):
            vm.run("true")
        vm.start()
        assert vm.run("cat /kept").stdout == "kept\n"
    assert state(vm) is VMState.STOPPED
    assert not info.directory.exists()
    with pytest.raises(VMNotFoundError):
        SmolVM.from_id("life")


def test_a_vm_has_started_when_its_block_begins_and_is_gone_after_it(image: LocalImage) -> None:
    vm = VM(kernel_path=image.kernel_path, rootfs_path=str(image.rootfs_path))
    directory = vm.info.directory
    with pytest.raises(LookupError, match="the block"), vm:
        assert vm.status is VMState.RUNNING
        assert vm.get_ip()
        raise LookupError("the block")
    assert not directory.exists()


def test_results_are_as_subprocess_has_them(vm: VM) -> None:
    """Behaviour 47."""
    result = vm.run("printf out; printf err >&2; exit 3")
    assert (result.exit_code, result.ok) == (3, False)
    assert (result.stdout, result.stderr) == ("out", "err")
    assert result.duration > 0
    assert vm.run(["echo", "a  b", "$HOME"]).stdout == "a  b $HOME\n"
    assert vm.run("kill -TERM $$").exit_code == -signal.SIGTERM
    raw = vm.run([b"printf", rb"\377\000"])
    assert (raw.stdout_bytes, raw.stdout) == (b"\xff\x00", "\ufffd\x00")
    assert vm.run("cat", stdin="text ü").stdout == "text ü"
    assert vm.run("wc -c", stdin=b"\0" * 100_000).stdout.strip() == "100000"
    assert vm.run("echo $A $PWD", env={"A": "1"}, cwd=Path("/tmp")).stdout == "1 /tmp\n"
    assert vm.run("id -u", user="65534").stdout == "65534\n"


def test_what_cannot_be_run_is_told(vm: VM) -> None:
    with pytest.raises(SmolVMError, match="no such program"):
        vm.run(["no-such-program"])
    with pytest.raises(ValidationError):
        vm.run([])
    with pytest.raises(ValidationError):
        vm.run("echo \0")
    with pytest.raises(ValidationError):
        vm.run("true", timeout=-1.0)
    with pytest.raises(SmolVMError, match="more than 100 bytes"):
        vm.run("yes", max_output=100)
    with pytest.raises(TypeError):
        vm.run(b"echo")  # type: ignore[arg-type] # pyright: ignore


def test_a_time_out_kills_the_group_and_keeps_what_was_written(vm: VM) -> None:
    with pytest.raises(OperationTimeoutError) as caught:
        vm.run("echo begun; sleep 987 & sleep 987", timeout=1.0)
    assert caught.value.details["stdout"] == "begun\n"
    assert caught.value.details["timeout"] == 1.0
    assert "sleep 987" not in vm.run("ps w | grep -v grep").stdout


def test_streams_come_as_they_are_written(vm: VM) -> None:
    command = "while read line; do echo got $line; done; echo end >&2; exit 5"
    with vm.popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        for word in (b"one\n", b"two\n"):
            process.stdin.write(word)
            process.stdin.flush()
            assert process.stdout.readline() == b"got " + word
        assert process.poll() is None
        assert "running" in repr(process)
        process.stdin.close()
        assert process.wait(30) == 5
        assert process.stdout.read() == b""
        assert process.stderr.read() == b"end\n"
    assert process.returncode == 5


def test_a_process_that_is_left_is_killed(vm: VM) -> None:
    with vm.popen(["sleep", "986"]) as process:
        with pytest.raises(OperationTimeoutError):
            process.wait(0.1)
    assert process.returncode == -signal.SIGKILL
    with vm.popen("yes") as process:
        assert process.stdout.read(2) == b"y\n"
    assert process.returncode == -signal.SIGKILL
    with vm.popen(["sleep", "986"]) as process:
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM


def test_a_lot_of_output_comes_whole_while_it_is_read(vm: VM) -> None:
    with vm.popen("dd if=/dev/zero bs=1048576 count=16 2>/dev/null") as process:
        assert sum(len(part) for part in iter(lambda: process.stdout.read(65536), b"")) == 16 << 20


def test_files_are_copied_both_ways(vm: VM, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/file").write_bytes(b"\0content")
    vm.copy_to(tree, "/root/tree")
    assert vm.run("cat /root/tree/sub/file").stdout_bytes == b"\0content"
    vm.copy_from("/root/tree", str(tmp_path / "back"))
    assert (tmp_path / "back/sub/file").read_bytes() == b"\0content"
    with pytest.raises(SmolVMError, match="nothing-there"):
        vm.copy_from("/nothing-there", tmp_path / "x")


def test_a_port_leads_into_the_guest(vm: VM) -> None:
    vm.run("mkdir -p /www && echo served > /www/index.html && httpd -p 8080 -h /www")
    port = vm.forward(8080)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/index.html", timeout=30) as answer:
        assert answer.read() == b"served\n"


def test_fifty_commands_at_once(vm: VM) -> None:
    """Behaviour 47."""
    results: list[str] = []

    def run(word: str) -> None:
        results.append(vm.run(["echo", word]).stdout)

    threads = [threading.Thread(target=run, args=(str(number),)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, results)) == list(range(50))


def test_waiting_for_its_init_and_its_console(vm: VM) -> None:
    vm.wait_ready(timeout=60)
    assert "Hello from SmolVM!" in vm.console_log()


OTHER = """
import sys
from smolvm import SmolVM
from smolvm.exceptions import VMNotFoundError
vm = SmolVM.from_id("shared")
print(vm, vm.run("echo from another process").stdout, end="")
try:
    SmolVM.from_id("none")
except VMNotFoundError as error:
    print(error.details)
"""


def test_another_process_finds_it_by_its_id(vm: VM, shared_home: Path) -> None:
    other = subprocess.run(
        [sys.executable, "-c", OTHER],
        env={**os.environ, "HOME": str(shared_home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout == ("<SmolVM 'shared' running> from another process\n{'vm_id': 'none'}\n")
    assert vm.status is VMState.RUNNING


def test_others_go_on_from_a_snapshot(vm: VM, tmp_path: Path, home: Path) -> None:
    vm.pause()
    assert vm.status is VMState.PAUSED
    with pytest.raises(SmolVMError, match="it is paused"):
        vm.run("true")
    vm.resume()
    vm.run("echo kept > /root/kept")
    snapshot = vm.snapshot(tmp_path / "snapshot")
    vm.run("rm /root/kept")
    with VM.restore(snapshot, vm_id="worker", env={"NAME": "value"}, timeout=120) as worker:
        assert (worker.status, worker.info.vm_id) == (VMState.RUNNING, "worker")
        assert worker.run("cat /root/kept; echo $NAME").stdout == "kept\nvalue\n"
    assert not any((home / ".smolvm/vms").glob("worker"))
    other = snapshot.model_copy(update={"digest": "0" * 64})
    with pytest.raises(SmolVMError, match="not as it was"):
        VM.restore(other)
    with pytest.raises(SmolVMError, match="is no snapshot"):
        VM.restore(tmp_path)
    with pytest.raises(SmolVMError, match="is there already"):
        vm.snapshot(snapshot.path)


def test_a_forked_child_uses_the_machine_and_does_not_end_it(vm: VM) -> None:
    process = vm.popen(["sleep", "984"])

    def child() -> None:
        with vm:
            assert vm.run("echo child").stdout == "child\n"
            with pytest.raises(SmolVMError, match="belongs to the process"):
                process.poll()

    assert ended_well(forked(child))
    assert vm.run("echo parent").stdout == "parent\n"
    assert process.poll() is None
    process.kill()


OWNER = """
import os, signal, sys
from smolvm import VM
vm = VM(kernel_path=sys.argv[1], rootfs_path=sys.argv[2], network="none").__enter__()
child = os.fork()
if child == 0:
    signal.pause()
print(vm.info.directory, vm.info.pid, child, flush=True)
signal.pause()
"""


def test_a_machine_ends_with_its_owner_and_not_with_the_owners_children(image: LocalImage) -> None:
    """Behaviour 48."""
    command = [sys.executable, "-c", OWNER, str(image.kernel_path), str(image.rootfs_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        directory, vmm, child = owner.stdout.readline().split()
        try:
            owner.kill()
            wait_for(lambda: not (Path(directory).exists() or Path(f"/proc/{vmm}").exists()))
            os.kill(int(child), 0)
        finally:
            os.kill(int(child), signal.SIGKILL)


INTERRUPTED = """
from smolvm import SmolVM

vm = SmolVM.from_id("shared")

def attempt(call):
    print("begins", flush=True)
    try:
        call()
    except KeyboardInterrupt:
        print("interrupted", flush=True)

attempt(lambda: vm.run("sleep 981", timeout=None))
attempt(lambda: vm.popen("sleep 982").stdout.read())
attempt(lambda: vm.popen("sleep 983").wait())
"""


def test_ctrl_c_ends_a_call_and_the_command_with_it(vm: VM, shared_home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        env={**os.environ, "HOME": str(shared_home)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            for command in ["sleep 981", "sleep 982", "sleep 983"]:
                assert process.stdout.readline() == "begins\n"
                wait_for(partial(runs, vm, command))
                process.send_signal(signal.SIGINT)
                assert process.stdout.readline() == "interrupted\n"
                wait_for(partial(ended, vm, command))
            assert process.wait(60) == 0
        finally:
            process.kill()


def runs(vm: VM, command: str) -> bool:
    return command in vm.run("ps w | grep '[s]leep'").stdout


def ended(vm: VM, command: str) -> bool:
    return not runs(vm, command)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


BOOT = """
import sys
from smolvm import VM
try:
    print("begins", flush=True)
    with VM(kernel_path=sys.argv[1], rootfs_path=sys.argv[2], network="none", vm_id="booting"):
        print("booted", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_ends_a_boot_and_leaves_nothing(image: LocalImage, home: Path) -> None:
    command = [sys.executable, "-c", BOOT, str(image.kernel_path), str(image.rootfs_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        console = home / ".smolvm/vms/booting/console.log"
        wait_for(lambda: console.exists() and console.stat().st_size > 0)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
    assert not console.parent.exists()


CALLS = """
import sys
from smolvm import SmolVM

vm = SmolVM.from_id("shared")
vm.run("true")
print("ready", flush=True)
sys.stdin.readline()
for call in (
    lambda: vm.wait_ready(60),
    lambda: vm.copy_to(sys.argv[1], "/root/large"),
    lambda: vm.copy_from("/bin/busybox", sys.argv[2]),
):
    try:
        print("begins", flush=True)
        call()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_ctrl_c_ends_waits_and_copies_that_a_guest_does_not_answer(
    vm: VM, shared_home: Path, tmp_path: Path
) -> None:
    """The guest's processors stand still meanwhile; afterwards it goes on as if nothing were."""
    large, copied = tmp_path / "large", tmp_path / "copied"
    large.write_bytes(bytes(4 << 20))
    command = [sys.executable, "-c", CALLS, str(large), str(copied)]
    environment = {**os.environ, "HOME": str(shared_home)}
    vmm = vm.info.pid
    assert vmm is not None
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(vmm, signal.SIGSTOP)
        try:
            process.stdin.write("go\n")
            process.stdin.flush()
            for _ in range(3):
                assert process.stdout.readline() == "begins\n"
                # It is to be heard within the call; if it came before, it would be as well.
                time.sleep(0.3)
                process.send_signal(signal.SIGINT)
                assert process.stdout.readline() == "interrupted\n"
        finally:
            os.kill(vmm, signal.SIGCONT)
    assert process.returncode == 0
    assert not copied.exists()
    assert vm.run("test ! -e /root/large && echo on").stdout == "on\n"


def test_what_is_no_kernel_is_told(image: LocalImage, tmp_path: Path) -> None:
    """Behaviour 29."""
    page = tmp_path / "page"
    page.write_text("<!DOCTYPE html><html></html>")
    with pytest.raises(ImageError, match="HTML"):
        machine(image, kernel_path=page)


def test_a_guest_that_does_not_boot_in_time_is_told_with_its_console(image: LocalImage) -> None:
    """Behaviour 46."""
    with machine(image, network="none") as vm:
        with pytest.raises(OperationTimeoutError) as caught:
            vm.start(boot_timeout=0.2)
        assert "console" in caught.value.details
        assert vm.status is VMState.STOPPED


def test_a_shared_disk_keeps_what_is_written(image: LocalImage, tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs.ext4"
    rootfs.write_bytes(image.rootfs_path.read_bytes())
    counts: list[str] = []
    for _ in range(2):
        with machine(image, rootfs_path=rootfs, disk_mode="shared", network="none") as vm:
            vm.start()
            counts.append(vm.run("echo x >> /count; wc -l < /count").stdout.strip())
    assert counts == ["1", "2"]


def test_the_image_is_not_written_to(image: LocalImage, images: Path) -> None:
    """Behaviour 44."""
    original = images / "debian-tiny/rootfs.ext4"
    assert image.rootfs_path.read_bytes() == original.read_bytes()

"""A test suite with a VM for each test: that of a backup script, which is run as root and may
break whatever it likes.

    pip install smolvm pytest
    pytest examples/testing
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from smolvm import VM

BACKUP = Path(__file__).with_name("backup.sh")

pytestmark = pytest.mark.smolvm(mem_size_mib=256, network="none")


@pytest.fixture
def machine(smolvm_vm: VM) -> Iterator[VM]:
    """A VM with the script, and with something to back up."""
    smolvm_vm.copy_to(BACKUP, "/root/backup.sh")
    smolvm_vm.run("mkdir /data && echo precious > /data/file")
    yield smolvm_vm
    # Whatever a test does, the script must leave the data as it was.
    assert smolvm_vm.run("cat /data/file").stdout == "precious\n"


def test_a_backup_has_the_data(machine: VM) -> None:
    assert machine.run("sh /root/backup.sh /data /backup").ok
    assert machine.run("cat /backup/data/file").stdout == "precious\n"


def test_a_backup_is_not_overwritten(machine: VM) -> None:
    machine.run("mkdir /backup && echo older > /backup/file")
    result = machine.run("sh /root/backup.sh /data /backup")
    assert (result.exit_code, result.stderr) == (1, "/backup is there already\n")
    assert machine.run("cat /backup/file").stdout == "older\n"

"""Everything that smolvm raises of its own, under :class:`SmolVMError`.

What it raises besides: pydantic's ``ValidationError`` (a ``ValueError``) where a model is made of
values that it cannot have, and ``KeyboardInterrupt`` where a call is interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "CommandExecutionUnavailableError",
    "FirecrackerAPIError",
    "HostError",
    "ImageError",
    "NetworkError",
    "OperationTimeoutError",
    "SmolVMError",
    "VMAlreadyExistsError",
    "VMNotFoundError",
    "ValidationError",
]


class SmolVMError(Exception):
    """The base of all errors of smolvm.

    Attributes:
        message: What happened, to what, and what to do about it. Holds no secrets.
        details: The same in parts, by name: ``url``, ``path``, ``expected``, ``actual``,
            ``attempts``, ``vm_id`` and others, as far as they are known.

    What caused it, where that is known, is its ``__cause__``.
    """

    message: str
    details: dict[str, Any]

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = dict(details) if details is not None else {}


class ImageError(SmolVMError):
    """An image cannot be had, or not be booted: an unknown or malformed name, a download that
    failed, bytes that are not what they should be, a cache that cannot be used."""


class ValidationError(SmolVMError, ValueError):
    """A value that cannot be, such as a blank name. It is a ``ValueError`` as well."""


class HostError(SmolVMError):
    """This host lacks something that a VM needs, or failed at something."""


class NetworkError(SmolVMError):
    """The network of a VM. (A download that fails is an :class:`ImageError`.)"""


class VMAlreadyExistsError(SmolVMError):
    """There is a VM of that id already."""


class VMNotFoundError(SmolVMError):
    """There is no VM of that id."""


class OperationTimeoutError(SmolVMError):
    """Something took longer than it was given. The ``details`` of a command have what it had
    written by then, as ``stdout`` and ``stderr``; those of a boot the end of its ``console``."""


class CommandExecutionUnavailableError(SmolVMError):
    """Commands cannot be run in the VM any more: its agent cannot be reached, or not be
    believed."""


class FirecrackerAPIError(SmolVMError):
    """Firecracker refused something, or answered what cannot be understood."""

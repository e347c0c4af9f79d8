"""Object stores: opened by their URL, and what they say of themselves as one kind of error.

Credentials come from a store's usual environment variables.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class ObjectsUnavailable(ConnectionError):
    """An object store does not answer, or refuses."""


def is_url(place: str | Path) -> bool:
    """Whether a place is in an object store, not on this machine's disks."""
    return "://" in str(place)


def opened(url: str, **options: Any) -> Any:
    """obstore's store at ``s3://bucket/prefix``, ``gs://``, ``az://`` or ``file:///folder``; ValueError without it."""
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise ValueError(f"{url} needs obstore, which is not installed; pip install 'asid[cluster]'") from error
    return from_url(url, **options)


@contextmanager
def reaching(place: str | Path) -> Iterator[None]:
    """ObjectsUnavailable for what the store at a place raises; a folder's errors stay as they are.

    An object that is not there stays a FileNotFoundError.
    """
    if not is_url(place):
        yield
        return
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, PermissionError) as error:
        raise unavailable(place, error) from error


def unavailable(place: str | Path, error: Exception) -> ObjectsUnavailable:
    """What is told of a store's own error, which has many lines."""
    reason = str(error).strip().partition("\n")[0]
    return ObjectsUnavailable(f"{place} cannot be reached ({reason}); check address and credentials")

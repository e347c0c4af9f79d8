"""The connection to Milvus: a server by its address, or Milvus Lite, a folder ``x.db`` that one process may hold."""

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException, ParamError

_CONNECT_TIMEOUT = 10.0  # seconds
# After a minute of nothing to do, Lite's server hangs up on a client that asks every ten seconds whether it is there,
# and gRPC says so on stderr. In one process nobody has to ask.
_LITE_OPTIONS = {"grpc.keepalive_time_ms": 2**31 - 1}

_lite_holders: Counter[str] = Counter()  # Lite's server is one per path and process, whoever opened it
_lite_lock = threading.Lock()


class IndexUnavailable(ConnectionError):
    """Milvus does not answer, or another process holds the Milvus Lite folder."""


@contextmanager
def reaching(uri: str, purpose: str) -> Iterator[None]:
    """Turn what Milvus says of itself into IndexUnavailable."""
    try:
        yield
    except ParamError:
        raise
    except MilvusException as error:
        reason = error.message.partition("\n")[0]
        raise IndexUnavailable(
            f"Milvus at {uri} could not {purpose}: {reason}; check that it runs and try again"
        ) from error


def is_local(uri: str) -> bool:
    """Whether this is Milvus Lite in this process."""
    return uri.endswith(".db")  # pymilvus' own rule for Milvus Lite in this process


def connect(uri: str, token: str) -> MilvusClient:
    """A client; IndexUnavailable where nobody answers or another process holds the folder."""
    # Both packages log a traceback for each error that is then raised and told in one line here.
    for name in ("pymilvus", "milvus_lite"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with _lite_lock:
            options = _LITE_OPTIONS if is_local(uri) else {}
            client = MilvusClient(uri, token=token, timeout=_CONNECT_TIMEOUT, grpc_options=options)
            if is_local(uri):
                _lite_holders[uri] += 1
    except MilvusException as error:
        held = is_local(uri) and Path(uri).parent.is_dir()
        cure = (
            "another process holds it: wait for that one, or serve it with `milvus-lite server` and give its address"
            if held
            else "start Milvus there, or correct the address and token"
        )
        raise IndexUnavailable(f"Milvus at {uri} cannot be opened ({error.message}); {cure}") from error
    return client


def release_lite(uri: str) -> None:
    """Open a Milvus Lite folder for other processes when the last client of this one has left it."""
    # Closing a client leaves the folder locked until the process ends.
    from milvus_lite.server_manager import server_manager_instance

    with _lite_lock:
        _lite_holders[uri] -= 1
        if _lite_holders[uri] <= 0:
            server_manager_instance.release_server(uri)

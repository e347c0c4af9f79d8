"""Settings: where the catalogue lives and how it is asked, from defaults, a TOML file and the command line.

    data = "/srv/asid"                    # settings.toml; every key may be left away
    milvus_uri = "http://milvus:19530"
    ledger_url = "postgresql+psycopg://asid@db/asid"    # pip install 'asid[cluster]'
    device = "cuda"
    workers = 8
    verifier = "verifier.safetensors"     # of `asid train verifier`, for an encoder of your own
    nodes_url = "s3://bucket/asid"        # Zarr in an object store; credentials from its usual environment variables
    node_form = "full"                    # whole node matrices: 32 KiB a segment instead of 2
    runner = "dask"                       # who encodes: threads, processes, dask
    dask_address = "tcp://scheduler:8786"

    [ranking]
    candidates = 5
    threshold = 0.5
    false_alarms = 0.05    # share of sample-free queries that may be answered
    verify = false         # correlation alone ranks; a calibration is of one or the other
    quality = "best"       # for queries of minutes and a large catalogue, two to three times as long

    [limits]
    duration = 7200        # seconds of audio that one file may hold

Addresses may also come from ASID_DATA, ASID_MILVUS_URI and ASID_LEDGER_URL; secrets only from the environment
(ASID_MILVUS_TOKEN). Flow runs of a deployment read the file that ASID_SETTINGS names; ASID_LOG=json gives one JSON
object per line.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from encoder.limits import Limits
from reranker.rank import Ranking
from store.fingerprints import IndexSettings

DEFAULT_SYSTEM = "asid"
_ENVIRONMENT = {"data": "ASID_DATA", "milvus_uri": "ASID_MILVUS_URI", "ledger_url": "ASID_LEDGER_URL"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One installation of asid."""

    data: Path = Path("~/.local/share/asid")
    milvus_uri: str | None = None  # None: Milvus Lite, a file under `data`
    ledger_url: str | None = None  # None: SQLite, a file under `data`
    system: str = (
        DEFAULT_SYSTEM  # whose shipped encoder is used; others keep their catalogue in a folder of their own in `data`
    )
    encoder: Path | None = None  # checkpoint; None: the shipped one
    reranker: Path | None = None
    verifier: Path | None = None  # of `asid train verifier`; None: the shipped one, where it fits
    calibration: Path | None = None  # None: calibration.json under `data` where it is there, else the shipped one
    device: str = "cpu"
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)  # tracks encoded at the same time
    nodes_url: str | None = None  # object store for Zarr; None: a folder under `data`
    node_form: str = "auto"  # full, compact, a file of `asid train compact`; auto: compact for the shipped encoder
    runner: Literal["threads", "processes", "dask"] = "threads"  # flows/workers.py
    dask_address: str | None = None  # None: a cluster of `workers` processes on this machine, for the run
    decoding: Literal["along", "apart"] = "along"  # apart: Dask workers with the resource CPU decode for those with GPU
    ranking: Ranking = Ranking()
    limits: Limits = Limits()
    index: IndexSettings = IndexSettings()

    def __post_init__(self) -> None:
        for name in ("data", "encoder", "reranker", "verifier", "calibration"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)).expanduser())
        if self.workers < 1:
            raise ValueError(f"settings: workers is {self.workers}, expected at least 1")
        if self.runner not in get_args(self.__annotations__["runner"]):
            raise ValueError(f"settings: runner is {self.runner!r}, expected threads, processes or dask")
        if self.decoding not in get_args(self.__annotations__["decoding"]):
            raise ValueError(f"settings: decoding is {self.decoding!r}, expected along or apart")
        if self.decoding == "apart" and not (self.runner == "dask" and self.dask_address):
            raise ValueError(
                "settings: decoding 'apart' needs workers of two kinds; set runner to 'dask' and dask_address"
            )
        if self.runner != "threads" and (self.milvus_uri or ".db").endswith(".db"):
            raise ValueError(
                f"settings: runner {self.runner!r} needs a Milvus server, since Milvus Lite is for one process; "
                "set milvus_uri, or runner to 'threads'"
            )

    @property
    def root(self) -> Path:
        """The data directory of all systems, as it was given: another than the default keeps a folder of its own."""
        return self.data if self.system == DEFAULT_SYSTEM else self.data.parent


def load(file: Path | None = None, *, ranking: Mapping[str, Any] | None = None, **given: Any) -> Settings:
    """Settings from the file, then the environment, then what is given; None means "not given"."""
    table = _table(file) if file else {}
    for name, kind in (("ranking", Ranking), ("index", IndexSettings), ("limits", Limits)):
        if name in table:
            table[name] = _built(kind, table[name], f"[{name}] of {file}")
    table |= {key: os.environ[name] for key, name in _ENVIRONMENT.items() if os.environ.get(name)}
    settings = replace(_built(Settings, table, str(file or "the environment")), **_given(given))
    if settings.system != DEFAULT_SYSTEM:
        settings = replace(settings, data=settings.data / settings.system)
    return replace(settings, ranking=replace(settings.ranking, **_given(ranking or {})))


def ranking(table: Mapping[str, Any], where: str) -> Ranking:
    """Just as the table says, whatever this machine is set to; ValueError where this version knows no such ranking."""
    return _built(Ranking, table, where)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _table(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such settings file; check the path")
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: is no TOML ({error}), expected settings as in flows/settings.py") from error


def _built(kind: type, table: Mapping[str, Any], where: str) -> Any:
    if not isinstance(table, Mapping):
        raise ValueError(f"{where}: is {table!r}, expected a table of {', '.join(kind.__dataclass_fields__)}")
    unknown = set(table) - set(kind.__dataclass_fields__)
    if unknown:
        raise ValueError(
            f"{where}: unknown key {sorted(unknown)[0]!r}, expected some of {', '.join(kind.__dataclass_fields__)}"
        )
    try:
        return kind(**table)
    except TypeError as error:  # text where a number is expected, and the like
        wrong = [f"{name} is {value!r}" for name, value in table.items() if _of_wrong_type(kind, name, value)]
        told = ", ".join(wrong) or "a value"
        raise ValueError(f"{where}: {told}, which is of the wrong type ({error}); see flows/settings.py") from error


def _of_wrong_type(kind: type, name: str, value: Any) -> bool:
    try:
        kind(**{name: value})
    except TypeError:
        return True
    except ValueError:
        return False
    return False

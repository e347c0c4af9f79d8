"""Identity: which encoder made what a data directory keeps. Ledger, Zarr root and Milvus collection all carry it."""

from dataclasses import asdict, dataclass
from typing import Any


class IndexMismatch(ValueError):
    """What is kept was made by another encoder, or belongs to another catalogue."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Digest of the checkpoint and the shapes that follow from it."""

    digest: str  # of the checkpoint
    nodes: int
    channels: int
    dimensions: int  # of a fingerprint
    hop: float  # seconds
    segment_duration: float  # seconds
    contrast_frames: int = 0  # contrast features of a hop; 0 where the encoder's front end has none
    semitones: int = 0  # of a frame of contrast features
    node_form: str = "full"  # how node matrices are kept (store/node_form.py)

    def __post_init__(self) -> None:
        if len(self.digest) < 12:
            raise ValueError(f"digest {self.digest!r} has fewer than 12 characters; give the checkpoint's full digest")
        for name in ("nodes", "channels", "dimensions", "hop", "segment_duration"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}; take it from the checkpoint")

    @property
    def short(self) -> str:
        """The first 12 characters of the digest: names folders and collections."""
        return self.digest[:12]

    def require(self, found: dict[str, Any], where: str) -> None:
        """Raise IndexMismatch unless ``found``, kept at ``where``, says the same in every field that it has."""
        for name, expected in asdict(self).items():
            if name in found and found[name] != expected:
                raise IndexMismatch(
                    f"{where} was made with {name} {found[name]}, this encoder has {name} {expected}; "
                    "use the checkpoint and settings it was made with, fill a second collection beside it "
                    "(`asid ingest --checkpoint NEW`), or ingest into another data directory"
                )

"""Judgements: the public tables on the similarity of 78 playing techniques, laid over the files of Studio-on-Line.

    ticelJudgments.mat (or judgements.mat)   `ci` (listeners, 78): the group in which each listener put each technique;
                                             `ensemble` (1, 78): the consensus, which is the label of a technique
    ticelSimilarity.npz                      `similarity` (78, 78): how many listeners put two into one group
    seed_filelist.csv                        the 78 files that were judged, and their techniques ("IMT")
    extended_pitch_F*.csv                    the same techniques at other pitches; the widest one there is counts

They may lie anywhere below the folder. Audio, or precomputed features (FEATURE/path.npy), is looked for under the paths
of the tables. As published, each judged file is among the others once more. Nothing in these files is executed: the
tables are numbers (Lostanlen et al., EURASIP JASMP 2020).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
from numpy.typing import NDArray
from scipy import io

from evaluation.sounds.listing import Sounds

_TABLES = ("ticelJudgments.mat", "judgements.mat")
_SEEDS, _EXTENDED, _SIMILARITY = "seed_filelist.csv", "extended_pitch_F*.csv", "ticelSimilarity.npz"
_FOLDERS = ("", "SOL_0.9_HQ")


@dataclass(frozen=True, kw_only=True)
class Judgements:
    """What listeners said of each technique."""

    groups: NDArray[np.int64]  # (listeners, techniques)
    consensus: NDArray[np.int64]  # (techniques,) cluster, from 1

    def __post_init__(self) -> None:
        if self.groups.ndim != 2 or self.consensus.shape != self.groups.shape[1:]:
            raise ValueError(
                f"judgements: groups are {self.groups.shape} and the consensus {self.consensus.shape}, "
                "expected (listeners, techniques) and (techniques,)"
            )

    @property
    def similarity(self) -> NDArray[np.int64]:
        """(techniques, techniques): how many listeners put two into one group; all of them on the diagonal."""
        return (self.groups[:, :, None] == self.groups[:, None, :]).sum(axis=0)


def lie_in(directory: Path) -> bool:
    """Whether the tables are below the folder."""
    return any(_below(directory, name) for name in _TABLES) and bool(_below(directory, _SEEDS))


def read(directory: Path) -> Judgements:
    """The judgements; ValueError where they cannot be read or are at odds with the table of similarities."""
    path = next(found for name in _TABLES if (found := _below(directory, name)))
    try:
        tables = io.loadmat(path, variable_names=("ci", "ensemble"))
        found = Judgements(groups=tables["ci"].astype(np.int64), consensus=tables["ensemble"].ravel().astype(np.int64))
    except (KeyError, NotImplementedError, OSError, TypeError) as error:
        raise ValueError(f"{path}: is no table of judgements ({error}), expected `ci` and `ensemble`") from error
    if kept := _below(directory, _SIMILARITY):
        with np.load(kept, allow_pickle=False) as file:
            similarity = file["similarity"]
        if not np.array_equal(similarity, found.similarity):
            raise ValueError(f"{kept}: is not what the groups of {path.name} make; take both from one source")
    return found


def sounds(directory: Path, *, feature: str | None = None) -> Sounds:
    """The judged files and their extension, as far as they are there, with the consensus as labels."""
    directory, judged = Path(directory), read(directory)
    seeds = _csv(_below(directory, _SEEDS), ("fpath", "IMT"))
    if len(seeds) != len(judged.consensus):
        raise ValueError(f"{_SEEDS} has {len(seeds)} rows for {len(judged.consensus)} judged techniques")
    listed = [(str(path), number) for number, path in enumerate(seeds["fpath"])]
    extended = max(directory.rglob(_EXTENDED), key=lambda path: path.name, default=None)
    if extended is not None:
        more = _csv(extended, ("filepath", "seed_id"))
        listed += [(str(p), int(n)) for p, n in zip(more["filepath"], more["seed_id"], strict=True)]
    if wrong := [number for _, number in listed if not 0 <= number < len(judged.consensus)]:
        raise ValueError(f"{extended}: has seed_id {wrong[0]}, expected 0 to {len(judged.consensus) - 1}")
    there = [(place, number) for name, number in listed if (place := _place(directory, name, feature))]
    if not there:
        wanted = f"{feature}/*.npy" if feature else "audio"
        raise FileNotFoundError(
            f"{directory}: none of {len(listed)} files is there ({wanted}, the first is {listed[0][0]}); "
            "lay Studio-on-Line beside the tables"
        )
    techniques = np.array([number for _, number in there], np.int64)
    return Sounds(
        about=f"{len(there)} of {len(listed)} files of Studio-on-Line in {directory}",
        names=tuple(place.name for place, _ in there),
        paths=tuple(place for place, _ in there),
        labels=judged.consensus[techniques],
        techniques=techniques,
        label_names=tuple(map(str, range(judged.consensus.max() + 1))),
    )


def _place(directory: Path, name: str, feature: str | None) -> Path | None:
    """Where a file of the tables lies; None where it does not, or would lie outside of the folder."""
    for folder in _FOLDERS:
        base = directory / folder
        place = base / name if feature is None else (base / feature / name).with_suffix(".npy")
        if place.is_file() and place.resolve().is_relative_to(directory.resolve()):
            return place
    return None


def _csv(path: Path, columns: tuple[str, ...]) -> pandas.DataFrame:
    table = pandas.read_csv(path)
    if missing := [name for name in columns if name not in table]:
        raise ValueError(f"{path}: has no column {missing[0]!r}, expected {', '.join(columns)}")
    return table


def _below(directory: Path, name: str) -> Path | None:
    return min(Path(directory).rglob(name), default=None)

"""Version batches: a version set -> batches of anchors with other versions of their works, as shingles of spectra.

The front end runs over each track once, and its frames are kept on disk; a batch cuts blocks and shingles out of them.
So a shingle's first and last half second hear what lies beyond it, where an encoder hears a reflection: a difference
that training pays for not computing every constant-Q transform anew in every epoch.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from encoder import audio
from encoder.segments import SegmentGrid
from encoder.training.version_schedule import VersionSchedule
from encoder.training.version_set import Version


@dataclass(frozen=True, kw_only=True)
class VersionBatch:
    """Shingles of some tracks, what work each is a version of, and which track it is."""

    spectra: Tensor  # (tracks, shingles, bins, frames)
    works: Tensor  # (tracks,)
    tracks: Tensor  # (tracks,)


class SpectraCache:
    """Frames (bins, frames) of whole tracks, computed when first asked for, kept as half-precision files."""

    def __init__(self, directory: Path, front_end: nn.Module) -> None:
        self.directory, self.front_end = directory, front_end
        directory.mkdir(parents=True, exist_ok=True)

    def __call__(self, version: Version) -> NDArray[np.float16]:
        """Memory-mapped frames of a recording; raises AudioError."""
        path = self.directory / f"{self._key(version.path)}.npy"
        if not path.exists():
            unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
            with unfinished.open("wb") as file:
                np.save(file, self._frames(version.path))
            unfinished.rename(path)
        return np.load(path, mmap_mode="r")

    @torch.inference_mode()
    def _frames(self, path: Path) -> NDArray[np.float16]:
        sound = torch.from_numpy(audio.read(path, sample_rate=self.front_end.sample_rate))
        margin = self.front_end.config.n_fft // 2
        if len(sound) <= margin:
            sound = F.pad(sound, (0, margin + 1 - len(sound)))
        place = next(self.front_end.buffers()).device
        padded = F.pad(sound[None, None], (margin, margin), mode="reflect")[0].to(place)
        return self.front_end(padded)[0].half().cpu().numpy()

    def _key(self, path: Path) -> str:
        state = path.stat()
        front_end = (self.front_end.config, self.front_end.sample_rate, self.front_end.frame_hop)
        told = (str(path.resolve()), state.st_size, state.st_mtime_ns, repr(front_end))
        return hashlib.sha256(repr(told).encode()).hexdigest()[:32]


class BatchMaker:
    """Batch number n of a seed, always the same."""

    def __init__(
        self, versions: Sequence[Version], spectra: Callable[[Version], NDArray], grid: SegmentGrid,
        schedule: VersionSchedule,
    ) -> None:  # fmt: skip
        self.versions, self.spectra, self.grid, self.schedule = versions, spectra, grid, schedule
        self.members: dict[str, list[int]] = defaultdict(list)
        for number, version in enumerate(versions):
            self.members[version.work].append(number)
        self.works = {work: number for number, work in enumerate(self.members)}
        if len(self.works) < 2:
            raise ValueError(f"versions of {len(self.works)} works, expected at least 2: one is the other's negative")

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.schedule.steps or max(1, len(self.versions) // self.schedule.anchors)

    def batch(self, number: int) -> VersionBatch:
        """Anchors in an order drawn anew each time all were, each with other versions of its work."""
        rng = np.random.default_rng([self.schedule.seed, number, 31])
        tracks = [track for place in range(self.schedule.anchors) for track in self._group(number, place, rng)]
        return self._made(tracks, [self._block(self._frames(track), rng) for track in tracks])

    def first_blocks(self) -> VersionBatch:
        """The first block of every track, in shingles twice as dense, to validate with."""
        tracks = range(len(self.versions))
        blocks = [self._frames(track)[:, : self._block_frames] for track in tracks]
        return self._made(tracks, blocks, density=2)

    def _group(self, number: int, place: int, rng: np.random.Generator) -> list[int]:
        """An anchor and its positives: other versions in random order, again from the first where they are few."""
        lap, index = divmod(number * self.schedule.anchors + place, len(self.versions))
        order = np.random.default_rng([self.schedule.seed, lap, 32]).permutation(len(self.versions))
        anchor = int(order[index])
        others = [track for track in self.members[self.versions[anchor].work] if track != anchor]
        drawn = rng.permutation(others).tolist()
        return [anchor, *(drawn[i % len(drawn)] for i in range(self.schedule.positives))]

    @property
    def _block_frames(self) -> int:
        return round(self.schedule.block * self.grid.sample_rate / self.grid.frame_hop)

    def _frames(self, track: int) -> NDArray:
        return self.spectra(self.versions[track])

    def _block(self, frames: NDArray, rng: np.random.Generator) -> NDArray:
        start = int(rng.integers(max(frames.shape[1] - self._block_frames, 0) + 1))
        return frames[:, start : start + self._block_frames]

    def _made(self, tracks: Sequence[int], blocks: Sequence[NDArray], *, density: int = 1) -> VersionBatch:
        return VersionBatch(
            spectra=torch.from_numpy(np.stack([self._shingles(block, density) for block in blocks])).float(),
            works=torch.tensor([self.works[self.versions[track].work] for track in tracks]),
            tracks=torch.tensor(tracks),
        )

    def _shingles(self, block: NDArray, density: int) -> NDArray:
        """(shingles, bins, frames) of a block, which begins anew where it ends; as many for a short one."""
        hop = round(self.schedule.block_hop / density * self.grid.sample_rate / self.grid.frame_hop)
        count = -(-max(self._block_frames - self.grid.frames, 0) // hop) + 1
        places = (np.arange(count)[:, None] * hop + np.arange(self.grid.frames)) % block.shape[1]
        return np.asarray(block)[:, places].transpose(1, 0, 2)

"""Encode: a path or a waveform -> Encoding, whole, or block by block: then hours need no more memory than minutes.

`Encoder` joins what the stages before it made: decoded audio, the segment grid, the front end, the trained network.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from encoder import audio, checkpoint, contrast, segments
from encoder.checkpoint import CheckpointError
from encoder.encoding import Encoding, join
from encoder.gnn import Encoded
from encoder.limits import DEFAULT, Limits
from encoder.segments import Block, SegmentGrid
from encoder.systems import KINDS, SYSTEMS, System, named

SILENCE = 3e-4  # RMS of a segment (-70 dBFS) at or under which it has no fingerprint


def shipped(name: str = "asid") -> Path:
    """The checkpoint of that system that comes with the package; CheckpointError where none does."""
    named(name)
    path = Path(str(resources.files("encoder") / "weights" / f"{name}.safetensors"))
    if not path.is_file():
        others = ", ".join(sorted({p.stem for p in path.parent.glob("*.safetensors")} & SYSTEMS.keys()))
        raise CheckpointError(
            f"no weights of system {name!r} come with asid, only of {others}; train them (docs/systems.md) and give "
            "--encoder"
        )
    return path


class Encoder:
    """A trained system, ready to encode tracks on one device."""

    def __init__(
        self, path: Path | None = None, *, device: str = "cpu", batch: int = 64, limits: Limits = DEFAULT
    ) -> None:  # fmt: skip
        """Load the checkpoint at `path`, or the shipped one; raises CheckpointError. `limits` hold for its files."""
        self.path = Path(path or shipped())
        loaded = checkpoint.load(self.path, *KINDS)
        self.system: System = loaded.config
        self.digest, self.provenance = loaded.digest, loaded.provenance
        # What rests on contrast features alone outlives new fingerprints.
        self.contrast_digest = loaded.part("contrast.", self.system.front_end, self.system.grid, self.system.contrast)
        self.device, self.batch = torch.device(device), batch
        if limits.shortest == DEFAULT.shortest:  # nobody has asked for another
            limits = replace(limits, shortest=self.system.shortest)
        self.limits = limits
        self.network = loaded.restore(self.system.build()).to(self.device)
        if self.system.contrast is not None:
            self.network.contrast = self.network.contrast.folded()
        self.front_end = self.system.spectra().to(self.device)
        empty = self._empty()
        self.nodes, self.channels = empty.node_matrices.shape[1:]
        self.dimensions = empty.fingerprints.shape[1]
        self.contrast = empty.contrast.shape[1:]  # frames of a hop and semitones; zeros without contrast features

    @property
    def grid(self) -> SegmentGrid:
        return self.system.grid

    @property
    def shapes(self) -> dict[str, Any]:
        """The digest, and the shapes of all that is kept of it: the fields of store.identity.Identity."""
        grid, (frames, semitones) = self.grid, self.contrast
        made = dict(nodes=self.nodes, channels=self.channels, dimensions=self.dimensions)
        made |= dict(hop=grid.hop, segment_duration=grid.duration, contrast_frames=frames, semitones=semitones)
        return dict(digest=self.digest) | made

    def blocks(self, path: Path) -> Iterator[Encoding]:
        """Consecutive encodings of a file of any length, at least one; raises AudioError."""
        return self.encode_stream(audio.stream(path, sample_rate=self.grid.sample_rate, limits=self.limits))

    def encode(self, path: Path, *, node_matrices: bool = True) -> Encoding:
        """The whole file as one encoding; raises AudioError. Its node matrices, 220 MB an hour, may be left out."""
        return self._joined(audio.stream(path, sample_rate=self.grid.sample_rate, limits=self.limits), node_matrices)

    def encode_waveform(self, waveform: NDArray[np.float32]) -> Encoding:
        """(samples,) mono at the grid's sample rate as one encoding; short ones are padded with zeros."""
        if not np.isfinite(waveform).all():
            raise ValueError("the waveform holds NaN or infinite samples, expected finite audio")
        return self._joined([np.asarray(waveform, np.float32)])

    def encode_stream(self, chunks: Iterable[NDArray[np.float32]]) -> Iterator[Encoding]:
        """Encodings of consecutive blocks of a stream of mono chunks."""
        for block, last in _with_end(segments.blocks(chunks, self.grid, self.front_end.config.n_fft)):
            yield self._encode(block, last)

    def _joined(self, chunks: Iterable[NDArray[np.float32]], node_matrices: bool = True) -> Encoding:
        samples = 0

        def counted() -> Iterator[NDArray[np.float32]]:
            nonlocal samples
            for chunk in chunks:
                samples += len(chunk)
                yield chunk

        blocks = self.encode_stream(counted())
        encoding = join(blocks if node_matrices else (block.without_node_matrices() for block in blocks))
        return replace(encoding, duration=samples / self.grid.sample_rate)

    @torch.inference_mode()
    def _encode(self, block: Block, last: bool) -> Encoding:
        audible = np.flatnonzero(self._levels(block) > SILENCE)
        if self.grid.shingled:
            parts = [self.embed(part) for part in self._cut(block)[audible].split(self.batch) if len(part)]
            kept = dict(first_hop=block.first)
        else:
            frames = self.frames(block)
            spectra = frames.unfold(1, self.grid.frames, self.grid.step).transpose(0, 1)
            parts = [self.network(part.to(self.device)) for part in spectra[audible].split(self.batch) if len(part)]
            kept = dict(contrast=self._contrast(frames, block, last), first_hop=block.first)
        if not parts:
            return replace(self._empty(), **kept)
        return Encoding(
            segment_indices=block.first + audible,
            fingerprints=torch.cat([p.fingerprints for p in parts]).float().cpu().numpy(),
            node_matrices=torch.cat([p.node_matrices.half() for p in parts]).cpu().numpy(),
            hop=self.grid.hop,
            segment_duration=self.grid.duration,
            **kept,
        )

    @torch.inference_mode()
    def embed(self, shingles: torch.Tensor) -> Encoded:
        """Waveforms cut beforehand (batch, samples), each reflected at its own ends."""
        margin = self.front_end.config.n_fft // 2
        padded = F.pad(shingles.to(self.device).unsqueeze(1), (margin, margin), mode="reflect").squeeze(1)
        return self.network(self.front_end(padded))

    def _cut(self, block: Block) -> torch.Tensor:
        """The segments of a shingled block, (segments, samples)."""
        stride = self.grid.step * self.grid.frame_hop
        return torch.from_numpy(block.samples).unfold(0, self.grid.window(1, 0), stride)

    def contrast_stream(
        self, chunks: Iterable[NDArray[np.float32]]
    ) -> Iterator[tuple[torch.Tensor, NDArray[np.uint8]]]:
        """Spectrum (bins, frames) in dB and contrast features (hops, frames of a hop, semitones), block by block.

        What `encode_stream` gives as `contrast`, without the segments' network, which takes most of the time.
        """
        for block, last in _with_end(segments.blocks(chunks, self.grid, self.front_end.config.n_fft)):
            frames = self.frames(block)
            yield frames[: self.system.front_end.bins], self._contrast(frames, block, last)

    @torch.inference_mode()
    def frames(self, block: Block) -> torch.Tensor:
        """(rows, frames) of one block; the segments' spectra are windows of it, overlapping ones computed once."""
        return self.front_end(torch.from_numpy(block.samples).to(self.device).unsqueeze(0))[0]

    def _contrast(self, frames: torch.Tensor, block: Block, last: bool) -> NDArray[np.uint8]:
        """Contrast features of the hops at which the block's segments start, and of the track's end behind the last."""
        made = self.system.plain_contrast()
        if made is None:
            return np.zeros((0, 0, 0), np.uint8)
        if self.system.contrast is not None:
            rows = self.network.contrast.features(frames)
        else:
            rows = contrast.features(frames[: self.system.front_end.bins], made)
        rows = rows[: len(rows) - len(rows) % (self.grid.step // made.pool)]
        hops = rows.reshape(-1, self.grid.step // made.pool, rows.shape[1])
        return hops if last else hops[: block.segments]

    def _levels(self, block: Block) -> NDArray[np.float64]:
        """RMS of each segment of a block."""
        energy = np.concatenate([[0.0], np.cumsum(np.square(block.samples, dtype=np.float64))])
        window = self.grid.window(1, self.front_end.config.n_fft)
        starts = np.arange(block.segments) * self.grid.step * self.grid.frame_hop
        return np.sqrt((energy[starts + window] - energy[starts]) / window)

    @torch.inference_mode()
    def _empty(self) -> Encoding:
        probe = torch.zeros(1, self.system.rows, self.grid.frames, device=self.device)
        nodes, fingerprints = self.network(probe)
        return Encoding(
            segment_indices=np.zeros(0, np.int64),
            fingerprints=np.zeros((0, fingerprints.shape[1]), np.float32),
            node_matrices=np.zeros((0, *nodes.shape[1:]), np.float16),
            hop=self.grid.hop,
            segment_duration=self.grid.duration,
            contrast=self._contrast(probe[0], Block(first=0, segments=0, samples=probe), last=False),
        )


def _with_end(blocks: Iterable[Block]) -> Iterator[tuple[Block, bool]]:
    """Each block, and whether it is the last one."""
    held = None
    for block in blocks:
        if held is not None:
            yield held, False
        held = block
    if held is not None:
        yield held, True

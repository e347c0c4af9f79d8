"""Limits: how much one file may ask of the decoder, so that no file, broken or crafted, takes the machine with it.

Decoding is a stream of chunks (encoder/audio.py), so memory is held by `channels`, and duration and decoding time by
what is counted while it runs, whatever the header announces.

    ValueError
     └─ AudioError      the file cannot be used; says which and why
"""

from dataclasses import dataclass
from pathlib import Path

LONGEST_TEXT = 300  # characters of a tag or of a decoder's message


class AudioError(ValueError):
    """The file cannot be used as audio; the message names file, value and expectation, in one printable line."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, printable(reason)
        super().__init__(f"{printable(str(path))}: {self.reason}")

    def __reduce__(self):
        return AudioError, (self.path, self.reason)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a file may hold and how long its decoding may take."""

    shortest: float = 0.5  # seconds; less is refused, unless the system takes shorter sounds (encoder/systems.py)
    duration: float = 9 * 3600.0  # seconds of audio; a track of more has no segment ids (store/segment_ids.py)
    channels: int = 32  # 24 of the largest surround format; a chunk of all of them is held in memory
    lowest_rate: int = 4_000  # Hz; under it nothing of what the encoder looks at is left
    highest_rate: int = 768_000  # Hz; twice the highest in use
    decoding: float = 900.0  # seconds that the decoder may work on one file; twenty minutes of mp3 take 3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"limits: {name} is {value}, expected a positive number")
        if self.lowest_rate > self.highest_rate:
            raise ValueError(
                f"limits: lowest_rate {self.lowest_rate} is above highest_rate {self.highest_rate}; exchange them"
            )

    def check_format(self, path: Path, *, sample_rate: int, channels: int) -> None:
        """AudioError where the header tells of a sample rate (Hz) or a number of channels beyond these limits."""
        if not 1 <= channels <= self.channels:
            raise AudioError(path, f"has {channels} channels, expected 1 to {self.channels}; mix it down")
        if not self.lowest_rate <= sample_rate <= self.highest_rate:
            expected = f"expected {self.lowest_rate} to {self.highest_rate} Hz"
            raise AudioError(path, f"has a sample rate of {sample_rate} Hz, {expected}; export the file again")

    def check_duration(self, path: Path, seconds: float) -> None:
        """AudioError where the audio lasts longer than these limits."""
        if seconds > self.duration:
            raise AudioError(path, f"lasts more than {self.duration / 3600:.4g} h, expected at most that; cut it")

    def too_slow(self, path: Path) -> AudioError:
        """The error for a file whose decoding takes too long."""
        return AudioError(path, f"still decoding after {self.decoding:g} s, expected an end by then; leave it out")


DEFAULT = Limits()


def printable(text: str) -> str:
    """The text without line breaks, control characters and bytes that are no text, which are written as escapes."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)

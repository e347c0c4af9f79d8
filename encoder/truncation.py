"""Truncation: how much audio a file announces, so that one that was cut short is told from a whole one.

wav, aiff, au, w64   the header holds the size of the audio; libsndfile corrects a wrong one and notes it in its log
ogg, opus            the last page carries an end-of-stream bit; libsndfile notes its absence in its log
flac, mp3            the header holds the number of samples, to be compared with what is decoded
mp3 without a Xing   nothing is announced: libsndfile guesses from the first frame's bit rate, which at a variable
or Info header       rate is off by any factor, and stops there; FFmpeg decodes such a file to its end
                     (encoder/audio.py); a cut cannot be told and none is claimed
"""

import re
from pathlib import Path

import soundfile

_SIZE = re.compile(r"^\s*(?:data|SSND|riff|Data Size) *: *(\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN = 2**31 - 2**16  # bytes; programs that write into a pipe announce 2 or 4 GiB for want of knowing
_UNTOLD = 2**63 - 1  # libsndfile's number of samples where the header says 0
_MARKS = (b"Xing", b"Info")  # of the first mp3 frame where it holds the number of frames
_WITHIN = 4096  # bytes behind the tags in which that frame begins


def noted(file: soundfile.SoundFile) -> str | None:
    """What libsndfile noted on opening that shows the end is missing; None where all seems there."""
    if "lacks an end-of-stream bit" in file.extra_info:
        return "ends without an end-of-stream mark"
    for announced, found in (map(int, sizes) for sizes in _SIZE.findall(file.extra_info)):
        if announced < _UNKNOWN and falls_short(found, announced):
            return f"holds {found} bytes of audio, expected {announced} by its header"
    return None


def announced_frames(file: soundfile.SoundFile, path: Path) -> int | None:
    """Samples per channel by the header, None for an mp3 or a flac (written into a pipe) that does not tell."""
    untold = file.frames == _UNTOLD or (file.format == "MP3" and not _tells_its_length(path))
    return None if untold else file.frames


def falls_short(found: int, announced: int) -> bool:
    """Whether that is far less; encoder's delay, padding and rounding are not."""
    return found < 0.98 * announced - 4096


def _tells_its_length(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(10)
        if start[:3] == b"ID3":  # its size: four bytes of seven bits
            file.seek(10 + sum((byte & 0x7F) << shift for byte, shift in zip(start[6:], (21, 14, 7, 0))))
        else:
            file.seek(0)
        head = file.read(_WITHIN)
    return any(mark in head for mark in _MARKS)

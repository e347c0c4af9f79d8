"""Mutated audio files: two seconds of music in every container that can be written here, broken in every way, by seed.

    for mutant in mutations.mutants(sources(folder), count=2000, seed=0): path.write_bytes(mutant.data)

The same sources, count and seed give the same bytes. Kinds: `whole` (suffix kept or wrong), `cut`, `bits`, `header`
(impossible sizes, rates, channels), `floats` (NaN, infinite, huge), `garbage` (inserted, removed, doubled, zeroed),
`spliced` (of two files), `impostor` (no audio at all), `short`.
"""

import itertools
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

RATE = 22_050
_LIBSNDFILE = {  # name: format, subtype
    "pcm16.wav": ("WAV", "PCM_16"), "pcm24.wav": ("WAV", "PCM_24"), "unsigned.wav": ("WAV", "PCM_U8"),
    "float.wav": ("WAV", "FLOAT"), "double.wav": ("WAV", "DOUBLE"), "ulaw.wav": ("WAV", "ULAW"),
    "ima.wav": ("WAV", "IMA_ADPCM"), "ms.wav": ("WAV", "MS_ADPCM"), "extensible.wav": ("WAVEX", "PCM_16"),
    "rf64.wav": ("RF64", "PCM_16"), "wave64.w64": ("W64", "PCM_16"), "pcm.aiff": ("AIFF", "PCM_16"),
    "float.aiff": ("AIFF", "FLOAT"), "pcm.au": ("AU", "PCM_16"), "float.au": ("AU", "FLOAT"),
    "pcm.caf": ("CAF", "PCM_16"), "float.caf": ("CAF", "FLOAT"), "alac.caf": ("CAF", "ALAC_16"),
    "16.flac": ("FLAC", "PCM_16"), "24.flac": ("FLAC", "PCM_24"), "vorbis.ogg": ("OGG", "VORBIS"),
    "opus.opus": ("OGG", "OPUS"), "layer3.mp3": ("MP3", "MPEG_LAYER_III"),
    "rare-voc.wav": ("VOC", "PCM_16"), "rare-sds.wav": ("SDS", "PCM_16"), "rare-mat5.wav": ("MAT5", "FLOAT"),
}  # fmt: skip
_MONO = {"SDS"}
_FFMPEG = {  # name: options
    "aac.m4a": ("-c:a", "aac"), "alac.m4a": ("-c:a", "alac"), "adts.aac": ("-c:a", "aac"), "dolby.ac3": ("-c:a", "ac3"),
    "windows.wma": ("-c:a", "wmav2"), "opus.webm": ("-c:a", "libopus"), "flac.mka": ("-c:a", "flac"),
    "wavpack.wv": ("-c:a", "wavpack"), "pcm.mov": ("-c:a", "pcm_s16le"), "mp3.avi": ("-c:a", "libmp3lame"),
    "variable.mp3": ("-c:a", "libmp3lame", "-q:a", "4", "-write_xing", "0"),
}  # fmt: skip
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".aiff", ".caf", ".opus", ".wma", ".w64")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A whole file."""

    name: str
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A broken file."""

    name: str  # unique, ends in a suffix of audio
    kind: str
    data: bytes


def sources(folder: Path, *, seconds: float = 1.6) -> list[Source]:
    """The same chords in each container that libsndfile and, where it is installed, FFmpeg write."""
    folder.mkdir(parents=True, exist_ok=True)
    wave = _chords(seconds)
    for name, (container, subtype) in _LIBSNDFILE.items():
        kept = wave[:, :1] if container in _MONO else wave
        soundfile.write(folder / name, kept, 48_000 if subtype == "OPUS" else RATE, format=container, subtype=subtype)
    if shutil.which("ffmpeg"):
        for name, options in _FFMPEG.items():
            command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", "pcm16.wav", "-ar", "48000", *options, name]
            subprocess.run(command, cwd=folder, check=True, timeout=60)
    return [Source(name=path.name, data=path.read_bytes()) for path in sorted(folder.iterdir())]


def mutants(whole: Sequence[Source], *, count: int, seed: int) -> Iterator[Mutant]:
    """`count` files; kinds take turns, so that a small count has some of each."""
    random = np.random.default_rng(seed)
    given = {"header": _headers(whole), "impostor": _impostors(whole)}
    for number, (kind, mutate) in zip(range(count), itertools.cycle(_KINDS.items())):
        source = whole[random.integers(len(whole))]
        suffix, data = Path(source.name).suffix, mutate(source, whole, random)
        if made := next(given.get(kind, iter(())), None):
            source, suffix, data = made
        if random.random() < 0.1:
            suffix = str(random.choice(SUFFIXES))
        yield Mutant(name=f"{number:05d}-{kind}-{Path(source.name).stem}{suffix}", kind=kind, data=data)


def _chords(seconds: float) -> np.ndarray:
    """(samples, 2), three notes with harmonics."""
    time = np.arange(int(seconds * RATE)) / RATE
    notes = [np.sin(2 * np.pi * hertz * time * k) / k for hertz in (220.0, 277.2, 329.6) for k in (1, 2, 3)]
    mono = 0.1 * sum(notes) * (0.6 + 0.4 * np.sign(np.sin(2 * np.pi * 2 * time)))
    return np.stack([mono, 0.7 * mono], axis=1).astype(np.float32)


def _whole(source: Source, _: Sequence[Source], random: np.random.Generator) -> bytes:
    return source.data


def _cut(source: Source, _: Sequence[Source], random: np.random.Generator) -> bytes:
    """Anywhere, every second time within the first 200 bytes."""
    longest = min(200, len(source.data)) if random.random() < 0.5 else len(source.data)
    return source.data[: random.integers(longest)]


def _bits(source: Source, _: Sequence[Source], random: np.random.Generator) -> bytes:
    data = bytearray(source.data)
    longest = min(int(random.choice([64, 512, len(data)])), len(data))
    for _flip in range(int(2 ** random.uniform(0, 7))):
        data[random.integers(longest)] ^= 1 << random.integers(8)
    return bytes(data)


def _header(source: Source, _: Sequence[Source], random: np.random.Generator) -> bytes:
    """One to three fields of two, four or eight bytes in the first 128 set to something extreme."""
    data = bytearray(source.data)
    for _field in range(random.integers(1, 4)):
        width, place = int(random.choice([2, 4, 8])), int(random.integers(min(128, len(data) - 8)))
        extreme = [bytes(width), b"\xff" * width, b"\x7f" + b"\xff" * (width - 1), b"\x80" + bytes(width - 1)]
        data[place : place + width] = extreme[random.integers(4)][:: random.choice([1, -1])]
    return bytes(data)


def _floats(source: Source, whole: Sequence[Source], random: np.random.Generator) -> bytes:
    """NaN, infinities or the largest numbers somewhere in a file of floats."""
    named = [one for one in whole if one.name in ("float.wav", "double.wav", "float.aiff", "float.caf", "float.au")]
    source = named[random.integers(len(named))]
    order = ">" if source.name in ("float.aiff", "float.caf", "float.au") else "<"
    width = 8 if source.name == "double.wav" else 4
    data = bytearray(source.data)
    bad = struct.pack(order + "fd"[width == 8], random.choice([np.nan, np.inf, -np.inf, 3e38]))
    start = len(data) % width  # audio runs to the end
    for place in random.integers((len(data) - 8192) // width, size=random.integers(1, 50)):
        at = len(data) - width - int(place) * width
        data[max(at, start) : max(at, start) + width] = bad
    return bytes(data)


def _garbage(source: Source, _: Sequence[Source], random: np.random.Generator) -> bytes:
    """Bytes put in, taken out, doubled or blanked, at up to five places."""
    data = source.data
    for _place in range(random.integers(1, 6)):
        at, length = int(random.integers(len(data))), int(2 ** random.uniform(0, 12))
        part = data[at : at + length]
        middle = [random.bytes(length) + part, b"", part + part, bytes(len(part)), random.bytes(len(part))]
        data = (data[:at] + middle[random.integers(5)] + data[at + length :]) or b"\0"
    return data


def _spliced(source: Source, whole: Sequence[Source], random: np.random.Generator) -> bytes:
    other = whole[random.integers(len(whole))].data
    return source.data[: random.integers(len(source.data))] + other[random.integers(len(other)) :]


def _impostor(source: Source, _: Sequence[Source], random: np.random.Generator) -> bytes:
    """The magic of some container before noise."""
    return source.data[: random.integers(4, 48)] + random.bytes(int(random.integers(4000)))


def _short(source: Source, _: Sequence[Source], random: np.random.Generator) -> bytes:
    """0.3 s or less, well-formed."""
    wave = _chords(float(random.uniform(0, 0.3)))
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + 4 * len(wave), b"WAVE", b"fmt ", 16, 1, 2, RATE, RATE * 4,
                         4, 16, b"data", 4 * len(wave))  # fmt: skip
    return header + (wave * 32_000).astype("<i2").tobytes()


_KINDS: dict[str, Callable[[Source, Sequence[Source], np.random.Generator], bytes]] = {
    "cut": _cut, "bits": _bits, "header": _header, "floats": _floats, "garbage": _garbage, "spliced": _spliced,
    "impostor": _impostor, "short": _short, "whole": _whole,
}  # fmt: skip


def _headers(whole: Sequence[Source]) -> Iterator[tuple[Source, str, bytes]]:
    """What chance would hardly make: exact fields of wav and flac at their worst."""
    named = {source.name: source for source in whole}
    wav, flac = named["pcm16.wav"], named["16.flac"]
    for place, layout, value in _WAV_FIELDS:
        data = bytearray(wav.data)
        struct.pack_into(layout, data, place, value)
        if place == 24:  # the rate, with bytes per second in order
            struct.pack_into("<I", data, 28, value * 4 % 2**32)
        yield wav, ".wav", bytes(data)
    for channels in (3, 64, 1024):
        yield wav, ".wav", _many_channels(wav.data, channels)
    for rate, samples in ((0, 2**36 - 1), (1, 2**36 - 1), (2**20 - 1, 35_280), (22_050, 2**36 - 1), (22_050, 0)):
        data = bytearray(flac.data)  # fLaC, block header (4), sizes (10), rate 20 bits, channels 3, bits 5, samples 36
        kept = int.from_bytes(data[18:26], "big") & (0xFF << 36)
        data[18:26] = (rate << 44 | kept | samples).to_bytes(8, "big")
        yield flac, ".flac", bytes(data)


def _impostors(whole: Sequence[Source]) -> Iterator[tuple[Source, str, bytes]]:
    """Files of other programs."""
    for suffix, data in itertools.product((".wav", ".m4a"), _others()):
        yield whole[0], suffix, data


_WAV_FIELDS = [
    *((22, "<H", channels) for channels in (0, 64, 1024, 65_535)),
    *((24, "<I", rate) for rate in (0, 1, 100, 3_999, 2_000_000, 4_000_000_000, 2**31, 2**32 - 1)),
    *((4, "<I", size) for size in (0, 1, 2**31 - 1, 2**32 - 1)),
    *((16, "<I", size) for size in (0, 4, 2**31 - 1, 2**32 - 1)),
    *((20, "<H", tag) for tag in (0, 2, 3, 0x11, 0x31, 0x55, 0xFFFE, 0xFFFF)),
    *((32, "<H", align) for align in (0, 1, 65_535)),
    *((34, "<H", bits) for bits in (0, 1, 7, 24, 64, 65_535)),
    *((40, "<I", size) for size in (0, 1, 10**6, 2**31 - 1, 2**31, 2**32 - 1)),
]


def _many_channels(wav: bytes, channels: int) -> bytes:
    """The samples as so many channels, the header in order."""
    data = bytearray(wav)
    struct.pack_into("<HIIH", data, 22, channels, RATE, RATE * 2 * channels, (2 * channels) % 65_536)
    return bytes(data) * 20 if channels > 64 else bytes(data)


def _others() -> list[bytes]:
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 60_000, 60_000, 8, 2, 0, 0, 0)
    return [
        b"", b"\0", b"\n", bytes(100_000), b"this is a letter, not a song\n" * 100, b"RIFF", b"fLaC", b"OggS", b"ID3",
        b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(1000), b"PK\x03\x04" + zlib.compress(bytes(9000)), png + bytes(1000),
        b"%PDF-1.7\n%\xe2\xe3\n" + b"1 0 obj\n" * 200, b"GIF89a" + b"\xff" * 2000, b"\xff\xd8\xff\xe0" + b"\xff" * 2000,
        b"#!/bin/sh\necho\n", b"\x7fELF" + bytes(4000), b"\x1f\x8b\x08" + b"\x01" * 999, b"MThd\0\0\0\6" + bytes(99),
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n", b"\xff\xfb\x90\x64" * 5000, b"<html><body>404</body></html>",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    ]  # fmt: skip

"""What a file may ask of the decoder: channels, rate, duration, time; and how it is told when it asks for more."""

import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from encoder import audio
from encoder.limits import DEFAULT, AudioError, Limits

RATE = 16_000


@pytest.fixture
def song(tmp_path):
    """Two seconds of stereo noise, 16 bits."""
    path = tmp_path / "song.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((2 * RATE, 2)), RATE)
    return path


def with_field(path, place, layout, value):
    """The wav with one field of its header overwritten: channels at 22, rate at 24."""
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, place, value)
    path.write_bytes(data)
    return path


def refusals(path, **options):
    """What `info` and `read` say."""
    said = []
    for ask in (audio.info, audio.read):
        with pytest.raises(AudioError) as caught:
            ask(path, **options)
        said.append(caught.value.reason)
    return said


@pytest.mark.parametrize("rate", [1, 3_999, 768_001, 4_000_000_000 // 2])
def test_a_sample_rate_that_no_music_has_is_refused(song, rate):
    line = f"has a sample rate of {rate} Hz, expected 4000 to 768000 Hz; export the file again"
    assert refusals(with_field(song, 24, "<I", rate)) == [line, line]


@pytest.mark.parametrize("rate", [4_000, 768_000])
def test_the_rates_at_the_limits_are_read(song, rate):
    soundfile.write(song, np.zeros(rate), rate)  # one second
    assert len(audio.read(song)) == pytest.approx(RATE, abs=2)


@pytest.mark.parametrize("channels", [33, 64, 1000])
def test_more_channels_than_a_hall_has_are_refused(tmp_path, channels):
    soundfile.write(tmp_path / "many.wav", np.zeros((8_000, channels)), RATE)
    line = f"has {channels} channels, expected 1 to 32; mix it down"
    assert refusals(tmp_path / "many.wav") == [line, line]
    assert len(audio.read(tmp_path / "many.wav", limits=Limits(channels=1000))) == 8_000


def test_thirty_two_channels_are_read_in_chunks_of_bounded_size(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "many.wav", np.full((3 * RATE, 32), 0.25), RATE)
    monkeypatch.setattr(audio, "_CHUNK_VALUES", 32 * 1000)
    chunks = list(audio.stream(tmp_path / "many.wav"))
    assert {len(chunk) for chunk in chunks} == {1000}
    np.testing.assert_allclose(np.concatenate(chunks), 0.25, atol=1e-4)


def test_audio_longer_than_the_limit_is_refused_whether_it_is_announced_or_not(song):
    assert len(audio.read(song, limits=Limits(duration=2.0))) == 2 * RATE
    with pytest.raises(AudioError, match="lasts more than 0.0005 h, expected at most that; cut it"):
        audio.read(song, limits=Limits(duration=1.8))
    silent_flac = song.with_suffix(".flac")
    soundfile.write(silent_flac, np.zeros(100 * RATE), RATE)
    assert silent_flac.stat().st_size < 20_000  # 3.2 MB decoded
    with pytest.raises(AudioError, match="lasts more than"):
        audio.read(silent_flac, limits=Limits(duration=99.0))


def test_a_decoder_that_takes_too_long_is_given_up(song, monkeypatch):
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(audio.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(audio, "_CHUNK_VALUES", 2 * 1000)  # each chunk of 1000 takes 100 s by this clock
    with pytest.raises(AudioError, match="still decoding after 900 s, expected an end by then"):
        audio.read(song)


def test_samples_louder_than_float_spectra_can_hold_are_refused(tmp_path):
    wave = np.zeros((RATE, 2), np.float32)
    for peak, refused in ((9e5, False), (3e6, True), (3e38, True)):
        wave[500] = peak
        soundfile.write(tmp_path / "loud.wav", wave, RATE, subtype="FLOAT")
        if refused:
            with pytest.raises(AudioError, match="has a peak of 3e|NaN or infinite"):
                audio.read(tmp_path / "loud.wav")
        else:
            assert audio.read(tmp_path / "loud.wav").max() == pytest.approx(9e5)


def test_three_hours_and_any_usual_file_are_within_the_default_limits(tmp_path):
    DEFAULT.check_duration(tmp_path, 3 * 3600)
    DEFAULT.check_duration(tmp_path, 9 * 3600)
    for rate in (8_000, 11_025, 44_100, 48_000, 192_000, 384_000):
        DEFAULT.check_format(tmp_path, sample_rate=rate, channels=24)


def test_impossible_limits_are_refused():
    with pytest.raises(ValueError, match="limits: channels is 0, expected a positive number"):
        Limits(channels=0)
    with pytest.raises(ValueError, match="limits: duration is nan"):
        Limits(duration=float("nan"))
    with pytest.raises(ValueError, match="lowest_rate 8000 is above highest_rate 4000"):
        Limits(lowest_rate=8_000, highest_rate=4_000)


def test_a_name_and_a_tag_cannot_write_lines_or_colours_on_a_terminal(tmp_path):
    path = tmp_path / "a\n\x1b[31mb.wav"
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        file.title, file.artist = "Blue\n\x1b[2J" + "x" * 500, "Some\tbody"
        file.write(np.zeros(100))
    assert audio.info(path).title.startswith(r"Blue\n\x1b[2Jxxx")
    assert len(audio.info(path).title) == 300
    assert audio.info(path).artist == r"Some\tbody"
    with pytest.raises(AudioError) as caught:
        audio.read(path)
    assert r"a\n\x1b[31mb.wav: lasts 0.01 s" in str(caught.value)
    assert caught.value.path == path


def test_a_file_that_may_not_be_read_says_so(song):
    song.chmod(0)
    code = (
        "import os, sys; from pathlib import Path; from encoder import audio; os.geteuid() or os.seteuid(1234)\n"
        "try: audio.read(Path(sys.argv[1]))\nexcept audio.AudioError as error: print(error.reason)"
    )
    for folder in song.parents[:3]:
        folder.chmod(0o755)
    shown = subprocess.run([sys.executable, "-c", code, song], capture_output=True, text=True, check=True).stdout
    assert shown == "cannot be read: Permission denied; check its permissions and its disk\n"

"""Audio: every format comes out as the same mono 16 kHz, and whatever cannot be used is refused in one line."""

import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from encoder import audio
from encoder.audio import AudioError

RATE = 44_100
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg is not installed")


def stereo(seconds=2.0, *, hertz=440, left=0.4, right=0.2):
    """A tone, louder on the left: (samples, 2)."""
    tone = np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)
    return np.stack([left * tone, right * tone], axis=1).astype(np.float32)


def written(path, samples, rate=RATE, **options):
    soundfile.write(path, samples, rate, **options)
    return path


def encoded(source, target, *options):
    """The same audio through FFmpeg."""
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", str(source), *options, str(target)], check=True)
    return target


def assert_is_the_tone(samples, *, tolerance):
    """2 s of 440 Hz at the mean of 0.4 and 0.2, seen away from the ends."""
    middle = samples[4000:28_000].astype(np.float64)  # 1.5 s: a bin is 2/3 Hz, 440 Hz is bin 660
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() == 660
    assert np.sqrt(2 * np.square(middle).mean()) == pytest.approx(0.3, rel=tolerance)


@pytest.mark.parametrize(
    ("name", "length"),  # tolerated difference in samples: mp3 may keep the encoder's delay
    [("tone.wav", 1), ("tone.flac", 1), ("tone.ogg", 1), ("tone.mp3", 900), ("tone.aiff", 1)],
)
def test_stereo_of_any_format_becomes_mono_at_16_khz(tmp_path, name, length):
    samples = audio.read(written(tmp_path / name, stereo()))
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert abs(len(samples) - 32_000) <= length
    assert_is_the_tone(samples, tolerance=0.01)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["tone.m4a", "tone.webm", "tone.mka"])
def test_what_libsndfile_does_not_know_goes_through_ffmpeg_at_the_same_level(tmp_path, name):
    samples = audio.read(encoded(written(tmp_path / "tone.wav", stereo()), tmp_path / name))
    assert abs(len(samples) - 32_000) < 2000  # aac and opus pad to whole frames
    assert_is_the_tone(samples, tolerance=0.02)


@needs_ffmpeg
def test_tags_and_duration_come_through_ffmpeg_too(tmp_path):
    tags = ["-metadata", "title=Blue", "-metadata", "artist=Somebody"]
    info = audio.info(encoded(written(tmp_path / "tone.wav", stereo()), tmp_path / "tone.m4a", *tags))
    assert (info.title, info.artist) == ("Blue", "Somebody")
    assert info.duration == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_title_and_artist_are_read_from_the_tags(tmp_path, suffix):
    path = tmp_path / f"file.{suffix}"
    with soundfile.SoundFile(path, "w", RATE, 2) as file:
        file.title, file.artist = "Blue", "Somebody"
        file.write(stereo())
    info = audio.info(path)
    assert (info.title, info.artist) == ("Blue", "Somebody")
    assert info.duration == pytest.approx(2.0, abs=0.06)


def test_a_file_without_tags_is_called_by_its_name(tmp_path):
    info = audio.info(written(tmp_path / "night train.wav", stereo()))
    assert (info.title, info.artist, info.isrc) == ("night train", "", "")


def test_another_sample_rate_may_be_asked_for(tmp_path):
    path = written(tmp_path / "tone.wav", stereo())
    assert len(audio.read(path, sample_rate=8000)) == pytest.approx(16_000, abs=1)
    untouched = audio.read(path, sample_rate=RATE)
    # 16-bit samples: half a step is 1 / 65536
    np.testing.assert_allclose(untouched, stereo().mean(axis=1), atol=2 / 65_536)


def test_resampling_lets_nothing_above_the_new_limit_through(tmp_path):
    # 15 kHz would fold to 1 kHz at 16 kHz.
    samples = audio.read(written(tmp_path / "high.wav", stereo(hertz=15_000)))
    assert np.abs(samples[1000:-1000]).max() < 1e-4


def test_the_stream_gives_the_same_samples_as_one_decoded_at_once(tmp_path, monkeypatch):
    path = written(tmp_path / "noise.flac", 0.1 * np.random.default_rng(0).standard_normal((5 * RATE, 2)))
    whole = audio.read(path)
    monkeypatch.setattr(audio, "_CHUNK", 1)
    chunks = list(audio.stream(path))
    assert len(chunks) >= 5
    np.testing.assert_allclose(np.concatenate(chunks), whole, atol=1e-6)


def message(path):
    with pytest.raises(AudioError) as caught:
        audio.read(path)
    assert caught.value.path == path
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_a_missing_path_a_folder_and_an_empty_file_are_told_apart(tmp_path):
    (tmp_path / "empty.wav").touch()
    assert "no such file" in message(tmp_path / "nowhere.wav")
    assert "is not a file" in message(tmp_path)
    assert "0 bytes" in message(tmp_path / "empty.wav")
    strange = written(tmp_path / "tone.wav", stereo()).rename(tmp_path / os.fsdecode(b"caf\xe9.wav"))
    with pytest.raises(AudioError, match=r"caf\\udce9.wav: has a name that is not UTF-8, expected one that is; rename"):
        audio.read(strange)
    for path in (tmp_path / "nowhere.wav", tmp_path, tmp_path / "empty.wav"):
        with pytest.raises(AudioError):
            audio.info(path)


@pytest.mark.parametrize("ffmpeg", [pytest.param("installed", marks=needs_ffmpeg), "absent"])
@pytest.mark.parametrize("name", ["x.wav", "x.mp3", "x.txt"])
def test_a_text_file_is_no_audio_whatever_its_name(tmp_path, monkeypatch, ffmpeg, name):
    if ffmpeg == "absent":
        monkeypatch.setattr(shutil, "which", lambda program: None)
    path = tmp_path / name
    path.write_text("this is a letter, not a song\n" * 100)
    reason = message(path)
    assert ("FFmpeg is not installed" if ffmpeg == "absent" else "neither libsndfile nor FFmpeg reads it") in reason
    with pytest.raises(AudioError):
        audio.info(path)


def test_headerless_audio_is_refused_since_nobody_knows_its_rate(tmp_path):
    (tmp_path / "x.raw").write_bytes(bytes(100_000))
    assert "headerless" in message(tmp_path / "x.raw")


def test_less_than_half_a_second_is_too_short(tmp_path):
    assert message(written(tmp_path / "short.wav", stereo(0.2))) == "lasts 0.20 s, expected at least 0.5 s"
    assert message(written(tmp_path / "none.wav", stereo(0))) == "holds no audio, expected at least 0.5 s"
    assert len(audio.read(written(tmp_path / "enough.wav", stereo(0.5)))) == 8000


@pytest.mark.parametrize("rate", [16_000, RATE])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_counted_and_refused(tmp_path, rate, value):
    samples = stereo()
    samples[[1000, 60_000], 0] = value
    path = written(tmp_path / "broken.wav", samples, rate, subtype="FLOAT")
    assert message(path).startswith("2 samples are NaN or infinite")


def cut(path, share=0.5):
    data = path.read_bytes()
    half = path.with_name(f"cut{path.suffix}")
    half.write_bytes(data[: int(share * len(data))])
    return half


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff", "a.w64", "a.au"])
def test_a_truncated_file_is_refused(tmp_path, name, share):
    noise = 0.1 * np.random.default_rng(0).standard_normal((20 * RATE, 2))
    whole = written(tmp_path / name, noise)
    assert len(audio.read(whole)) == pytest.approx(20 * 16_000, abs=2)
    reason = message(cut(whole, share))
    assert "truncated" in reason or (name == "a.flac" and "cannot be decoded" in reason)


@needs_ffmpeg
def test_a_truncated_m4a_is_refused(tmp_path):
    whole = encoded(written(tmp_path / "a.wav", stereo(5)), tmp_path / "a.m4a")
    assert "neither libsndfile nor FFmpeg reads it" in message(cut(whole))


@needs_ffmpeg
def test_the_cut_of_an_mp3_without_a_header_cannot_be_told_and_a_whole_one_is_not_suspected(tmp_path):
    # 1 s of silence at 8 kbit/s, then noise at up to 320: guessed from the first frame it would last many times longer.
    noise = 0.3 * np.random.default_rng(0).standard_normal((5 * RATE, 2))
    noise[:RATE] = 0
    source = written(tmp_path / "a.wav", noise)
    for rate in (["-q:a", "0"], ["-b:a", "128k"]):
        whole = encoded(source, tmp_path / f"{rate[1]}.mp3", "-write_xing", "0", *rate)
        assert len(audio.read(whole)) / 16_000 == pytest.approx(5.0, abs=0.1)
        assert 2.0 < len(audio.read(cut(whole))) / 16_000 < 3.5


@needs_ffmpeg
def test_an_mp3_without_a_header_that_begins_loud_is_decoded_to_its_end(tmp_path):
    # libsndfile guesses 3.9 s from the first frame's bit rate, and would stop there.
    noise = 0.3 * np.random.default_rng(0).standard_normal((10 * RATE, 2))
    noise[RATE:] *= 0.0003
    source = written(tmp_path / "a.wav", noise)
    path = encoded(source, tmp_path / "a.mp3", "-write_xing", "0", "-q:a", "4", "-metadata", "title=Blue")
    assert len(audio.read(path)) / 16_000 == pytest.approx(10.0, abs=0.1)
    assert audio.info(path).duration == pytest.approx(10.0, abs=0.1)
    assert audio.info(path).title == "Blue"


def test_a_wav_written_into_a_pipe_announces_any_length_and_is_whole(tmp_path):
    path = written(tmp_path / "a.wav", stereo())
    data = bytearray(path.read_bytes())
    for place in (4, data.index(b"data") + 4):  # sizes of the file and of the audio
        data[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert len(audio.read(path)) == pytest.approx(32_000, abs=1)


def test_an_error_survives_the_way_from_another_process(tmp_path):
    error = pickle.loads(pickle.dumps(AudioError(tmp_path / "a.wav", "is broken")))
    assert (str(error), error.reason) == (f"{tmp_path / 'a.wav'}: is broken", "is broken")


def test_three_hours_are_decoded_and_cut_in_little_memory(tmp_path):
    path = written(tmp_path / "long.wav", np.zeros(16_000, np.int16), 16_000)
    samples = 3 * 3600 * 16_000
    header = bytearray(path.read_bytes()[:44])
    header[4:8], header[40:44] = ((2 * samples + extra).to_bytes(4, "little") for extra in (36, 0))
    path.write_bytes(header)
    with path.open("r+b") as file:
        file.truncate(44 + 2 * samples)  # zeros that take no room on the disk
    script = """if True:
        import resource, sys
        from encoder import audio, segments
        grid = segments.SegmentGrid()
        base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = sum(block.segments for block in segments.blocks(audio.stream(sys.argv[1]), grid, 2048))
        print(found, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)
    """
    shown = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    found, megabytes = map(int, shown.stdout.split())
    # 172800000 // 512 + 1 = 337501 frames; (337501 - 128) // 16 + 1 = 21086 segments. The whole would take 691 MB.
    assert found == 21_086
    assert megabytes < 150

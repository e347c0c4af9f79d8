"""FFmpeg reads the one file it is given: no playlist, no network, no name with a meaning, no endless work."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from encoder import audio, ffmpeg
from encoder.limits import DEFAULT, AudioError, Limits

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg is not installed")
RATE = 48_000


def made(path, *options, seconds=2.0):
    """A tone in whatever FFmpeg makes of the suffix."""
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * RATE)) / RATE)
    source = path.parent / f"{len(os.listdir(path.parent))}.source.wav"
    soundfile.write(source, wave, RATE)
    subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-i", source, *options, f"file:{path}"], check=True, timeout=60
    )
    source.unlink()
    return path


def reason(path):
    """The same refusal from `info` and `read`; both say the file is no audio."""
    for ask in (audio.info, audio.read):
        with pytest.raises(AudioError, match="nor FFmpeg reads it") as caught:
            ask(path)
        assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(
    "name",
    ["-x.m4a", "new\nline.m4a", "it's \"quoted\".m4a", "é 🎵.m4a", "x%03d.m4a", "x*.m4a", "$(touch y).m4a", "a|b.m4a",
     "http:x.m4a", "concat:a|b.m4a", "file:x.m4a", "subfile,,start,0,end,9,,:x.m4a", "-i.m4a"],
)  # fmt: skip
def test_a_name_is_only_a_name(tmp_path, monkeypatch, name):
    shutil.copy(made(tmp_path / "plain.m4a", "-metadata", "title=Blue"), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for path in (Path(name), tmp_path / name):
        assert audio.info(path).title == "Blue"
        assert len(audio.read(path)) == pytest.approx(32_000, abs=2000)
    assert sorted(os.listdir(tmp_path)) == sorted(["plain.m4a", name])


def playlists(target):
    """Files that tell FFmpeg to open `target`."""
    return {
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile {Path(target).name}\n",
        "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="x" type="static" '
        'mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="audio/mp4"><Representation id="0">'
        f"<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    }


@pytest.mark.parametrize("kind", ["m3u8", "concat", "dash"])
@pytest.mark.parametrize("name", ["list.wav", "list.m4a", "list.m3u8"])
def test_a_playlist_does_not_have_another_file_read_whatever_it_is_called(tmp_path, kind, name):
    other = made(tmp_path / "other.aac")
    path = tmp_path / name
    path.write_text(playlists(str(other))[kind])
    assert "nor FFmpeg reads it" in reason(path)
    if kind == "m3u8":  # without the list of containers it would be: the test sees what it should
        plain = ["ffmpeg", "-nostdin", "-v", "error", "-i", path, "-f", "f32le", "-"]
        assert len(subprocess.run(plain, capture_output=True, check=True).stdout) > 100_000


def test_a_playlist_does_not_reach_the_network(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        path = tmp_path / "list.m4a"
        for target in ("http", "tcp", "udp", "rtp"):
            path.write_text(playlists(f"{target}://127.0.0.1:{server.getsockname()[1]}/a.aac")["m3u8"])
            reason(path)
        path.write_text("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 50004 RTP/AVP 0\n")
        reason(path)
        with pytest.raises(TimeoutError):
            server.accept()


def test_audio_written_into_a_pipe_has_no_length_in_its_header_and_is_whole(tmp_path):
    source = made(tmp_path / "a.wav")
    for form in ("flac", "matroska"):
        with (tmp_path / f"piped.{form}").open("wb") as out:
            command = ["ffmpeg", "-nostdin", "-v", "error", "-i", source, "-c:a", "flac", "-f", form, "-"]
            subprocess.run(command, stdout=out, check=True)
        assert len(audio.read(tmp_path / f"piped.{form}")) == pytest.approx(32_000, abs=1)
        assert audio.info(tmp_path / f"piped.{form}").duration == pytest.approx(2.0, abs=0.001)


def impostor(folder, monkeypatch, body):
    """A program called ffmpeg, first on PATH."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "ffmpeg"
    program.write_text(f"#!{sys.executable}\nimport sys, time\n{body}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")


def test_an_ffmpeg_that_hangs_is_ended(tmp_path, monkeypatch):
    path = made(tmp_path / "a.m4a")
    impostor(tmp_path, monkeypatch, "time.sleep(60)")
    with pytest.raises(AudioError, match="still decoding after 0.3 s"):
        audio.read(path, limits=Limits(decoding=0.3))


def test_time_in_which_nobody_reads_is_not_the_decoders(tmp_path, monkeypatch):
    path = made(tmp_path / "a.m4a")
    monkeypatch.setattr(audio, "_CHUNK", 1)
    now, chunks = [0.0], []
    monkeypatch.setattr(ffmpeg.time, "monotonic", lambda: now[0])
    for chunk in audio.stream(path, limits=Limits(decoding=20.0)):
        chunks.append(chunk)
        now[0] += 1000.0  # until the next read
    assert len(chunks) > 1
    assert len(np.concatenate(chunks)) == pytest.approx(32_000, abs=2000)


def test_an_ffmpeg_that_complains_without_end_neither_halts_nor_fills_the_memory(tmp_path, monkeypatch):
    path = made(tmp_path / "a.m4a")
    impostor(tmp_path, monkeypatch, "sys.stderr.write('[aac @ 0x55d0] broken\\n' * 200_000); sys.exit(1)")
    with pytest.raises(AudioError, match=r"nor FFmpeg reads it \(\[aac\] broken\); expected an audio file"):
        audio.read(path)


def test_no_ffmpeg_is_left_when_a_reader_stops_early(tmp_path, monkeypatch):
    path, started = made(tmp_path / "a.m4a", seconds=60), []
    popen = subprocess.Popen
    monkeypatch.setattr(ffmpeg.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    stream = audio.stream(path)
    next(stream)
    stream.close()
    assert [process.returncode is not None for process in started] == [True]


@pytest.mark.parametrize("printed", ["{", "", "{}", "not json", "\\xff\\xfe", '{"streams": [{}], "format": {}}'])
def test_whatever_ffprobe_prints_the_error_is_one_line(tmp_path, monkeypatch, printed):
    path = made(tmp_path / "a.m4a")
    impostor(tmp_path, monkeypatch, f"sys.stdout.buffer.write({printed!r}.encode())")
    (tmp_path / "bin" / "ffmpeg").rename(tmp_path / "bin" / "ffprobe")
    with pytest.raises(AudioError, match="neither libsndfile .* nor FFmpeg reads it|has 0 channels"):
        ffmpeg.probe(path, refusal="Format not recognised.", limits=DEFAULT)

"""Pieces of our own as training material."""

import soundfile

from encoder.training.sources import discover
from evaluation.pieces import multitracks


def test_each_piece_is_one_multitrack_and_is_rendered_once(tmp_path):
    (folder,) = multitracks.write(tmp_path, count=1)
    lengths = {soundfile.info(path).frames for path in folder.iterdir()}
    assert len(lengths) == 1
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert list(multitracks.write(tmp_path, count=1)) == [folder]
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    (source,) = discover(tmp_path)
    assert source.form == "stems"
    assert len(source.files) == len(before) >= 5

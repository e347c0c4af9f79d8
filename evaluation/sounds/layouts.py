"""Layouts: a folder of sounds -> its listing, by what lies in it.

sounds.csv      file,label,technique[,split]: as `asid prepare notes` writes it
manifest.csv    of a music collection: its rows with kind oneshot, labelled by the first word of their title
Studio-on-Line  with the public judgement tables (evaluation/sounds/judgements.py)
folders         label/technique/sound.wav or label/sound.wav, without any table
"""

from pathlib import Path

from evaluation.sounds import judgements, listing
from evaluation.sounds.listing import MANIFEST, TABLE, Sounds


def read(directory: Path, *, split: str | None = None, feature: str | None = None) -> Sounds:
    """The sounds of a folder, in the order of its table; of one split only, where one is given.

    `feature` names the folder of precomputed features in the Studio-on-Line layout. FileNotFoundError where there is no
    folder or no sound, ValueError where a table lacks what it needs.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: no such folder, expected one with sounds")
    if judgements.lie_in(directory):
        return judgements.sounds(directory, feature=feature)
    if (directory / TABLE).is_file():
        return listing.of_rows(listing.table(directory / TABLE, split), about=f"{directory.name}/{TABLE}")
    if (directory / MANIFEST).is_file():
        rows = listing.one_shots(directory / MANIFEST, split)
        return listing.of_rows(rows, about=f"one-shots of {directory.name}/{MANIFEST}")
    return listing.of_rows(listing.folders(directory), about=directory.name)

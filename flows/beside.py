"""A new model beside the old one: fill a second collection, look it over, switch to it.

1. Ingest with the new checkpoint what the model in use has stored, and whatever else is given.
2. Require that nothing is missing, that Milvus holds what is stored, and that a sample of segments finds itself.
3. Switch: the ledger names the new model, the alias follows. The old one stays until `asid drop`.

Searches with the old checkpoint are answered until the switch, and told afterwards that another model is in use.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from prefect import flow

from flows import assembly
from flows.ingest import Progress, Summary, ingest_catalogue
from flows.settings import Settings
from store import models
from store.fingerprints import IndexIncomplete


@flow(name="ingest-beside")
def ingest_beside(
    paths: list[Path], settings: Settings, checkpoint: Path, *, retry: bool = False, progress: Progress | None = None
) -> Summary:
    """Let the encoder of `checkpoint` take over; where something is missing, IndexIncomplete and the old one stays."""
    new = replace(settings, encoder=checkpoint)
    wanted = models.stored_paths(assembly.place(settings))
    summary = ingest_catalogue([*wanted, *paths], new, retry=retry, beside=True, progress=progress)
    with assembly.references(new, assembly.encoder(new), beside=True) as references:
        require_all(wanted, {track.path for track in references.catalogue.tracks("stored")})
        references.require_answers()
        references.switch()
    return summary


def require_all(wanted: Sequence[Path], stored: set[Path]) -> None:
    """IndexIncomplete where a track of the model in use is not in the new one."""
    if missing := [path for path in wanted if path not in stored]:
        raise IndexIncomplete(
            f"{len(missing)} of {len(wanted)} tracks in use could not be stored with the new checkpoint, the first is "
            f"{missing[0]}; the old model stays in use: mend or `asid remove` them, then try again with --retry"
        )

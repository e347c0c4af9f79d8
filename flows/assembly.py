"""Assembly: from settings, the encoder, the catalogue and the searcher that a command or a flow works with."""

import logging
import os
from dataclasses import replace
from pathlib import Path

import torch

from encoder import allocator, encode
from encoder.encode import Encoder
from flows.settings import Settings
from reranker import checkpoint as reranker_checkpoint
from reranker import confidence, rankers, verify
from reranker.confidence import Calibration
from reranker.correlate import Correlation, Correlator
from reranker.search import Searcher
from store import models
from store import node_form as node_forms
from store.catalogue import Track
from store.identity import Identity
from store.node_form import NodeForm
from store.references import References

log = logging.getLogger("asid")


def encoder(settings: Settings) -> Encoder:
    """The encoder that the settings name; raises CheckpointError, and ValueError for a device that is not there."""
    allocator.keep_memory()
    path = settings.encoder or encode.shipped(settings.system)
    return Encoder(path, device=usable(settings.device), limits=settings.limits)


def usable(device: str) -> str:
    """The device itself; ValueError where PyTorch cannot use it."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # a CPU build of PyTorch asserts that there is CUDA
        raise ValueError(f"device is {device!r}, which PyTorch cannot use here; use --device cpu") from error
    return device


def references(
    settings: Settings, made_by: Encoder, *, read_only: bool = False, verify: bool = True, beside: bool = False,
    alone: bool = False,
) -> References:  # fmt: skip
    """The catalogue under the data directory; `beside` and `alone` as in References.open.

    Raises IndexMismatch, IndexUnavailable, FileNotFoundError, and IndexIncomplete unless `verify` is off.
    """
    return References.open(
        settings.data,
        Identity(**made_by.shapes),
        form=node_form(settings, made_by),
        milvus_uri=settings.milvus_uri,
        milvus_token=os.environ.get("ASID_MILVUS_TOKEN", ""),
        ledger_url=settings.ledger_url,
        index=settings.index,
        nodes_url=settings.nodes_url,
        read_only=read_only,
        verify=verify,
        beside=beside,
        alone=alone,
    )


def identity(settings: Settings, made_by: Encoder) -> Identity:
    """What this encoder would write with these settings."""
    return Identity(**made_by.shapes, node_form=node_form(settings, made_by).name)


def node_form(settings: Settings, made_by: Encoder) -> NodeForm:
    """The form in which node matrices are kept; ValueError where it is of another encoder or cannot be read."""
    if settings.node_form == "auto":
        return node_forms.shipped_for(made_by.digest)
    if settings.node_form == "full":
        return node_forms.FULL
    path = node_forms.shipped() if settings.node_form == "compact" else Path(settings.node_form).expanduser()
    return node_forms.CompactForm.load(path, encoder=made_by.digest)


def place(settings: Settings) -> models.Place:
    """Where the settings' catalogue lies."""
    return models.Place(
        directory=settings.data,
        ledger_url=settings.ledger_url,
        milvus_uri=settings.milvus_uri,
        milvus_token=os.environ.get("ASID_MILVUS_TOKEN", ""),
        nodes_url=settings.nodes_url,
    )


def searcher(settings: Settings, stored: References, asking: Encoder) -> Searcher:
    """Ready to answer, ranking as the settings say.

    ValueError where the encoder lacks what that needs, CalibrationError where the user's calibration is of other scores
    or cannot promise the false-alarm rate of the settings.
    """
    ranking = replace(settings.ranking, by=rankers.resolved(settings.ranking.by, asking.system))
    classifier, correlator, calibration = None, None, None
    if ranking.by == "correlation":
        correlator = correlating(settings, asking)
        calibration = _calibration(settings, asking, correlator)
    elif ranking.by == "reranker":
        classifier = reranker_checkpoint.load(settings.reranker, encoder=asking.digest).to(asking.device)
    ranker = rankers.own(asking) if ranking.by == "own" else None
    return Searcher(asking, stored, classifier, ranking, correlator=correlator, calibration=calibration, ranker=ranker)


def correlating(settings: Settings, asking: Encoder, correlation: Correlation = Correlation()) -> Correlator:
    """With the verifier of the settings, else the shipped one; without one where that is of other features."""
    if not settings.ranking.verify:
        return Correlator(correlation)
    if settings.verifier is not None:
        return Correlator(correlation, verify.load(settings.verifier, contrast=asking.contrast_digest))
    return Correlator(correlation, verify.shipped_for(contrast=asking.contrast_digest))


def _calibration(settings: Settings, asking: Encoder, correlator: Correlator) -> Calibration | None:
    """The user's own, where `asid calibrate` has left one, else the shipped one; None where that is of other scores."""
    own = settings.data / "calibration.json"
    if settings.calibration is not None or own.is_file():
        return confidence.load(settings.calibration or own)
    scoring = confidence.scoring(settings.ranking, correlator.correlation)
    shipped = confidence.shipped_for(encoder=asking.digest, scoring=scoring)
    if shipped is None and settings.ranking.surplus is None:
        log.warning(
            f"no calibration was fitted to encoder {asking.digest[:12]} with this ranking: matches are told from a "
            f"score of {correlator.correlation.bar:g} on, without confidences; fit one with `asid calibrate`",
        )
    return shipped


def the_track(stored: References, wanted: str) -> Track:
    """The one stored track of that number, else path or title; LookupError where there is none or more than one."""
    found = [t for t in stored.catalogue.find(wanted) if t.state == "stored"]
    found = [t for t in found if str(t.number) == wanted] or found  # a title may look like a number
    if len(found) != 1:
        numbers = ", ".join(f"{t.number} ({t.path})" for t in found[:5])
        raise LookupError(
            f"{wanted}: {f'fits {len(found)} tracks: {numbers}; give the number' if found else 'no such track'}"
        )
    return found[0]

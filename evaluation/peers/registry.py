"""Registry: from what a user writes behind `--system` to a peer.

    asid                        the product: the shipped encoder's short list, ranked by correlation
    asid-best                   the same with --quality best
    asid-unverified             the same without its verifier
    asid-reranker               the shipped encoder and reranker alone
    asid-candidates             the shipped encoder alone
    neuralsampleid-published    the published network, with a reranker where one is installed
    audfprint                   the installed program
    grafprint, clews, ...       any other system of encoder/systems.py whose weights come with the package
    ./mine.py                   a file with a function `open(folder, **options) -> Peer`; see docs/peers.md
    NAME=encoder.safetensors[+reranker.safetensors]    checkpoints of the user's own
    resnet18-ibn=untrained, ... any system with the weights that its training begins with

Nothing heavy is imported before a peer is opened.
"""

import importlib.util
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

from evaluation.peers.interface import Peer

# folder, and as options: `protocol` (evaluation.protocols.Protocol) and `device` (of PyTorch)
Opener = Callable[..., Peer]
PUBLISHED = "neuralsampleid-published"
UNTRAINED = "untrained"


def named(text: str) -> Opener:
    """What opens the peer of that name; ValueError for an unknown name, FileNotFoundError for a missing file.

    `opener(folder, protocol=STRICT, device="cpu")` gives the peer, which keeps what it computes under the folder.
    """
    if text in NAMED:
        return NAMED[text]
    if text.endswith(".py"):
        return own_file(Path(text))
    name, equals, checkpoints = text.partition("=")
    if checkpoints == UNTRAINED:
        return _untrained(name)
    if name and equals and checkpoints:
        return checkpoint(name, *checkpoints.split("+", 1))
    from encoder import encode, systems

    if text in systems.SYSTEMS:
        return checkpoint(text, str(encode.shipped(text)))
    raise ValueError(
        f"no system is called {text!r}, expected one of {', '.join(NAMED)}, a file ./mine.py, "
        f"NAME=encoder.safetensors[+reranker.safetensors], or SYSTEM={UNTRAINED}"
    )


def checkpoint(name: str, encoder: str, reranker: str | None = None, *, about: str = "") -> Opener:
    """A peer of a checkpoint; FileNotFoundError where a file is missing."""
    files = [Path(file).expanduser() for file in (encoder, reranker) if file is not None]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{name}: {file} is no file; give the checkpoint that `asid train` wrote")
    return _neural(name, files[0], files[1] if reranker else None, about=about)


def own_file(path: Path) -> Opener:
    """The function `open` of a user's file, called with a folder of its own."""
    path = path.expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give one that has a function open(folder, **options)")
    module = _imported(path)
    if not callable(getattr(module, "open", None)):
        raise ValueError(f"{path}: has no function open(folder, **options); see docs/peers.md")

    def opened(folder: Path, **options: Any) -> Peer:
        own = folder / path.stem
        own.mkdir(parents=True, exist_ok=True)
        return _complete(module.open(own, **options), path)

    return opened


def _imported(path: Path) -> ModuleType:
    """The file as a module of its own name, which cannot hide one of ours; what it raises passes through."""
    name = f"asid_peer_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up there
    spec.loader.exec_module(module)
    return module


def _complete(peer: Any, path: Path) -> Peer:
    missing = [part for part in ("name", "about", "prepare", "ask") if not hasattr(peer, part)]
    if missing:
        raise ValueError(f"{path}: what open returned has no {missing[0]!r}; see evaluation/peers/interface.py")
    return peer


def _shipped(folder: Path, **options: Any) -> Peer:
    from encoder import encode

    about = "the product: the shipped encoder's short list, ranked by correlation"
    return _neural("asid", encode.shipped(), None, about=about, correlated=True)(folder, **options)


def _best(folder: Path, **options: Any) -> Peer:
    from encoder import encode

    about = "the product with --quality best: more references are looked through"
    return _neural("asid-best", encode.shipped(), None, about=about, correlated=True, quality="best")(folder, **options)


def _unverified(folder: Path, **options: Any) -> Peer:
    from encoder import encode

    about = "the product without its verifier, and so without its calibration"
    return _neural("asid-unverified", encode.shipped(), None, about=about, correlated=True, verified=False)(
        folder, **options
    )


def _reranker(folder: Path, **options: Any) -> Peer:
    from encoder import encode
    from reranker import checkpoint

    about = "the shipped encoder and reranker, without correlation"
    return _neural("asid-reranker", encode.shipped(), checkpoint.shipped(), about=about)(folder, **options)


def _whole(folder: Path, **options: Any) -> Peer:
    from encoder import encode
    from reranker import checkpoint

    about = "the same with whole node matrices instead of compact ones"
    return _neural("asid-reranker-full", encode.shipped(), checkpoint.shipped(), about=about, whole=True)(
        folder, **options
    )


def _candidates(folder: Path, **options: Any) -> Peer:
    from encoder import encode

    about = "the shipped encoder without reranker"
    return _neural("asid-candidates", encode.shipped(), None, about=about)(folder, **options)


def _published(folder: Path, **options: Any) -> Peer:
    encoder, reranker = (
        Path(str(resources.files(package) / "weights" / f"{PUBLISHED}.safetensors"))
        for package in ("encoder", "reranker")
    )
    if not encoder.is_file():
        raise FileNotFoundError(
            f"{PUBLISHED}: its weights are not installed; train them with `asid train encoder --system {PUBLISHED}` or "
            f"read the released ones with `asid import-published`, then give {PUBLISHED}=encoder.safetensors"
        )
    about = f"the published network as it really runs, {'with' if reranker.is_file() else 'without'} reranker"
    return _neural(PUBLISHED, encoder, reranker if reranker.is_file() else None, about=about)(folder, **options)


def _untrained(name: str) -> Opener:
    from encoder import initial, systems

    system, label = systems.named(name), f"{name}-{UNTRAINED}"

    def opened(folder: Path, **options: Any) -> Peer:
        weights = initial.save(system, folder / f"{label}.safetensors")
        return _neural(label, weights, None, about="the weights that training begins with")(folder, **options)

    return opened


def _audfprint(folder: Path, **options: Any) -> Peer:
    from evaluation.peers.audfprint import Audfprint

    return Audfprint(folder)


def _neural(name: str, encoder: Path, reranker: Path | None, *, about: str, **how: Any) -> Opener:
    """`how`: what else evaluation.peers.neural.load is told."""

    def opened(folder: Path, **options: Any) -> Peer:
        from evaluation.peers.neural import load

        return load(folder, name=name, about=about, encoder=encoder, reranker=reranker, **how, **options)

    return opened


NAMED: dict[str, Opener] = {
    "asid": _shipped,
    "asid-best": _best,
    "asid-unverified": _unverified,
    "asid-reranker": _reranker,
    "asid-reranker-full": _whole,
    "asid-candidates": _candidates,
    PUBLISHED: _published,
    "audfprint": _audfprint,
}

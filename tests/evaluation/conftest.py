"""A made-up run of four systems, in the form that an evaluation writes, and a headless browser to look at pages with.

The numbers come from a seeded generator: they resemble a run, they measure nothing.
"""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation import protocols, results

STRENGTH = {"asid": 0.6, "asid-candidates": 0.5, "neuralsampleid-published": 0.2, "audfprint": 0.4}  # share of hits
SCALE = {"asid": 12.0, "asid-candidates": 40.0, "neuralsampleid-published": 9.0, "audfprint": 30.0}  # of the scores
EXCERPTS = (5.0, 7.0, 10.0, 15.0, 20.0)  # seconds
ODD_NAME = '<b>&"x'  # a track may be called so
HITS = (1, 3, 5, 10)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def made_frame():
    """60 sampled and 20 sample-free full queries, and excerpts of the sampled ones, asked of four systems."""
    return make_frame()


@pytest.fixture(scope="session")
def made_summary(made_frame):
    """The summary that goes with `made_frame`."""
    return make_summary(made_frame)


@pytest.fixture(scope="session")
def write_run(made_frame, made_summary):
    """``write_run(folder, ...)``: a finished run; see `write` for what may be other than in `made_frame`."""

    def write(folder: Path, *, seed: int = 1, change=None, **told) -> Path:
        """`seed` makes another benchmark, `change` a frame of the frame, `told` replaces facts of the summary."""
        frame = made_frame if seed == 1 else make_frame(seed)
        frame = change(frame.copy()) if change else frame
        as_made = frame is made_frame and not told
        folder.mkdir(parents=True)
        frame.to_parquet(folder / "results.parquet")
        summary = made_summary if as_made else make_summary(frame, seed=seed, **told)
        (folder / "summary.json").write_text(json.dumps(summary))
        return folder

    return write


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, as installed on the machine."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright (extra `test`) is not installed")
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield opened
        opened.close()


@pytest.fixture(params=[(1280, 800), (390, 844)], ids=["desk", "phone"])
def open_page(browser, request):
    """``open_page(path)``: the file in a page of desk or phone width; `page.complaints` lists what went wrong."""
    width, height = request.param
    page = browser.new_page(viewport={"width": width, "height": height})
    page.complaints = []
    page.on("console", lambda said: page.complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on(
        "request", lambda asked: None if asked.url.startswith(("file:", "data:")) else page.complaints.append(asked.url)
    )

    def open_file(path: Path):
        page.goto(path.as_uri())
        return page

    yield open_file
    page.close()


def make_frame(seed: int = 1, strength: dict[str, float] = STRENGTH) -> pd.DataFrame:
    """One row per system and query, in the columns of results.parquet."""
    random = np.random.default_rng(seed)
    samples = [_sample(random, number) for number in range(80)]
    rows = []
    for system in strength:
        rows += [_row(random, system, strength[system], sample, None) for sample in samples]
        for length in EXCERPTS:
            rows += [_row(random, system, strength[system], sample, length) for sample in samples[:60:2]]
        again = [_row(random, system, strength[system], sample, 5.0) for sample in samples[:60:4]]
        rows += [row | {"query": f"{row['query']}-again"} for row in again]  # a second excerpt of the same query
    return results.table(rows)


def make_summary(frame: pd.DataFrame, seed: int = 1, **changes) -> dict:
    """The summary of `frame`, from few draws; `changes` replace what `results.summary` is told."""
    facts = {"name": "own", "seed": seed, "references": 60, "distractors": 60, "left_out": {"a | b.mp3": "is silent"}}
    peers = {
        name: {"digest": f"{place}" * 12, "version": "1.0"} for place, name in enumerate(dict.fromkeys(frame["system"]))
    }
    peers[list(peers)[-1]]["failed"] = {ODD_NAME: "cannot be decoded"}
    told = {"protocol": protocols.STRICT, "seed": seed, "benchmark": facts, "peers": peers, "created": "2026-11-21",
            "command": "asid evaluate own music --seed 1 --out results", "draws": 60}  # fmt: skip
    return json.loads(json.dumps(results.summary(frame, **{**told, **changes})))


def _sample(random, number: int) -> dict:
    query = ODD_NAME if number == 3 else f"query_{number:03d}"
    if number >= 60:
        return {"query": query, "relevant": 0, "reference": None, "sample_type": "", "sample_length": math.nan,
                "tempo_ratio": math.nan, "transposition": math.nan, "level": math.nan}  # fmt: skip
    near = random.random() < 0.6
    tempo = 1.0 if near else float(random.uniform(0.75, 1.37))
    return {"query": query, "relevant": 1, "reference": f"track_{number:03d}", "level": float(random.uniform(-6, 6)),
            "sample_type": "riff" if number % 3 else "beat", "tempo_ratio": tempo,
            "sample_length": float(np.clip(random.lognormal(1.28, 0.5), 1.2, 12)),
            "transposition": float(random.integers(-3, 4))}  # fmt: skip


def _row(random, system: str, strength: float, sample: dict, excerpt: float | None) -> dict:
    free = sample["relevant"] == 0
    ease = strength + (0.0 if free else 0.04 * sample["level"] + 0.03 * (sample["sample_length"] - 3.6))
    ease -= 0.03 * (20 - (excerpt or 20))
    rank = 0 if free or random.random() < 0.06 else int(1 + random.geometric(float(np.clip(ease, 0.05, 0.95))) - 1)
    rank = rank if rank <= 25 else 0
    wrong = float(SCALE[system] * random.gamma(2.0, 0.15))
    true = math.nan if not rank else (wrong * float(random.uniform(1.05, 4)) if rank == 1 else wrong * 0.7)
    top = np.nanmax([wrong, true])
    calibrated = system in ("asid",)
    known = {key: value for key, value in sample.items() if key != "reference"}
    name = sample["query"] if excerpt is None else f"{sample['query']}-{excerpt:g}s"
    classes = (
        [] if free else [sample["sample_type"], f"tempo {'within' if sample['tempo_ratio'] == 1 else 'beyond'} 5 %"]
    )
    return known | {
        "system": system, "query": name, "full_query": sample["query"],
        "classes": ";".join(classes), "excerpt": math.nan if excerpt is None else excerpt,
        "best_rank": rank or math.nan, "ap": math.nan if free else (1 / rank if rank else 0.0),
        **{f"hit_{k}": math.nan if free else float(0 < rank <= k) for k in HITS},
        "candidate_recall": math.nan if free or system == "audfprint" else float(rank > 0),
        "top_reference": sample["reference"] if rank == 1 else f"track_{int(random.integers(60, 120)):03d}",
        "top_score": float(top), "true_score": true, "wrong_score": wrong,
        "answered": bool(top > 0.45 * SCALE[system]), "correct": rank == 1,
        "confidence": float(top / (top + 0.4 * SCALE[system])) if calibrated else math.nan,
        "query_iou": float(random.uniform(0.2, 0.9)) if rank == 1 else math.nan,
        "reference_iou": float(random.uniform(0.2, 0.9)) if rank == 1 else math.nan,
        "start_error": float(random.exponential(0.6)) if rank == 1 else math.nan,
        "tempo_error": float(random.exponential(0.02)) if rank == 1 and calibrated else math.nan,
        "transposition_error": float(random.integers(0, 2)) if rank == 1 and calibrated else math.nan,
        "repetitions": math.nan if not rank else 4.0 * (sample["sample_length"] > 2),
        "repetitions_listed": 3.0 * (sample["sample_length"] > 2) if rank == 1 else math.nan,
        "normalised_rank": math.nan if free else (rank or 60) / 120, "seconds": float(random.uniform(0.3, 4)),
    }  # fmt: skip

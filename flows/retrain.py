"""Training as a deployment: a stem cache -> checkpoints, begun from the Prefect UI or on a schedule."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from prefect import flow
from prefect.artifacts import create_link_artifact

from flows.installation import installed
from flows.options import changed


@flow(name="train")
def train(
    cache: Path,
    out: Path,
    *,
    what: Literal["encoder", "contrast", "verifier", "reranker"] = "contrast",
    system: str = "asid",
    start: Path | None = None,
    schedule: Mapping[str, str] | None = None,
    resume: bool = True,
) -> Path:
    """Train an encoder, its contrast network, a verifier or a reranker on the stem cache; returns the checkpoint.

    `start` is the encoder to begin with (None: the shipped one, or none for an encoder), `system` the recipe of an
    encoder, `schedule` changes values of the schedule as `--set` does. A run that died goes on where it stopped.
    """
    device = installed().device
    changes = [f"{key}={value}" for key, value in (schedule or {}).items()]
    from encoder import systems
    from encoder.training import contrast
    from flows import train as flow_of
    from reranker import verify_training
    from reranker.train import RerankerSchedule

    how = {"device": device, "resume": resume}
    of_an_encoder = {
        "contrast": (flow_of.train_contrast, contrast.SCHEDULE),
        "verifier": (flow_of.train_verifier, verify_training.SCHEDULE),
        "reranker": (flow_of.train_reranker, RerankerSchedule()),
    }
    if what == "encoder":
        recipe = systems.named(system)
        recipe = replace(recipe, schedule=changed(recipe.schedule, changes))
        made = flow_of.train_encoder.fn(cache, recipe, out, start=start, **how)
    else:
        flow_of_it, plan = of_an_encoder[what]
        made = flow_of_it.fn(cache, start, out, schedule=changed(plan, changes), **how)
    create_link_artifact(key="checkpoint", link=made.absolute().as_uri(), link_text=str(made))
    return made

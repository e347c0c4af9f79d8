"""Runners: the task runner that the settings name, and what is to be known of a Dask cluster.

Workers with unlike resources (`--resources "CPU=4"`, `--resources "GPU=1"`) get the tasks that ask for theirs.
"""

from contextlib import AbstractContextManager

from prefect.settings import PREFECT_API_URL
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner

from flows.settings import Settings


def runner(settings: Settings) -> TaskRunner:
    """The runner for other processes than this one; ValueError without a Prefect server, or without prefect-dask."""
    if not PREFECT_API_URL.value():
        raise ValueError(
            f"runner {settings.runner!r} needs a Prefect server for its workers, PREFECT_API_URL names none; "
            "`asid serve` or `prefect server start` gives one"
        )
    if settings.runner == "processes":
        return ProcessPoolTaskRunner(max_workers=settings.workers)
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise ValueError("runner 'dask' needs prefect-dask; pip install 'asid[cluster]'") from error
    if settings.dask_address:
        return DaskTaskRunner(address=settings.dask_address)
    return DaskTaskRunner(cluster_kwargs={"n_workers": settings.workers, "threads_per_worker": 1})


def on(resource: str) -> AbstractContextManager[None]:
    """What is submitted meanwhile goes to Dask workers that offer this resource, one unit a task."""
    import dask

    return dask.annotate(resources={resource: 1})


def slots(started: TaskRunner) -> int:
    """Tasks that the Dask workers of a started runner work on at a time."""
    return sum(worker["nthreads"] for worker in _workers(started))


def require_resources(started: TaskRunner) -> None:
    """ValueError where the cluster of a started runner lacks a resource that `decoding = "apart"` asks for."""
    for resource in ("CPU", "GPU"):
        if not any(worker["resources"].get(resource) for worker in _workers(started)):
            raise ValueError(
                f"decoding 'apart' needs a Dask worker that offers {resource}, none of {len(_workers(started))} does; "
                f'start one with `dask worker SCHEDULER --resources "{resource}=1"`'
            )


def _workers(started: TaskRunner) -> list[dict]:
    return list(started.client.scheduler_info(n_workers=-1)["workers"].values())

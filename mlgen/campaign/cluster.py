"""Workers on other machines: those of a dask scheduler, or jobs of a batch system."""

from __future__ import annotations

import shutil
import socket
from typing import TYPE_CHECKING, Any, Literal

from mlgen.campaign.workers import Workers
from mlgen.core import Progress
from mlgen.errors import CardError, MissingExtra, MlgenError

if TYPE_CHECKING:
    from dask_jobqueue.core import JobQueueCluster

BatchSystem = Literal["slurm", "htcondor"]

SUBMIT_COMMANDS: dict[BatchSystem, str] = {"slurm": "sbatch", "htcondor": "condor_submit"}

_JOB: dict[BatchSystem, dict[str, Any]] = {
    "slurm": {"cores": 1, "memory": "2 GB"},
    "htcondor": {"cores": 1, "memory": "2 GB", "disk": "2 GB"},
}
"""What dask-jobqueue has to be told of a job, where the user's configuration does not say it."""

_CONNECT_S = 10.0


def dask_workers(address: str, progress: Progress) -> Workers:
    """The workers of a scheduler that is there already, `--dask ADDRESS`; they are left running.

    Each should have one thread (`dask worker --nthreads 1`): a process computes one chunk at a time.
    Certificates are a matter of dask's own configuration, `distributed.comm.tls`.

    Raises:
        MissingExtra: dask is not installed.
        CardError: the address is none.
        MlgenError: no scheduler answers there.
    """
    where = f"--dask {address}"
    try:
        from distributed import Client

        from mlgen.campaign.dask_workers import DaskWorkers
    except ImportError as error:
        raise _missing("dask") from error
    try:
        _knock(address)
        client = Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (ValueError, TypeError) as error:
        raise CardError(f"{where}: expected an address like tcp://host:8786 ({error})") from error
    except OSError as error:
        raise MlgenError(
            f"{where}: no scheduler answers ({error}): expected `dask scheduler` there"
        ) from error
    return DaskWorkers(client, where, progress)


def _knock(address: str) -> None:
    """Raise OSError where nothing listens: a client of distributed 2026.8 tries for long, and then holds
    the process up for 20 s when it ends."""
    from distributed.comm import parse_address, parse_host_port

    host, port = parse_host_port(parse_address(address)[1])
    with socket.create_connection((host, port), timeout=_CONNECT_S):
        pass


def batch_workers(system: BatchSystem, n_jobs: int, progress: Progress) -> Workers:
    """Jobs with a worker in each; those that end early are submitted again, all end in the end.

    Queue, memory, walltime and all else of a job stand in dask's own configuration, `jobqueue.slurm` and
    `jobqueue.htcondor` of `~/.config/dask/jobqueue.yaml`.

    Raises:
        MissingExtra: dask-jobqueue is not installed.
        CardError: the number of jobs is wrong, or dask's configuration.
        MlgenError: jobs cannot be submitted from here.
    """
    where = f"--{system}"
    if n_jobs < 1:
        raise CardError(f"--workers = {n_jobs}: expected a positive number of jobs")
    if shutil.which(SUBMIT_COMMANDS[system]) is None:
        raise MlgenError(
            f"{where}: {SUBMIT_COMMANDS[system]} is not found: expected a machine that jobs can be "
            "submitted from"
        )
    cluster = batch_cluster(system)
    from distributed import Client, Status

    from mlgen.campaign.dask_workers import DaskWorkers

    async def submit() -> None:
        await cluster

    try:
        # Not by cluster.scale, which distributed 2026.8 lets fail unheard.
        for _ in range(n_jobs):
            cluster.worker_spec.update(cluster.new_worker_spec())
        cluster.sync(submit)
    except (OSError, RuntimeError, ValueError) as error:
        for job in cluster.workers.values():
            if job.status == Status.created:  # else distributed 2026.8 cannot close the cluster
                job.status = Status.failed
        cluster.close()
        raise MlgenError(f"{where}: a job cannot be submitted: {error}") from error
    client = Client(cluster, set_as_default=False)
    return DaskWorkers(client, where, progress, cluster, lambda: cluster.scale(jobs=n_jobs))


def batch_cluster(system: BatchSystem) -> JobQueueCluster:
    """A scheduler in this process, and what it needs to submit jobs; none is submitted yet.

    Raises:
        MissingExtra: dask-jobqueue is not installed.
        CardError: dask's configuration is wrong.
    """
    try:
        import dask.config
        from dask_jobqueue import HTCondorCluster, SLURMCluster
    except ImportError as error:
        raise _missing("dask-jobqueue") from error
    section = f"jobqueue.{system}"
    defaults = {
        key: value
        for key, value in _JOB[system].items()
        if dask.config.get(f"{section}.{key}", None) is None
    }
    # Any free port: the usual one belongs to whoever came first.
    options = {"dashboard_address": ":0", **dask.config.get(f"{section}.scheduler-options", {})}
    kind = {"slurm": SLURMCluster, "htcondor": HTCondorCluster}[system]
    try:
        return kind(scheduler_options=options, **defaults)
    except (ValueError, TypeError, KeyError) as error:
        raise CardError(f"{section} of dask's configuration: {error}") from error


def _missing(package: str) -> MissingExtra:
    return MissingExtra(
        f"{package} is not installed: pip install 'mlgen-hep[cluster]', or give --workers alone, for "
        "processes on this machine"
    )

"""Training on Spark's executors by TorchDistributor: the one module of training that opens Spark, to start workers."""

from collections.abc import Callable, Sequence

from conf import UserError
from etl.session import spark_session
from training.loop import Job


def distribute(
    run_worker: Callable[[Sequence[Job]], None], jobs: Sequence[Job], num_workers: int, *, use_gpu: bool
) -> None:
    """Run `run_worker(jobs)` in `num_workers` processes at once, each in a task slot of Spark.

    Raises:
        UserError: Spark has fewer task slots, so that the barrier stage would wait for ever.
    """
    from pyspark.ml.torch.distributor import TorchDistributor

    with spark_session(jobs[0].config) as spark:
        slots = spark.sparkContext.defaultParallelism
        if slots < num_workers:
            raise UserError(
                f"--workers {num_workers} needs as many task slots at once, Spark has {slots}: "
                f"set spark.master=local[{num_workers}] or give it more executors"
            )
        # Workers unpickle the jobs from files.
        public_jobs = [job.without_secrets() for job in jobs]
        TorchDistributor(num_processes=num_workers, local_mode=False, use_gpu=use_gpu).run(run_worker, public_jobs)

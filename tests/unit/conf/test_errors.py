"""The line that a user reads of an error, also of one that a worker raised elsewhere."""

import pytest

from conf import UserError
from conf.errors import error_line

# As Spark tells of a process of TorchDistributor that failed.
SPARK = """An error occurred while calling o91.collectToPython.
: org.apache.spark.SparkException: Job aborted due to stage failure: Could not recover from a failed barrier stage
org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "distributor.py", line 530, in _execute_command
    raise RuntimeError(
RuntimeError: Command ['python', 'train.py'] failed with return code 1. The task output is included below: Traceback (most recent call last):
[rank1]: Traceback (most recent call last):
[rank1]:   File "feed.py", line 3, in rows
[rank1]: pyarrow.lib.ArrowInvalid: no Parquet: at the end
\tat org.apache.spark.scheduler.Task.run(Task.scala:147)
"""


def ray_error(error: Exception) -> Exception:
    """What `ray.get` raises for a task that raised `error`."""
    from ray.exceptions import RayTaskError

    stack = f"ray::Shard.push()\n  File shard.py, line 3\n{type(error).__name__}: {error}"
    wrapped: Exception = RayTaskError("Shard.push", stack, error, "ray::Shard", 7, "127.0.0.1").as_instanceof_cause()
    return wrapped


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KeyError("f_x"), "KeyError: 'f_x'"),
        (ValueError(), "ValueError"),
        (UserError("lower train.learning_rate"), "lower train.learning_rate"),
        (RuntimeError("two\nlines"), "RuntimeError: two"),
        (RuntimeError(SPARK), "ArrowInvalid: no Parquet: at the end"),
        (
            RuntimeError("An error occurred while calling o1.sql.\n: java.lang.Error: no more\n\tat a.B"),
            "RuntimeError: java.lang.Error: no more",
        ),
    ],
)
def test_an_error_is_one_line(error: Exception, line: str) -> None:
    assert error_line(error) == line


def test_an_error_of_a_ray_task_is_that_of_the_task() -> None:
    mistake = ray_error(UserError("lower train.learning_rate"))
    assert isinstance(mistake, UserError)
    assert error_line(mistake) == "lower train.learning_rate"
    assert error_line(ray_error(KeyError("f_x"))) == "KeyError: 'f_x'"


def test_an_error_of_ray_train_is_that_of_the_worker() -> None:
    from ray.train.v2.api.exceptions import WorkerGroupError

    assert error_line(WorkerGroupError("[Rank 1]\nstack", {1: KeyError("f_x")})) == "KeyError: 'f_x'"
    # A worker that died, and one whose error only its own machine can read.
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    died = WorkerHealthCheckFailedError("A worker health check failed.\nWorker info: …", MemoryError("no room"))
    assert error_line(WorkerGroupError("[Rank 1]\nstack", {1: died})) == "MemoryError: no room"
    text = "[Rank 0 Error Snippet]:\n  in fit\nown.Missing: no such site"
    assert error_line(WorkerGroupError(text, {})) == "own.Missing: no such site"

"""The one door through which training uses Petastorm: it lets only the mended build in.

Petastorm 0.13.1 as published does not import on today's pyarrow, and silently drops row groups at the end of the data
(`all_workers_done()` is asked before `ventilator.completed()`). `tools/wheel_petastorm.py` mends both in the installed
package, so that every process has it: readers' pools, Spark's and Ray's workers, and `features`, which writes with it.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from conf import UserError

SUFFIX = "+millrace"


def require_mended() -> None:
    """Raises UserError unless the Petastorm that is installed here is our build."""
    try:
        found = version("petastorm")
    except PackageNotFoundError:
        found = "none"
    if SUFFIX not in found:
        raise UserError(
            f"Petastorm {found} is installed here; the published one loses rows and needs an old pyarrow. "
            "Run `make setup`, or install the wheel that tools/wheel_petastorm.py makes on every worker"
        )


def make_batch_reader(*arguments: Any, **options: Any) -> Any:
    """`petastorm.make_batch_reader`, of the mended build."""
    require_mended()
    import warnings

    import petastorm

    with warnings.catch_warnings():
        # It would rather see make_reader for a data set with a Unischema; ours has scalars only.
        warnings.simplefilter("ignore")
        return petastorm.make_batch_reader(*arguments, **options)

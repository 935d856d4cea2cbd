"""The one door through which training uses Petastorm: it lets only the mended build in.

Petastorm 0.13.1 as published does not import on today's pyarrow, and silently drops row groups at the end of the data
(`all_workers_done()` is asked before `ventilator.completed()`). `tools/wheel_petastorm.py` mends both in the installed
package, so that every process has it: readers' pools, Spark's and Ray's workers, and `features`, which writes with it.
"""

import pickle
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from conf import UserError

SUFFIX = "+millrace"


def require_mended() -> None:
    """Raises UserError unless the Petastorm that is installed here is our build."""
    try:
        installed = version("petastorm")
    except PackageNotFoundError:
        installed = "none"
    if SUFFIX not in installed:
        raise UserError(
            f"Petastorm {installed} is installed here; the published one loses rows and needs an old pyarrow. "
            "Run `make setup`, or install the wheel that tools/wheel_petastorm.py makes on every worker"
        )


def make_reader(url: Any, *arguments: Any, trust_metadata: bool = False, **options: Any) -> Any:
    """`petastorm.make_reader`, of the mended build: rows of a data set that was written with a Unischema.

    Its schema is unpickled; names that no schema needs are refused with a UserError, unless `trust_metadata`.
    """
    return _opened("make_reader", url, arguments, options, trust_metadata)


def make_batch_reader(url: Any, *arguments: Any, trust_metadata: bool = False, **options: Any) -> Any:
    """`petastorm.make_batch_reader`, of the mended build: batches of columns of any Parquet files."""
    return _opened("make_batch_reader", url, arguments, options, trust_metadata)


def _opened(name: str, url: Any, arguments: tuple[Any, ...], options: dict[str, Any], is_trusted: bool) -> Any:
    require_mended()
    import petastorm
    from petastorm import safe_pickle

    with warnings.catch_warnings(), safe_pickle.trust_metadata(is_trusted):
        # make_batch_reader would rather see make_reader for a data set with a Unischema; ours has scalars only.
        warnings.simplefilter("ignore")
        try:
            return getattr(petastorm, name)(url, *arguments, **options)
        except pickle.UnpicklingError as problem:
            raise UserError(
                f"the metadata of {url} holds what is no schema: {problem}; if you know who wrote it, "
                f"read it with trust_metadata=True"
            ) from None

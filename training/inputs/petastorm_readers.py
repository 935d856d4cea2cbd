"""The one door through which training uses Petastorm: it lets only our patched build in.

Petastorm 0.13.1 as published does not import on today's pyarrow, and silently drops row groups at the end of the data
(`all_workers_done()` is asked before `ventilator.completed()`). `tools/wheel_petastorm.py` patches both in the
installed package, so that every process has it: reader pools, Spark's and Ray's workers, and `features`, which writes
with it.
"""

import pickle
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from conf import UserError

PATCHED_SUFFIX = "+millrace"


def require_patched_build() -> None:
    """Raises UserError unless the Petastorm that is installed here is our build."""
    try:
        installed = version("petastorm")
    except PackageNotFoundError:
        installed = "none"
    if PATCHED_SUFFIX not in installed:
        raise UserError(
            f"Petastorm {installed} is installed here; the published one loses rows and needs an old pyarrow. "
            "Run `make setup`, or install the wheel that tools/wheel_petastorm.py makes on every worker"
        )


def make_reader(url: Any, *arguments: Any, trust_metadata: bool = False, **options: Any) -> Any:
    """`petastorm.make_reader` of the patched build: rows of a data set that was written with a Unischema.

    Takes Petastorm's own arguments. The schema in the data set's metadata is a pickle: unless `trust_metadata`, only
    names that a schema needs are unpickled, so that a data set from elsewhere can't run code.

    Raises:
        UserError: another build of Petastorm is installed, or the metadata holds anything but a schema.
    """
    return _make("make_reader", url, arguments, options, trust_metadata)


def make_batch_reader(url: Any, *arguments: Any, trust_metadata: bool = False, **options: Any) -> Any:
    """`petastorm.make_batch_reader` of the patched build: batches of columns of any Parquet files.

    Arguments, `trust_metadata` and errors are those of `make_reader`.
    """
    return _make("make_batch_reader", url, arguments, options, trust_metadata)


def _make(name: str, url: Any, arguments: tuple[Any, ...], options: dict[str, Any], trust_metadata: bool) -> Any:
    require_patched_build()
    import petastorm
    from petastorm import safe_pickle

    with warnings.catch_warnings(), safe_pickle.trust_metadata(trust_metadata):
        # make_batch_reader warns that make_reader suits a data set with a Unischema; ours has scalars only.
        warnings.simplefilter("ignore")
        try:
            return getattr(petastorm, name)(url, *arguments, **options)
        except pickle.UnpicklingError as error:
            raise UserError(
                f"the metadata of {url} holds more than a schema: {error}; if you know who wrote it, "
                f"read it with trust_metadata=True"
            ) from None

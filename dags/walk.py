"""Walks the stages of a day in one process, with one Spark session and one Ray for all of them."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from conf import Config, UsageError
from conf.console.cli import one_of
from dags.stages import NAMES, STAGES, Stage

log = logging.getLogger(__name__)


@dataclass
class Engines:
    """Opens Spark and Ray when the first stage needs them; both stay open, for a start costs 5 to 10 seconds."""

    config: Config
    stack: ExitStack
    opened: set[str] = field(default_factory=set)

    def require(self, engine: str) -> None:
        """Open the engine unless it is open already."""
        if engine in self.opened or engine == "none":
            return
        if engine == "spark":
            from etl.session import spark_session

            self.stack.enter_context(spark_session(self.config))
        else:
            from training.launch.ray_session import ray_session

            self.stack.enter_context(ray_session(self.config))
        self.opened.add(engine)


@contextmanager
def engines(config: Config) -> Iterator[Engines]:
    """The engines of one walk."""
    with ExitStack() as stack:
        yield Engines(config, stack)


def chosen(first: str | None, last: str | None, only: str | None) -> list[Stage]:
    """Stages from `first` to `last`, or `only` one. Raises UsageError for a name that is no stage."""
    for name in (first, last, only):
        if name is not None:
            one_of("stage", name, NAMES)
    if only:
        if first or last:
            raise UsageError("--only stands alone, without --from and --to")
        return [stage for stage in STAGES if stage.name == only]
    start = NAMES.index(first) if first else 0
    stop = NAMES.index(last) + 1 if last else len(NAMES)
    if start >= stop:
        raise UsageError(f"--from {first} comes after --to {last}")
    return list(STAGES[start:stop])


def walk(
    open_engines: Engines, stages: Sequence[Stage], date: str, *, since: str | None = None
) -> list[dict[str, Any]]:
    """Run each stage's command line in this process, with the settings of the walk and its engines.

    Returns:
        A row per stage with its name, seconds and counts. What a stage raises ends the walk.
    """
    # Imported here: millrace.py is above this package, and names its commands.
    import millrace

    done = []
    for stage in stages:
        open_engines.require(stage.engine)
        log.info("── %s: %s", stage.name, stage.about)
        started = time.monotonic()
        area, *arguments = stage.arguments(date, since)
        # In this process and not as a command line of its own, which would start Spark and Ray each time.
        counts = millrace.invoke_with(open_engines.config, area, arguments)
        done.append({"stage": stage.name, "seconds": round(time.monotonic() - started, 1), "counts": counts})
    return done

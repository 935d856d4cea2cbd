"""Settings of searches."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from conf import Settings


class TuneSettings(Settings):
    """What is searched, how it is measured, and how cheaply."""

    section: ClassVar[str] = "tune"

    space: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Setting -> range, over those of `conf/models/*.yaml`: {low, high, log, whole} or {values}."""
    only: tuple[str, ...] = ()
    """Settings to search; all that have a range when not given."""
    metric: str | None = None
    """What is made best, on validation rows; the model's usual one when not given. `off_policy_snips` (fm, lightgbm):
    the clicks that lists ordered by the model would earn, by the log."""
    limits: tuple[str, ...] = ()
    """What must hold besides, as latency_ms<=5: the best is chosen among trials that keep all."""
    early_stopping: bool = True
    """Trials that are behind the others at the same step are stopped (ASHA, Li et al. 2020)."""
    # 3, as the authors of successive halving advise: 3 or 4 (Hyperband, Li et al. 2018).
    keep_share: int = Field(default=3, gt=1)
    """One of so many trials goes on at each of ASHA's rungs."""
    # 2 at least: a trial that is measured at its end alone can't be stopped early.
    steps: int = Field(default=8, gt=1)
    """Times that an FM or LightGBM trial is measured; deep models are measured after each epoch."""
    epochs: int | None = Field(default=None, gt=0)
    """Epochs of a deep model's trial; train.epochs when not given."""
    # The newest, because a model is used on the days that follow.
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training rows, the newest, that FM and LightGBM trials learn."""
    wide_trials: float = Field(default=0.6, gt=0, lt=1)
    """With --zoom: share of the trials that look over the whole space."""
    wide_budget: float = Field(default=0.25, gt=0, lt=1)
    """With --zoom: share of the rows (deep models: of the epochs) that those are given."""
    zoom_best: float = Field(default=0.25, gt=0, le=1)
    """With --zoom: share of those trials, the best, around which the others look."""
    seconds: float | None = Field(default=None, gt=0)
    """Time after which no trial is started and running ones on Ray are stopped; --trials is the most, then."""
    parallel: int = Field(default=2, gt=0)
    """Trials at a time."""
    cpus_per_trial: int = Field(default=1, gt=0)
    """CPUs that each trial on Ray books, and the threads of a deep model's."""
    gpus_per_trial: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = "auto"
    """GPU that each trial on Ray books: 1, a share as 0.25, or 0 for the CPU. auto: one for each of a deep model, or a
    share where `parallel` is more than Ray has; other models have no use for one."""
    seed: int = 7
    """Of the sampler's draws: the same seed tries the same settings, as long as trials end in the same order."""

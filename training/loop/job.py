"""What is trained, on what, and where its run folder is."""

from dataclasses import dataclass, replace
from pathlib import Path

from conf import Config
from features.compatibility import check_timezone
from training.inputs.batch import Columns
from training.inputs.dataset import TaskDataset, write_item_catalog
from training.inputs.feed import FeedSpec
from training.inputs.row_groups import LocalCache
from training.inputs.schema import Inputs
from training.models import model_named
from training.settings import TrainSettings
from training.workers import Worker

HISTORY = "history.jsonl"  # one line an epoch, in the run folder


@dataclass(frozen=True)
class Job:
    """What to train, on what, and where its run folder is; plain values, so that it travels to any worker."""

    config: Config
    model: str
    dataset: Path
    run_folder: Path
    inputs: Inputs
    columns: Columns
    version: str = ""
    """Of the features; a checkpoint of another version is refused."""
    start_from: Path | None = None
    """Model folder of the run whose weights training starts from."""
    teacher: Path | None = None
    """Model folder of the run whose predictions are the soft targets of distillation."""

    def without_secrets(self) -> "Job":
        """This job for workers, which need no database: an engine may write to disk what it sends them."""
        return replace(self, config=self.config.without_secrets()[0])

    @classmethod
    def prepared(
        cls,
        config: Config,
        model: str,
        dataset: TaskDataset,
        run_folder: Path,
        *,
        start_from: Path | None = None,
        teacher: Path | None = None,
    ) -> "Job":
        """A job on a data set, in a run folder with all that workers expect there; they may run on other machines.

        Raises UsageError for an unknown model, UserError for another run's model that learned other hours and days.
        """
        for other in (start_from, teacher):
            if other is not None:
                check_timezone(other.parent, dataset.timezone)
        for name in ("model", "checkpoints"):
            (run_folder / name).mkdir(parents=True, exist_ok=True)
        if model_named(model).task.needs_item_catalog:
            write_item_catalog(dataset, run_folder)
        return cls(
            config,
            model,
            dataset.folder,
            run_folder,
            dataset.inputs,
            dataset.columns,
            dataset.version,
            start_from,
            teacher,
        )

    def feed(self, split: str, worker: Worker) -> FeedSpec:
        """How this worker reads a split."""
        s = self.config.get(TrainSettings)
        return FeedSpec(
            self.dataset / split,
            self.columns,
            s.batch_size,
            worker.rank,
            worker.world_size,
            s.shuffle_rows,
            s.seed,
            s.threads,
            s.prefetch,
            LocalCache(s.cache_folder, s.cache_gb) if s.cache_folder else None,
        )

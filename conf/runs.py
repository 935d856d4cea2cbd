"""The run folder: how training, ranking and tuning hand their results to the warehouse without opening Spark.

    runs/<run_id>/
      settings.yaml     the resolved settings of the run (secrets masked)
      run.json          model, day and times of the run: written last, a folder without it is not read
      metrics.jsonl     one metric a line: stage, split, metric, k, value, rows
      inputs.jsonl      what the run read: versions of data sets with their sources, other runs
      trials.jsonl, best.jsonl    one trial a line, from a search
      funnel.jsonl      held-out positives that survive each step of a ranking, one step a line
      recommendations.parquet, unknown_user.parquet, predictions.parquet, model/, checkpoints/

`millrace etl results` loads new run folders into the warehouse, each exactly once.
"""

import json
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import yaml

from conf.atomic import write_atomically
from conf.code import code_version
from conf.console.progress import waiting
from conf.errors import UserError
from conf.paths import Paths, entry
from conf.settings import Config
from conf.unfinished import DONE, STARTED, locked_run

log = logging.getLogger(__name__)

# Two files instead of a status in one: a run that was killed has no chance to change its status.
RUN_KEYS = ("run_id", "model", "dt", "ended_at")  # what every run.json has
INPUTS = "inputs.jsonl"
FUNNEL = "funnel.jsonl"  # rows of ads_recall_funnel
PREDICTIONS = "predictions.parquet"  # key, answer, score
RANKED_LISTS = "ranked_lists.parquet"  # list (a score, blend or published), user_id, rank, item_id
RECOMMENDATIONS = "recommendations.parquet"  # user_id, rank, item_id, score, channels
UNKNOWN_USER = "unknown_user.parquet"  # item_id, channels by rank: the list of a user who is not in dim_user
PROMOTED = "promoted"  # runs/promoted/<day>.json: model -> run id of what is served from that day on


def new_run_id() -> str:
    """An id that is unique and sorts by time (UTC): `20260107T060000-1a2b3c`."""
    now = datetime.now(UTC)
    # Random digits, from the system and not from a seeded generator: processes that start in the same second differ.
    return f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def run_folder(runs: Path, run_id: object) -> Path:
    """Folder of the run `run_id` in `runs`; it need not exist. Raises UserError for an id that leads elsewhere."""
    return entry(runs, run_id, "run id")


@dataclass(frozen=True)
class Run:
    """A run that writes its folder; get one from `start_run`."""

    run_id: str
    model: str
    day: date
    folder: Path

    @property
    def model_folder(self) -> Path:
        """Folder of the trained model, in the model's own format; created when first asked for."""
        return self._subfolder("model")

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints that training resumes from; created when first asked for."""
        return self._subfolder("checkpoints")

    def _subfolder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def log_metric(
        self,
        stage: str,
        split: str,
        metric: str,
        value: float,
        rows: int,
        *,
        k: int | None = None,
        model: str | None = None,
    ) -> None:
        """Add one row to `ads_model_metric`.

        Args:
            stage: report, recall, mf, coarse, fine, train, tune or evaluate.
            split: the rows it was measured on: train, valid, test, holdout or serve.
            metric: its name, as described at the table's column `metric`.
            value: the measured value.
            rows: number of examples or users it was measured on.
            k: length of the list, for metrics at k.
            model: when it is another's than the run's own, such as a recall channel's.
        """
        row = {"model": model or self.model, "stage": stage, "split": split, "metric": metric, "k": k}
        self._append("metrics.jsonl", {**row, "value": float(value), "rows": int(rows)})

    def log_metrics(self, stage: str, split: str, values: Mapping[str, float], rows: int) -> dict[str, float]:
        """Add several metrics of a split, as `log_metric` adds one.

        Args:
            stage: the stage of all of them.
            split: the split of all of them.
            values: metric name -> value.
            rows: number of examples or users they were measured on.

        Returns:
            `<split>_<metric>` -> value, for the command's output.
        """
        for name, value in values.items():
            self.log_metric(stage, split, name, value, rows)
        return {f"{split}_{name}": float(value) for name, value in values.items()}

    def log_trial(self, **values: Any) -> None:
        """Add one trial of a search to `ads_tuning_trial`; `values` are columns of that table, others are null."""
        self._append("trials.jsonl", values)

    def log_best_trial(self, **values: Any) -> None:
        """Add the best trial of a search to `ads_tuning_best`; `values` are columns of that table."""
        self._append("best.jsonl", values)

    def log_dataset(self, version: Mapping[str, Any]) -> None:
        """Record that the run read a version of a data set, as `conf.versions.describe_version` describes it."""
        self._append(INPUTS, dict(version))

    def log_input_run(self, run_id: str) -> None:
        """Record that the run read the model or the predictions of another run, for the lineage in `dim_model`."""
        self._append(INPUTS, {"kind": "run", "run_id": run_id})

    def _append(self, name: str, row: dict[str, Any]) -> None:
        # Serialised first: a value that JSON does not know must not leave half a line behind.
        line = json.dumps(row) + "\n"
        with (self.folder / name).open("a", encoding="utf-8") as out:
            out.write(line)


@contextmanager
def start_run(config: Config, model: str, day: date, *, resumed: Path | None = None) -> Iterator[Run]:
    """Open a new run folder, or go on in `resumed`, the folder of an unfinished run.

    Only a block that ends well writes run.json, and only folders with it are read. Inputs are recorded anew when a
    run is resumed; its metrics and checkpoints so far stay. Raises UserError when a process still writes `resumed`.
    """
    run_id = resumed.name if resumed else f"{model}-{new_run_id()}"
    run = Run(run_id, model, day, run_folder(config.get(Paths).runs, run_id))
    config.get(Paths).create_root()
    run.folder.mkdir(parents=True, exist_ok=True)
    with locked_run(run.folder):
        yield from _written(config, run)


def _written(config: Config, run: Run) -> Iterator[Run]:
    run_id, model, day = run.run_id, run.model, run.day
    metadata = {"run_id": run_id, "model": model, "dt": day.isoformat(), "code_version": code_version()}
    metadata["started_at"] = datetime.now(UTC).isoformat()
    # A resumed run reads its data set again, perhaps in a newer version: only what it read last counts.
    (run.folder / INPUTS).unlink(missing_ok=True)
    write_atomically(run.folder / STARTED, json.dumps(metadata, indent=2))
    write_atomically(run.folder / "settings.yaml", yaml.safe_dump(config.resolved(), sort_keys=False))
    with waiting(f"{model} {day}"):
        yield run
    # Not in a `finally`: after an error the folder stays unfinished, for `--resume` and for a look at its logs.
    write_atomically(run.folder / DONE, json.dumps({**metadata, "ended_at": datetime.now(UTC).isoformat()}, indent=2))


def unfinished_run(config: Config, model: str, day: date) -> Path | None:
    """Folder of the newest run of `model` for `day`, if that one was started and not finished; None otherwise.

    It may belong to a process that still runs; `start_run` refuses to go on in it then.
    """
    newest = None
    for path in sorted(config.get(Paths).runs.glob(f"{model}-*/{STARTED}")):  # run ids sort by time
        try:
            metadata = read_json(path, "model", "dt")
        except UserError as error:
            log.warning("%s; the run is left out", error)
            continue
        # The pattern for `fm` finds runs of `fm-x` too.
        if (metadata["model"], metadata["dt"]) == (model, day.isoformat()):
            newest = path.parent
    return newest if newest and not (newest / DONE).exists() else None


def finished_runs(runs: Path) -> list[dict[str, Any]]:
    """The `run.json` of every finished run, oldest first, each with its `folder`.

    A damaged one is named in the log and left out. Reads one small file per run; run folders are never deleted by
    Millrace.
    """
    finished = []
    for path in sorted(runs.glob(f"*/{DONE}")):
        try:
            run = read_json(path, *RUN_KEYS)
            if run["run_id"] != path.parent.name:  # the id is looked up again, as the name of a folder
                raise UserError(f"{path} is of another run, {run['run_id']!r}")
            finished.append({**run, "folder": path.parent})
        except UserError as error:
            log.warning("%s; the run is left out", error)
    return sorted(finished, key=lambda run: str(run["ended_at"]))


def newest_run(config: Config, model: str, day: date | None = None) -> Path | None:
    """Folder of the newest finished run of `model` (for `day`, if given); None when there is none."""
    for run in reversed(finished_runs(config.get(Paths).runs)):
        if run["model"] == model and day in (None, date.fromisoformat(run["dt"])):
            folder: Path = run["folder"]
            return folder
    return None


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """The object in a JSON file that Millrace wrote.

    Args:
        path: the file, which must exist.
        keys: what it must have.

    Raises:
        UserError: it is damaged; the message names the file and what is wrong with it.
    """
    return _parse_object(path.read_bytes(), str(path), keys)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file (one object per line); an empty list when there is no such file.

    Raises:
        UserError: a line is damaged; the message names the file and the line.
    """
    if not path.exists():
        return []
    # By the line feeds that were written: str.splitlines also splits at what JSON leaves as it is, such as U+2028.
    lines = enumerate(path.read_bytes().split(b"\n"), 1)
    return [_parse_object(line, f"line {number} of {path}") for number, line in lines if line]


def _parse_object(data: bytes, place: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    try:
        parsed = json.loads(data)
    except ValueError as error:  # cut off, or no UTF-8
        raise UserError(f"{place} is damaged ({error}): restore the file from a backup, or move it away") from None
    missing = [key for key in keys if key not in parsed] if isinstance(parsed, dict) else ["an object"]
    if missing:
        raise UserError(
            f"{place} is damaged (without {', '.join(missing)}): restore the file from a backup, or move it away"
        )
    return dict(parsed)


def promotions(runs: Path) -> Iterator[tuple[date, dict[str, Any]]]:
    """Every promotion as (day, content of `runs/promoted/<day>.json`), newest first.

    A damaged one is named in the log and left out.
    """
    for path in sorted((runs / PROMOTED).glob("*.json"), reverse=True):
        try:
            yield date.fromisoformat(path.stem), read_json(path)
        except UserError as error:
            log.warning("%s; the promotion is left out", error)


def promoted_runs(promotion: Mapping[str, Any]) -> dict[str, str]:
    """Model -> run id from the content of `runs/promoted/<day>.json`, which holds notes of a rollback as well."""
    return {key: value for key, value in promotion.items() if isinstance(value, str) and key != "rolled_back_at"}


def decision_file(runs: Path, day: date) -> Path:
    """What `recsys promote` decided on a day: what it returns, as JSON. A folder of its own: promotions are globbed."""
    return runs / PROMOTED / "decisions" / f"{day}.json"


def promotion_decision(runs: Path, day: date) -> dict[str, Any] | None:
    """The decision of `recsys promote` on a day, or None: none was made, or by a version that didn't record it.

    Raises:
        UserError: the file is damaged.
    """
    path = decision_file(runs, day)
    return read_json(path) if path.exists() else None


def promotion_status(runs: Path) -> dict[str, str]:
    """Run id -> "champion" (in the newest promotion), "was champion" (in an earlier one) or "rolled back".

    Runs that were never promoted are left out.
    """
    status: dict[str, str] = {}
    # Newest first, and the first entry of a run stays: a champion of today may have been one before.
    for age, (_, promotion) in enumerate(promotions(runs)):
        for run_id in promoted_runs(promotion).values():
            status.setdefault(run_id, "was champion" if age else "champion")
        for run_id in promotion.get("rolled_back", ()):
            status.setdefault(run_id, "rolled back")
    return status

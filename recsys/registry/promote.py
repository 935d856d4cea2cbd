"""Promotion: a day's lists are published only if its models are good enough: `millrace recsys promote --date D`.

The coarse and the fine model must beat the constant click rate on the validation rows, and the day's lists must not
earn significantly fewer clicks than those that would stay, by the log of what the site showed
(`recsys.blend.incumbent`). Where that log can't answer, the fine model must not be significantly worse, on the same
test rows, than the champion: the newest promoted one of an earlier day.
"""

import json
import logging
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from conf import Config, Paths, UserError
from conf.atomic import write_atomically
from conf.runs import PROMOTED, decision_file, newest_run, read_json, read_jsonl, run_folder
from features.compatibility import OtherFeaturesError
from features.metrics import off_policy
from features.metrics.bootstrap import bootstrap_means, percentile_interval
from features.metrics.classification import log_loss, row_log_losses
from features.settings import FeatureSettings
from recsys.blend import rank
from recsys.blend.incumbent import incumbent_run, read_comparison
from recsys.coarse import train as coarse
from recsys.dataset import examples_folder, feature_statistics, read_rows
from recsys.fine import train as fine
from recsys.settings import RecommendSettings

log = logging.getLogger(__name__)


def run(config: Config, day: date) -> dict[str, Any]:
    """Promote the day's newest runs, or log why not: then the champion's lists stay.

    A promotion is the file `runs/promoted/<day>.json` (model -> run id), which `etl results` publishes. The decision,
    promoted or not, is recorded in `runs/promoted/decisions/<day>.json` for the report of the day.

    Returns:
        Model -> run id; `promoted`, and if false the `reasons`; with a champion also its run id, and the clicks a list
        (`list_value`, `list_gain`) or the relative change of its log loss, with a 95 % interval.

    Raises:
        UserError: a model was not trained for the day.
    """
    runs = config.get(Paths).runs
    run_ids: dict[str, str] = {}
    for model in (coarse.MODEL, fine.MODEL, rank.MODEL):
        folder = newest_run(config, model, day)
        if folder is None:
            raise UserError(f"nothing to promote: no {model} run for {day}")
        run_ids[model] = folder.name
    reasons = _worse_than_constant(config, day, {model: runs / run_ids[model] for model in (coarse.MODEL, fine.MODEL)})
    decision: dict[str, Any] = dict(run_ids)
    champion = champion_run_id(runs, day)
    if champion is not None and not reasons:
        judged = _compare_lists(config, day, runs / run_ids[rank.MODEL])
        comparison, worse = judged or _compare(config, day, runs / run_ids[fine.MODEL], runs / champion)
        decision |= {"champion": champion} | comparison
        reasons += worse
    path = runs / PROMOTED / f"{day}.json"
    if reasons:
        log.warning("not promoted: %s; the lists of the champion stay", "; ".join(reasons))
        # A promotion by an earlier run of the day no longer stands either.
        path.unlink(missing_ok=True)
        decision |= {"promoted": False, "reasons": reasons}
    else:
        write_atomically(path, json.dumps(run_ids, indent=2))
        decision |= {"promoted": True}
    write_atomically(decision_file(runs, day), json.dumps(decision, indent=2))
    return decision


def _compare_lists(config: Config, day: date, challenger: Path) -> tuple[dict[str, Any], list[str]] | None:
    """What `run` returns of the lists, and reasons against them; None where the log can't answer, which a line says."""
    incumbent = incumbent_run(config.get(Paths).runs, day, config.get(FeatureSettings).test_days)
    found = read_comparison(challenger)
    if incumbent is None or found is None or found.incumbent != incumbent.name:
        log.info("promote: the day's lists were not judged beside the champion's: by the log loss of the fine model")
        return None
    if found.value is None or found.incumbent_value is None or found.gain_high is None:
        log.warning(
            "promote: the log can't judge the day's lists beside the champion's (it shows them as %.0f lists would; "
            "least %.0f): by the log loss of the fine model",
            found.effective_sample_size,
            off_policy.MIN_EFFECTIVE_SLOTS,
        )
        return None
    gain = {"list_gain": found.gain, "list_gain_low": found.gain_low, "list_gain_high": found.gain_high}
    comparison = {"lists": found.incumbent, "list_value": found.value, "list_k": found.k, **gain}
    if found.gain_high >= -config.get(RecommendSettings).max_worse * found.incumbent_value:
        return comparison, []
    return comparison, [
        f"the lists earn significantly less than those of {found.incumbent}: {found.gain:+.3f} clicks a list of "
        f"{found.k} ({found.gain_low:+.3f} to {found.gain_high:+.3f})"
    ]


def _compare(config: Config, day: date, challenger: Path, champion: Path) -> tuple[dict[str, Any], list[str]]:
    """What `run` returns of the champion, and reasons against the challenger."""
    try:
        change, low, high = log_loss_change(config, day, challenger, champion)
    except OtherFeaturesError as error:
        # Appended features would keep every later model from being promoted.
        log.warning("not compared with the champion: %s", error)
        return {"champion": champion.name, "not_compared": str(error)}, []
    comparison = {"champion": champion.name, "loss_change": change, "loss_change_low": low, "loss_change_high": high}
    if low <= config.get(RecommendSettings).max_worse:
        return comparison, []
    return comparison, [
        f"the fine model is significantly worse than the champion {champion.name}: "
        f"log loss {change:+.2%} ({low:+.2%} to {high:+.2%})"
    ]


def champion_run_id(runs: Path, day: date) -> str | None:
    """Run id of the fine model of the newest promotion before `day`, whose model must still be in the folder `runs`."""
    for path in sorted((runs / PROMOTED).glob("*.json"), reverse=True):
        folder = run_folder(runs, read_json(path, fine.MODEL)[fine.MODEL])
        if date.fromisoformat(path.stem) < day and (folder / "model").exists():
            return folder.name
    return None


def log_loss_change(config: Config, day: date, challenger: Path, champion: Path) -> tuple[float, float, float]:
    """Compare two fine models on the day's test rows.

    Args:
        config: all settings.
        day: the day of the test rows.
        challenger: run folder of the day's model.
        champion: run folder of an earlier day's.

    Returns:
        Relative change of the champion's log loss and its 95 % interval, by bootstrap over users.
    """
    rows = read_rows(examples_folder(config, day) / "test", fine.KEYS)
    statistics = feature_statistics(config, day)
    # The champion as it served: it has learned all that was known when it was promoted.
    losses = [
        row_log_losses(rows.label, fine.load(folder, statistics, split).predict(rows))
        for folder, split in ((challenger, "test"), (champion, "serve"))
    ]
    user = rows.keys["user_id"].factorize()[0]
    change = np.bincount(user, losses[0] - losses[1])  # (users,) rows of a user are not independent
    low, high = percentile_interval(bootstrap_means(change, np.bincount(user, losses[1])))
    return float(change.sum() / losses[1].sum()), low, high


def _worse_than_constant(config: Config, day: date, folders: Mapping[str, Path]) -> list[str]:
    """Reasons against models whose log loss on the validation rows is not below that of the constant click rate.

    Of rows of one class the constant is always right: its log loss is 0, and no model can be told from another.
    """
    # The rate of these very rows: a bar slightly higher than the rate that was known before them.
    label = read_rows(examples_folder(config, day) / "valid").label
    if label.min() == label.max():
        valid = "every validation row is a click" if label.any() else "no validation row is a click"
        return [f"{valid}: nothing tells whether the models are better than the constant click rate"]
    constant = log_loss(label, np.full(len(label), label.mean()))
    reasons = []
    for model, folder in folders.items():
        rows = read_jsonl(folder / "metrics.jsonl")
        loss = next(float(row["value"]) for row in rows if (row["split"], row["metric"]) == ("valid", "log_loss"))
        if not loss < constant:  # NaN, too
            reasons.append(
                f"{model} has log loss {loss:.4f} on the validation rows, the constant click rate {constant:.4f}"
            )
    return reasons

"""Fine ranking: train the online FM on the training set of a day: `millrace recsys fine --date D`."""

from datetime import date
from pathlib import Path
from typing import Any

from conf import Config
from conf.runs import start_run
from recsys.dataset import Rows, examples_folder, read_rows
from recsys.fine.encode import Encoder
from recsys.fine.fm import FM
from recsys.settings import FMSettings
from training.metrics import auc, log_loss

MODEL = "fm"


def run(config: Config, day: date) -> dict[str, Any]:
    """Train on the training rows in the order of time, measure on the others, and leave a run folder."""
    folder = examples_folder(config, day)
    with start_run(config, MODEL, day) as found:
        parts = {split: read_rows(folder / split) for split in ("train", "valid", "test")}
        model, encoder, progressive = train(parts["train"], config.get(FMSettings))
        model.save(found.model_folder / "fm.npz", {"edges": encoder.edges})
        found.metric("fine", "train", "progressive_log_loss", progressive, len(parts["train"].label))
        told: dict[str, Any] = {"run_id": found.run_id, "progressive_log_loss": progressive}
        for split in ("valid", "test"):
            numbers = measure(model, encoder, parts[split])
            for metric, value in numbers.items():
                found.metric("fine", split, metric, value, len(parts[split].label))
                told[f"{split}_{metric}"] = value
    return told


def train(rows: Rows, settings: FMSettings) -> tuple[FM, Encoder, float]:
    """The model, its encoder, and the log loss of predictions made before learning, over the first pass."""
    encoder = Encoder.fit(rows, settings.bins, settings.bits)
    encoded = encoder.encode(rows)
    model = FM(settings)
    progressive = log_loss(rows.label, model.learn(*encoded, rows.label))
    for _ in range(settings.epochs - 1):
        model.learn(*encoded, rows.label)
    return model, encoder, progressive


def measure(model: FM, encoder: Encoder, rows: Rows) -> dict[str, float]:
    """AUC and log loss, without learning."""
    scores = model.predict(*encoder.encode(rows))
    return {"auc": auc(rows.label, scores), "log_loss": log_loss(rows.label, scores)}


def load(folder: Path) -> tuple[FM, Encoder]:
    """Model and encoder of a run folder."""
    model, extra = FM.load(folder / "model/fm.npz")
    return model, Encoder(extra["edges"], model.settings.bits)

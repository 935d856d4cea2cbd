"""The factorisation machine as it predicts: one table, which workers map into memory, without the state of training."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.atomic import write_atomically
from recsys.calibration import Calibrator
from recsys.dataset import Rows
from recsys.fine import ftrl
from recsys.fine.encode import Encoder
from recsys.fine.fm import OnlineFM
from recsys.fine.inclusion import Inclusion
from recsys.serve.state.arrays import map_array, save_arrays

ABOUT = "fm.json"


@dataclass(frozen=True)
class ServedFM:
    """Predicts as the `OnlineFM` that it was made of.

    Attributes:
        table: (features, k + 1) factors and linear weight, see `OnlineFM.scoring_table`; with fields (…, fields·k + 1).
        w0: the bias.
        k: number of factors.
        has_fields: whether factors are per pair of fields.
        encoder: from features to ids.
        calibrator: from predictions to probabilities.
        inclusion: from ids to rows of the table; None when they are the same.
    """

    table: NDArray[Any]
    w0: float
    k: int
    has_fields: bool
    encoder: Encoder
    calibrator: Calibrator
    inclusion: Inclusion | None = None

    @classmethod
    def of(cls, model: OnlineFM, encoder: Encoder, calibrator: Calibrator) -> "ServedFM":
        """What predicts of a loaded model."""
        table, w0 = model.scoring_table(), model.bias_weight()
        return cls(table, w0, model.settings.k, bool(model.fields), encoder, calibrator, model.inclusion)

    def predict(self, rows: Rows) -> NDArray[np.float64]:
        """Predict calibrated click probabilities (rows,)."""
        encoded = self.encoder.encode(rows)
        if self.inclusion is not None:
            encoded = encoded.with_index(self.inclusion.lookup(encoded.index))
        encoded.validate(len(self.table))
        out, w0 = np.empty(len(encoded), np.float32), ftrl.f32(self.w0)  # (rows,)
        # A table of 16 bits stays in fixed point: x is scaled instead of every weight.
        scale = ftrl.QUANTUM if self.table.dtype == np.int16 else ftrl.ONE
        # The kernels that `OnlineFM.predict` runs.
        before = (encoded.indptr, encoded.index, encoded.value)
        if self.has_fields:
            ftrl.field_aware_predict_kernel(self.k)(*before, encoded.field, w0, self.table, scale, out)
        else:
            ftrl.predict_kernel(self.k)(*before, w0, self.table, scale, out)
        return self.calibrator(out)

    def save(self, folder: Path) -> bool:
        """Save the arrays for `map`; False for a model with inclusion, whose table is small and read from its run."""
        if self.inclusion is not None:
            return False
        curve = np.stack([self.calibrator.x, self.calibrator.y])
        save_arrays(folder, {"fm_table": self.table, "fm_edges": self.encoder.edges, "fm_curve": curve})
        about = {"w0": self.w0, "k": self.k, "has_fields": self.has_fields, "bits": self.encoder.bits}
        # After the arrays: `map` takes this file for the sign that they are there.
        write_atomically(folder / ABOUT, json.dumps(about))
        return True

    @classmethod
    def map(cls, folder: Path) -> "ServedFM | None":
        """Map what was saved into memory; None when nothing was."""
        if not (folder / ABOUT).exists():
            return None
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        encoder = Encoder(map_array(folder, "fm_edges"), about["bits"])
        calibrator = Calibrator(*np.array(map_array(folder, "fm_curve")))
        # Writable for numba, whose kernels are compiled for such arrays once; nobody writes.
        table = map_array(folder, "fm_table", "c")
        return cls(table, about["w0"], about["k"], about["has_fields"], encoder, calibrator)

"""The online factorisation machine as a model: fit, predict, save, load."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf import UserError
from conf.atomic import read_with_checksum, write_with_checksum
from recsys.fine import ftrl
from recsys.fine.csr import Csr
from recsys.fine.inclusion import Inclusion, build_inclusion
from recsys.settings import FMSettings

VERSION = 2  # of the file's layout


class OnlineFM:
    """A factorisation machine (Rendle 2010), or a field-aware one (Juan et al. 2016), under FTRL-Proximal.

    A feature is a row of every table. `width` is k, or fields·k when field-aware.

    Attributes:
        settings: the section `fm`.
        linear: (size, 2) z and √n of the linear weights.
        v: (size, width) factors.
        s: (size, width) √n of each factor; (size, k + 1) with 16-bit weights, the last column of the linear weight.
        table: (size, k + 1) int16 factors and linear weight, with 16-bit weights, instead of `linear` and `v`.
        bias: (1, 2) z and √n of w0.
        inclusion: maps ids to rows of the tables; None when the ids are the rows.
    """

    def __init__(self, settings: FMSettings, fields: int = 0) -> None:
        """Create a model that has learned nothing; `fields` is the number of fields, for a field-aware one.

        Raises:
            UserError: `fm.weights=q2.13` with settings that need z.
            ValueError: a field-aware model without the number of fields.
        """
        if settings.field_aware and not fields:
            raise ValueError("a field-aware FM needs the number of fields")
        if settings.weights == "q2.13" and (settings.l1 or settings.field_aware):
            raise UserError("fm.weights=q2.13 keeps weights and no z: it needs fm.l1=0 and fm.field_aware=false")
        self.settings = settings
        self.fields = fields if settings.field_aware else 0
        self.inclusion: Inclusion | None = build_inclusion(settings)
        self.width = settings.k * max(self.fields, 1)
        self.bias = np.zeros((1, 2), np.float32)
        self._rng = np.random.default_rng(settings.seed)
        self._random_state = np.array([settings.seed * 2 + 1], np.uint32)  # of the rounding; never 0
        self._scoring_table: NDArray[Any] | None = None
        self._create_tables()
        self._grow(0 if self.inclusion else 1 << settings.bits)

    @classmethod
    def from_arrays(
        cls,
        settings: FMSettings,
        fields: int,
        linear: NDArray[np.float32],
        v: NDArray[np.float32],
        s: NDArray[np.float32],
        bias: NDArray[np.float32],
    ) -> "OnlineFM":
        """Make a model of as many features as the arrays have rows. They become its state, without a copy."""
        # With one row at first: drawing initial factors for 2^bits of them takes longer than a block of examples.
        model = cls(settings.model_copy(update={"bits": 0}), fields)
        model.settings, model.linear, model.v, model.s, model.bias = settings, linear, v, s, bias
        return model

    @property
    def size(self) -> int:
        """Number of features that the tables have rows for."""
        return len(self.s)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the tables."""
        return sum(array.nbytes for array in self.arrays().values())

    def partial_fit(
        self, rows: Csr, label: NDArray[np.float32], weight: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Train on rows in one pass, in order; `parallel.partial_fit_threads` does so on several cores.

        Args:
            rows: features by id.
            label: (rows,) 0 or 1.
            weight: (rows,) of each row's loss; 1 when not given.

        Returns:
            (rows,) the prediction for each row before it was learned from (progressive validation).

        Raises:
            ValueError: shapes, ids or values that the kernels can't take.
        """
        rows, weight = self.prepare(rows, label, weight)
        rows.validate(self.size)
        out = np.empty(len(label), np.float32)
        self.run_kernel(rows, label, weight, self.bias, self._random_state, out)
        return out

    def prepare(
        self, rows: Csr, label: NDArray[np.float32], weight: NDArray[np.float32] | None
    ) -> tuple[Csr, NDArray[np.float32]]:
        """Prepare the tables for training on rows: includes their features.

        Returns:
            The rows with table rows instead of ids, −1 for a feature that is not included (yet), and the weights.

        Raises:
            ValueError: there are more or fewer labels than rows.
        """
        if len(label) != len(rows):
            raise ValueError(f"shapes do not fit: {len(rows)} rows, {len(label)} labels")
        self._scoring_table = None
        if self.inclusion:
            rows = rows.with_index(self.inclusion.allocate(rows.index))
            self._grow(self.inclusion.num_features)
        weights = np.ones(len(label), np.float32) if weight is None else weight.astype(np.float32, copy=False)
        return rows, weights

    def run_kernel(
        self,
        rows: Csr,
        label: NDArray[Any],
        weight: NDArray[Any],
        bias: NDArray[np.float32],
        random_state: NDArray[np.uint32],
        out: NDArray[np.float32],
    ) -> None:
        """Run the compiled training loop on prepared and validated rows.

        Args:
            rows: with rows of the tables as index.
            label: (rows,) 0 or 1.
            weight: (rows,).
            bias: (1, 2), changed in place; a thread passes its copy.
            random_state: (1,) of the 16-bit weights' rounding, changed in place.
            out: (rows,) gets the predictions.
        """
        f32, s = ftrl.f32, self.settings
        alpha, beta, alpha_v = f32(s.alpha), f32(s.beta), f32(s.alpha_v)
        beta_v = f32(s.beta + s.alpha_v * s.l2_v)
        examples = (label.astype(np.float32, copy=False), weight, bias)
        if s.weights == "q2.13":
            beta_linear = f32(s.beta + s.alpha * s.l2)
            ftrl.fixed_point_fit_kernel(s.k)(
                rows.indptr, rows.index, rows.value, *examples, self.table, self.s, random_state,
                alpha, beta, beta_linear, alpha_v, beta_v, out,
            )  # fmt: skip
            return
        rates = (alpha, beta, f32(s.l1), f32(s.l2), alpha_v, beta_v)
        if self.fields:
            ftrl.field_aware_fit_kernel(s.k)(
                rows.indptr, rows.index, rows.value, rows.field, *examples, self.linear, self.v, self.s, *rates, out
            )
        else:
            ftrl.fit_kernel(s.k)(
                rows.indptr, rows.index, rows.value, *examples, self.linear, self.v, self.s, *rates, out
            )  # fmt: skip

    def predict(self, rows: Csr) -> NDArray[np.float32]:
        """Predict click probabilities (rows,); a feature that was never learned from contributes nothing.

        Raises:
            ValueError: ids or values that the kernels can't take.
        """
        if self.inclusion:
            rows = rows.with_index(self.inclusion.lookup(rows.index))
        rows.validate(self.size)
        # A 16-bit table stays in fixed point: x is scaled instead of every weight.
        table, scale = self.scoring_table(), ftrl.QUANTUM if self.settings.weights == "q2.13" else ftrl.ONE
        out = np.empty(len(rows), np.float32)
        w0 = ftrl.f32(self.bias_weight())
        if self.fields:
            predict = ftrl.field_aware_predict_kernel(self.settings.k)
            predict(rows.indptr, rows.index, rows.value, rows.field, w0, table, scale, out)
        else:
            ftrl.predict_kernel(self.settings.k)(rows.indptr, rows.index, rows.value, w0, table, scale, out)
        return out

    def scoring_table(self) -> NDArray[Any]:
        """Factors and linear weight of each feature, (size, width + 1), as prediction reads them.

        One array, so that a feature is one or two cache lines; cached until the model is trained again.
        """
        if self._scoring_table is None:
            self._scoring_table = self._build_scoring_table()
        return self._scoring_table

    def _build_scoring_table(self) -> NDArray[Any]:
        if self.settings.weights == "q2.13":
            return np.where(np.asarray(self.s.any(axis=1))[:, None], self.table, np.int16(0))
        s = self.settings
        table = np.empty((self.size, self.width + 1), np.float32)
        z, root = self.linear.T  # (size,) each
        denominator = (s.beta + root) / s.alpha + s.l2  # (size,)
        # FTRL-Proximal's closed form (McMahan et al. 2013, algorithm 1): 0 while |z| is within λ₁.
        table[:, -1] = -np.sign(z) * np.maximum(np.abs(z) - s.l1, 0) / denominator
        # The initial factors of a feature without a gradient are noise.
        table[:, :-1] = np.where((root > 0)[:, None], self.v, 0)
        return table

    def bias_weight(self) -> float:
        """The bias w0, from its z and √n; it is not regularised."""
        z, root = self.bias[0]
        return float(-z / ((self.settings.beta + root) / self.settings.alpha))

    def save(self, path: Path, extra: Mapping[str, NDArray[Any]]) -> None:
        """Save the model, without features that were never learned from, and `extra` arrays beside it.

        The file is whole or not there, with its checksum at the end.
        """
        # Of 2^bits rows a day touches few: the others are their initial factors, which the seed gives back.
        used = np.flatnonzero(self._is_touched())
        buffer = io.BytesIO()
        settings = np.frombuffer(self.settings.model_dump_json().encode(), np.uint8)
        state: dict[str, Any] = {"version": VERSION, "settings": settings, "fields": self.fields, "size": self.size}
        state |= {"used": used, "bias": self.bias, "draw": self._random_state}
        state |= {name: array[used] for name, array in self.arrays().items()}
        state |= {f"i_{name}": values for name, values in (self.inclusion.state() if self.inclusion else {}).items()}
        state |= {f"x_{name}": values for name, values in extra.items()}
        # To memory first: the checksum is of the whole file.
        np.savez(buffer, **state)
        write_with_checksum(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "tuple[OnlineFM, dict[str, NDArray[Any]]]":
        """Load a model and the `extra` arrays that were saved beside it; it continues as if it had never stopped.

        Raises:
            UserError: the file is corrupt, or of another version.
        """
        with np.load(io.BytesIO(read_with_checksum(path)), allow_pickle=False) as file:
            if int(file["version"]) != VERSION:
                raise UserError(f"{path} has version {int(file['version'])}, this is {VERSION}: train again")
            model = cls(FMSettings.model_validate_json(file["settings"].tobytes()), int(file["fields"]))
            # Untouched features get the initial factors that they had: the same seed, the same order.
            model._grow(int(file["size"]))
            model.bias, model._random_state = file["bias"], file["draw"]
            for name, array in model.arrays().items():
                array[file["used"]] = file[name]
            if model.inclusion:
                model.inclusion.restore({name[2:]: file[name] for name in file.files if name.startswith("i_")})
            return model, {name[2:]: file[name] for name in file.files if name.startswith("x_")}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The tables by name, each with one row per feature."""
        names = ("table", "s") if self.settings.weights == "q2.13" else ("linear", "v", "s")
        return {name: getattr(self, name) for name in names}

    def set_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace the tables, named as in `arrays`."""
        for name, array in arrays.items():
            setattr(self, name, array)

    def _is_touched(self) -> NDArray[np.bool_]:
        """(size,) whether a feature was learned from; with k = 0 only the linear weight says so."""
        touched = np.asarray(self.s.any(axis=1))
        return touched if self.settings.weights == "q2.13" else touched | np.asarray(self.linear.any(axis=1))

    def _create_tables(self) -> None:
        if self.settings.weights == "q2.13":
            self.table = np.empty((0, self.width + 1), np.int16)
            self.s = np.empty((0, self.width + 1), np.float32)
            return
        self.linear = np.empty((0, 2), np.float32)
        self.v, self.s = np.empty((0, self.width), np.float32), np.empty((0, self.width), np.float32)

    def _grow(self, size: int) -> None:
        """Grow the tables to `size` features. New factors are random, the same for the same seed and order."""
        num_new = size - self.size
        if num_new <= 0:
            return
        factors = self._rng.standard_normal((num_new, self.width), dtype=np.float32) * np.float32(self.settings.sigma)
        if self.settings.weights == "q2.13":
            fixed = np.zeros((num_new, self.width + 1), np.int16)
            # The initial factors in fixed point; the linear weight, the last column, begins at 0.
            fixed[:, :-1] = np.clip(np.rint(factors / ftrl.QUANTUM), -32768, 32767)
            self.table = np.concatenate([self.table, fixed])
            self.s = np.concatenate([self.s, np.zeros((num_new, self.width + 1), np.float32)])
            return
        self.linear = np.concatenate([self.linear, np.zeros((num_new, 2), np.float32)])
        self.v = np.concatenate([self.v, factors])
        self.s = np.concatenate([self.s, np.zeros_like(factors)])

"""The online factorisation machine as a model: learn, predict, save, load."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf import UserError
from conf.atomic import read_with_checksum, write_with_checksum
from recsys.fine import ftrl, parallel
from recsys.fine.csr import Csr
from recsys.fine.inclusion import Inclusion, inclusion_of
from recsys.settings import FMSettings

VERSION = 2


class FM:
    """State of an FM (or field-aware FM of `fields` fields) under FTRL; a row of a table per feature.

    `linear` (size, 2) holds z and √n of the weights, `v` and `s` (size, width) the factors and the √n of each, where
    width is k, or fields·k when field-aware. With 16-bit weights `table` (size, k + 1) int16 holds factors and weight,
    and `s` (size, k + 1) all √n. `bias` (1, 2) is z and √n of w0.
    """

    def __init__(self, settings: FMSettings, fields: int = 0) -> None:
        if settings.field_aware and not fields:
            raise ValueError("a field-aware FM needs the number of fields")
        if settings.weights == "q2.13" and (settings.l1 or settings.field_aware):
            raise UserError("fm.weights=q2.13 keeps weights and no z: it needs fm.l1=0 and fm.field_aware=false")
        self.settings = settings
        self.fields = fields if settings.field_aware else 0
        self.inclusion: Inclusion | None = inclusion_of(settings)
        self.width = settings.k * max(self.fields, 1)
        self.bias = np.zeros((1, 2), np.float32)
        self._rng = np.random.default_rng(settings.seed)
        self._draw = np.array([settings.seed * 2 + 1], np.uint32)
        self._table: NDArray[Any] | None = None
        self._set_empty()
        self._grow(0 if self.inclusion else 1 << settings.bits)

    @classmethod
    def of_state(
        cls,
        settings: FMSettings,
        fields: int,
        linear: NDArray[np.float32],
        v: NDArray[np.float32],
        s: NDArray[np.float32],
        bias: NDArray[np.float32],
    ) -> "FM":
        """A model of as many features as the arrays have rows; they are its state, not copies."""
        model = cls(settings.model_copy(update={"bits": 0}), fields)
        model.settings, model.linear, model.v, model.s, model.bias = settings, linear, v, s, bias
        return model

    @property
    def size(self) -> int:
        """Features that there is room for."""
        return len(self.s)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the parameters."""
        return sum(array.nbytes for array in self.arrays().values())

    def learn(
        self,
        rows: Csr,
        label: NDArray[np.float32],
        weight: NDArray[np.float32] | None = None,
        *,
        threads: int = 1,
    ) -> NDArray[np.float32]:
        """One pass in order; returns what was predicted for each row before it was learned from, (rows,).

        With more threads, blocks are learned side by side (`parallel.py`): as good, not bit-identical.
        Raises ValueError for shapes, ids or values that make no sense.
        """
        if len(label) != len(rows):
            raise ValueError(f"shapes do not fit: {len(rows)} rows, {len(label)} labels")
        rows = self._admit(rows)
        if threads == 1:
            rows.check(self.size)
        weights = np.ones(len(label), np.float32) if weight is None else weight.astype(np.float32, copy=False)
        self._table = None
        if threads == 1:
            out = np.empty(len(label), np.float32)
            self.learn_rows(rows, label, weights, self.bias, self._draw, out)
            return out
        return parallel.learn(self, rows, label, weights, threads)

    def learn_rows(
        self,
        rows: Csr,
        label: NDArray[Any],
        weight: NDArray[Any],
        bias: NDArray[np.float32],
        draw: NDArray[np.uint32],
        out: NDArray[np.float32],
    ) -> None:
        """The kernel on rows that were checked; `bias`, the random state `draw` and `out` are the caller's."""
        k, f = self.settings.k, ftrl.f32
        s = self.settings
        alpha, beta, alpha_v = f(s.alpha), f(s.beta), f(s.alpha_v)
        beta_v = f(s.beta + s.alpha_v * s.l2_v)
        examples = (label.astype(np.float32, copy=False), weight, bias)
        if s.weights == "q2.13":
            beta_l = f(s.beta + s.alpha * s.l2)
            ftrl.fixed_learner(k)(
                rows.indptr, rows.index, rows.value, *examples, self.table, self.s, draw,
                alpha, beta, beta_l, alpha_v, beta_v, out,
            )  # fmt: skip
            return
        rates = (alpha, beta, f(s.l1), f(s.l2), alpha_v, beta_v)
        if self.fields:
            ftrl.field_learner(k)(
                rows.indptr, rows.index, rows.value, rows.field, *examples, self.linear, self.v, self.s, *rates, out
            )
        else:
            ftrl.learner(k)(
                rows.indptr, rows.index, rows.value, *examples, self.linear, self.v, self.s, *rates, out
            )  # fmt: skip

    def predict(self, rows: Csr) -> NDArray[np.float32]:
        """Probabilities (rows,). A feature that was never learned from counts for nothing."""
        if self.inclusion:
            rows = rows.with_index(self.inclusion.find(rows.index))
        rows.check(self.size)
        table, scale = self.weights(), ftrl.QUANTUM if self.settings.weights == "q2.13" else ftrl.ONE
        out = np.empty(len(rows), np.float32)
        w0 = ftrl.f32(self.weight0())
        if self.fields:
            score = ftrl.field_scorer(self.settings.k)
            score(rows.indptr, rows.index, rows.value, rows.field, w0, table, scale, out)
        else:
            ftrl.scorer(self.settings.k)(rows.indptr, rows.index, rows.value, w0, table, scale, out)
        return out

    def weights(self) -> NDArray[Any]:
        """(size, width + 1): factors and linear weight as scoring reads them; kept until the model learns again."""
        if self._table is None:
            self._table = self._make_table()
        return self._table

    def _make_table(self) -> NDArray[Any]:
        if self.settings.weights == "q2.13":
            return np.where(np.asarray(self.s.any(axis=1))[:, None], self.table, np.int16(0))
        s = self.settings
        table = np.empty((self.size, self.width + 1), np.float32)
        z, root = self.linear.T
        denominator = (s.beta + root) / s.alpha + s.l2
        table[:, -1] = -np.sign(z) * np.maximum(np.abs(z) - s.l1, 0) / denominator
        table[:, :-1] = np.where((root > 0)[:, None], self.v, 0)
        return table

    def weight0(self) -> float:
        """The bias as a weight."""
        z, root = self.bias[0]
        return float(-z / ((self.settings.beta + root) / self.settings.alpha))

    def save(self, path: Path, extra: Mapping[str, NDArray[Any]]) -> None:
        """Only touched features are written. The file is whole or not there, with its checksum at the end."""
        used = np.flatnonzero(self._touched())
        buffer = io.BytesIO()
        about = np.frombuffer(self.settings.model_dump_json().encode(), np.uint8)
        state: dict[str, Any] = {"version": VERSION, "settings": about, "fields": self.fields, "size": self.size}
        state |= {"used": used, "bias": self.bias, "draw": self._draw}
        state |= {name: array[used] for name, array in self.arrays().items()}
        state |= {f"i_{name}": values for name, values in (self.inclusion.state() if self.inclusion else {}).items()}
        state |= {f"x_{name}": values for name, values in extra.items()}
        np.savez(buffer, **state)
        write_with_checksum(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "tuple[FM, dict[str, NDArray[Any]]]":
        """The model and what was saved beside it. Raises UserError for a file that is corrupt or of another version."""
        with np.load(io.BytesIO(read_with_checksum(path)), allow_pickle=False) as saved:
            if int(saved["version"]) != VERSION:
                raise UserError(f"{path} has version {int(saved['version'])}, this is {VERSION}: train again")
            model = cls(FMSettings.model_validate_json(saved["settings"].tobytes()), int(saved["fields"]))
            model._grow(int(saved["size"]))
            model.bias, model._draw = saved["bias"], saved["draw"]
            for name, array in model.arrays().items():
                array[saved["used"]] = saved[name]
            if model.inclusion:
                model.inclusion.restore({name[2:]: saved[name] for name in saved.files if name.startswith("i_")})
            return model, {name[2:]: saved[name] for name in saved.files if name.startswith("x_")}

    def _admit(self, rows: Csr) -> Csr:
        """Ids -> rows of the tables; which features are let in depends only on what came before."""
        if self.inclusion:
            rows = rows.with_index(self.inclusion.admit(rows.index))
            self._grow(self.inclusion.num_features)
        return rows

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The tables by name, a row a feature."""
        names = ("table", "s") if self.settings.weights == "q2.13" else ("linear", "v", "s")
        return {name: getattr(self, name) for name in names}

    def set_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Other tables in place of those of `arrays`."""
        for name, array in arrays.items():
            setattr(self, name, array)

    def _touched(self) -> NDArray[np.bool_]:
        touched = np.asarray(self.s.any(axis=1))
        return touched if self.settings.weights == "q2.13" else touched | np.asarray(self.linear.any(axis=1))

    def _set_empty(self) -> None:
        if self.settings.weights == "q2.13":
            self.table = np.empty((0, self.width + 1), np.int16)
            self.s = np.empty((0, self.width + 1), np.float32)
            return
        self.linear = np.empty((0, 2), np.float32)
        self.v, self.s = np.empty((0, self.width), np.float32), np.empty((0, self.width), np.float32)

    def _grow(self, size: int) -> None:
        """Make room for `size` features; new factors start at random values, the same for the same seed and order."""
        more = size - self.size
        if more <= 0:
            return
        start = self._rng.standard_normal((more, self.width), dtype=np.float32) * np.float32(self.settings.sigma)
        if self.settings.weights == "q2.13":
            fixed = np.zeros((more, self.width + 1), np.int16)
            fixed[:, :-1] = np.clip(np.rint(start / ftrl.QUANTUM), -32768, 32767)
            self.table = np.concatenate([self.table, fixed])
            self.s = np.concatenate([self.s, np.zeros((more, self.width + 1), np.float32)])
            return
        self.linear = np.concatenate([self.linear, np.zeros((more, 2), np.float32)])
        self.v = np.concatenate([self.v, start])
        self.s = np.concatenate([self.s, np.zeros_like(start)])

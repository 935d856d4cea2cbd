"""The online factorisation machine as a model: learn, predict, save, load."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf import UserError
from recsys.fine import ftrl
from recsys.settings import FMSettings

VERSION = 1


class FM:
    """State of an FM under FTRL: z and n of the bias (2,), the weights (size,) and the factors (size, k)."""

    def __init__(self, settings: FMSettings) -> None:
        size = 1 << settings.bits
        rng = np.random.default_rng(settings.seed)
        self.settings = settings
        self.bias = np.zeros(2)
        self.z = np.zeros(size, np.float32)
        self.n = np.zeros(size, np.float32)
        start = rng.standard_normal((size, settings.k), dtype=np.float32) * np.float32(settings.sigma)
        self.zv = -start * np.float32(settings.beta / settings.alpha_v + settings.l2_v)
        self.nv = np.zeros((size, settings.k), np.float32)

    def learn(
        self,
        indptr: NDArray[np.int64],
        index: NDArray[np.int64],
        value: NDArray[np.float32],
        label: NDArray[np.float32],
        weight: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """One pass in order. Row r has features index[indptr[r]:indptr[r+1]] with their values.

        Returns what was predicted for each row before it was learned from, (rows,).
        """
        self._check(indptr, index, value, len(label))
        out = np.empty(len(label), np.float32)
        weights = np.ones(len(label), np.float32) if weight is None else weight
        ftrl.learn(
            indptr, index, value, label, weights, self.bias, self.z, self.n, self.zv, self.nv, *self._rates(), out
        )
        return out

    def predict(
        self, indptr: NDArray[np.int64], index: NDArray[np.int64], value: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Probabilities (rows,)."""
        self._check(indptr, index, value, len(indptr) - 1)
        out = np.empty(len(indptr) - 1, np.float32)
        ftrl.score(indptr, index, value, self.bias, self.z, self.n, self.zv, self.nv, *self._rates(), out)
        return out

    def save(self, path: Path, extra: Mapping[str, NDArray[Any]]) -> None:
        """Only touched features are written. The file is whole or not there, with its checksum at the end."""
        used = np.flatnonzero(self.n)
        buffer = io.BytesIO()
        settings = np.frombuffer(self.settings.model_dump_json().encode(), np.uint8)
        state: dict[str, Any] = {"used": used, "bias": self.bias, "version": VERSION, "settings": settings}
        state |= {name: getattr(self, name)[used] for name in ("z", "n", "zv", "nv")}
        state |= {f"x_{name}": values for name, values in extra.items()}
        np.savez(buffer, **state)
        data = buffer.getvalue()
        staged = path.with_suffix(".tmp")
        staged.write_bytes(data + hashlib.sha256(data).digest())
        staged.replace(path)

    @classmethod
    def load(cls, path: Path) -> "tuple[FM, dict[str, NDArray[Any]]]":
        """The model and what was saved beside it. Raises UserError for a file that is corrupt or of another version."""
        raw = path.read_bytes()
        data, digest = raw[:-32], raw[-32:]
        if hashlib.sha256(data).digest() != digest:
            raise UserError(f"{path} is corrupt: its checksum does not fit; train again (`millrace recsys fine`)")
        with np.load(io.BytesIO(data), allow_pickle=False) as saved:
            if int(saved["version"]) != VERSION:
                raise UserError(f"{path} has version {int(saved['version'])}, this is {VERSION}: train again")
            model = cls(FMSettings.model_validate_json(saved["settings"].tobytes()))
            used = saved["used"]
            model.bias = saved["bias"]
            for name in ("z", "n", "zv", "nv"):
                getattr(model, name)[used] = saved[name]
            return model, {name[2:]: saved[name] for name in saved.files if name.startswith("x_")}

    def _rates(self) -> tuple[float, ...]:
        s = self.settings
        return (s.alpha, s.beta, s.l1, s.l2, s.alpha_v, s.l2_v)

    def _check(
        self, indptr: NDArray[np.int64], index: NDArray[np.int64], value: NDArray[np.float32], rows: int
    ) -> None:
        if len(indptr) != rows + 1 or indptr[-1] != len(index) or len(index) != len(value):
            raise ValueError(
                f"shapes do not fit: indptr {len(indptr)}, index {len(index)}, value {len(value)}, rows {rows}"
            )
        if len(index) and (index.min() < 0 or index.max() >= len(self.z)):
            raise ValueError(f"feature ids must lie in [0, {len(self.z)}), found {index.min()}..{index.max()}")

"""What retrieval models know of all items: which ids are items, their fields, and how often each was chosen."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FILE = "items.npz"


class Catalogue(nn.Module):
    """Buffers over item ids 0 … num_items − 1, saved with the weights."""

    def __init__(self, num_items: int, num_fields: int) -> None:
        super().__init__()
        self.known: Tensor
        self.fields: Tensor
        self.log_q: Tensor
        self.register_buffer("known", torch.ones(num_items, dtype=torch.bool))
        self.register_buffer("fields", torch.zeros((num_items, num_fields), dtype=torch.int64))
        self.register_buffer("log_q", torch.full((num_items,), -float(np.log(max(num_items, 1)))))

    def fill(self, path: Path) -> None:
        """From `known` (items,), `fields` (items, fields) and `counts` (items,) of the training rows, as npz."""
        with np.load(path, allow_pickle=False) as arrays:
            counts = arrays["counts"].astype(np.float64)
            # An item that was never chosen can still be drawn.
            q = np.where(arrays["known"], counts + 1.0, 0.0)
            self.known.copy_(torch.from_numpy(arrays["known"]))
            self.fields.copy_(torch.from_numpy(arrays["fields"]))
            self.log_q.copy_(torch.from_numpy(np.log(np.maximum(q / q.sum(), 1e-12))))

    def draw(self, number: int) -> Tensor:
        """(number,) item ids, by how often they were chosen."""
        return torch.multinomial(self.log_q.exp() * self.known, number, replacement=True)

"""All items as retrieval models see them, as buffers that are saved with the weights."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from conf.model_files import verify_model_file


class ItemCatalog(nn.Module):
    """Which ids are items, their fields, and the log of how often each is sampled.

    Buffers, so that they move to the model's device and a saved model needs no data set. Before `load`, every id is an
    item and all are equally frequent.
    """

    def __init__(self, num_items: int, num_fields: int) -> None:
        super().__init__()
        self.is_item: Tensor  # (items,)
        self.fields: Tensor  # (items, item fields)
        self.log_q: Tensor  # (items,) the log of the sampling probability
        self.register_buffer("is_item", torch.ones(num_items, dtype=torch.bool))
        self.register_buffer("fields", torch.zeros((num_items, num_fields), dtype=torch.int64))
        self.register_buffer("log_q", torch.full((num_items,), -float(np.log(max(num_items, 1)))))

    def load(self, path: Path) -> None:
        """Fill the buffers from the npz file that `write_item_catalog` wrote. Raises UserError when it is corrupt."""
        verify_model_file(path)
        with np.load(path, allow_pickle=False) as arrays:
            is_item, fields, counts = (arrays[name] for name in ("is_item", "fields", "counts"))
        # Add-one smoothing: an item that was never chosen can still be sampled as a negative.
        q = np.where(is_item, counts.astype(np.float64) + 1.0, 0.0)  # (items,)
        self.is_item.copy_(torch.from_numpy(is_item))
        self.fields.copy_(torch.from_numpy(fields))
        self.log_q.copy_(torch.from_numpy(np.log(np.maximum(q / q.sum(), 1e-12))))

    def sample(self, num_samples: int) -> Tensor:
        """(num_samples,) ids of items, drawn with replacement by how often each was chosen."""
        q = self.log_q.exp() * self.is_item  # (items,) 0 for ids that are no item
        return torch.multinomial(q, num_samples, replacement=True)

"""GRU4Rec (Hidasi et al. 2016): a recurrent network reads what a user chose; its last state scores the next item."""

from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.item_catalog import ItemCatalog


class GRU4Rec(nn.Module):
    """score(i) = <h_L, e_i>, h being the states of `net.blocks` layers of GRU over the history (D: attention_dim)."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.catalog = ItemCatalog(inputs.num_items, len(inputs.item_columns))
        self.num_sampled = settings.sampled
        self.item = nn.Embedding(inputs.num_items, settings.attention_dim, padding_idx=0)
        nn.init.normal_(self.item.weight, std=0.05)
        self.dropout = nn.Dropout(settings.dropout)
        self.gru = nn.GRU(settings.attention_dim, settings.attention_dim, settings.blocks, batch_first=True)

    def forward(self, sparse: Tensor, dense: Tensor, history: Tensor) -> Tensor:
        """(B, L) past items, the newest last; fields and numbers are not read -> (B, D) vectors of users."""
        return self.states(sparse, dense, history)[:, -1]

    def states(self, sparse: Tensor, dense: Tensor, history: Tensor) -> Tensor:
        """The same after each item of the history: (B, L, D)."""
        states: Tensor = self.gru(self.dropout(self.item(history)))[0]
        return states

    def items(self, ids: Tensor) -> Tensor:
        """(B,) ids -> (B, D) vectors of items, those that the GRU reads."""
        vectors: Tensor = self.item(ids)
        return vectors

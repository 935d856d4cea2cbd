"""Text classifiers: word embeddings, a GRU (Cho et al. 2014) or LSTM (Hochreiter and Schmidhuber 1997), a head."""

from typing import ClassVar

from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings


class TextRNN(nn.Module):
    """logits = W h_L + b, h_L being the state of the recurrent layers after the last word."""

    recurrent: ClassVar[type[nn.GRU] | type[nn.LSTM]]

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.words = nn.Embedding(inputs.list_buckets, settings.dim, padding_idx=0)
        self.reader = self.recurrent(settings.dim, settings.attention_dim, settings.blocks, batch_first=True)
        self.head = nn.Linear(settings.attention_dim, len(inputs.classes))

    def features(self, words: Tensor) -> Tensor:
        """(B, L) word ids, right-aligned -> (B, attention_dim), the state after the last word."""
        states: Tensor = self.reader(self.words(words))[0]  # (B, L, attention_dim)
        return states[:, -1]

    def forward(self, words: Tensor) -> Tensor:
        """(B, L) word ids -> (B, classes) logits."""
        logits: Tensor = self.head(self.features(words))
        return logits


class TextGRU(TextRNN):
    """`TextRNN` with GRU layers."""

    recurrent = nn.GRU


class TextLSTM(TextRNN):
    """`TextRNN` with LSTM layers."""

    recurrent = nn.LSTM

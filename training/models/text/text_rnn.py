"""Text classifiers: words as vectors, a GRU or LSTM (Hochreiter and Schmidhuber 1997) over them, its last state."""

from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings


class TextRNN(nn.Module):
    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM], inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.words = nn.Embedding(inputs.list_buckets, settings.dim, padding_idx=0)
        self.reader = kind(settings.dim, settings.attention_dim, settings.blocks, batch_first=True)
        self.head = nn.Linear(settings.attention_dim, len(inputs.classes))

    def features(self, words: Tensor) -> Tensor:
        """(B, width): the state after the last word; words stand at the end of the list."""
        states: Tensor = self.reader(self.words(words))[0]
        return states[:, -1]

    def forward(self, words: Tensor) -> Tensor:
        scores: Tensor = self.head(self.features(words))
        return scores


def build_gru(config: Config, inputs: Inputs) -> nn.Module:
    return TextRNN(nn.GRU, inputs, config.get(NetSettings))


def build_lstm(config: Config, inputs: Inputs) -> nn.Module:
    return TextRNN(nn.LSTM, inputs, config.get(NetSettings))

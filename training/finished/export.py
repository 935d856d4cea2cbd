"""Export to ONNX, and run what was exported: `millrace model export RUN`.

The rows of a batch are free; lists are padded to the length that the model was trained with.
"""

import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from conf import UserError
from conf.atomic import write_atomically
from training.finished.trained import Trained

log = logging.getLogger(__name__)

FILE = "model.onnx"
TOLERANCE = 1e-4
INPUT = "input_"


def export(trained: Trained, path: Path | None = None) -> Path:
    """Write the model as ONNX (beside its weights, when no path is given) and check it against torch on a batch."""
    path = path or trained.folder / FILE
    batch = trained.batch()
    rows = int((batch.weight > 0).sum())
    batch = batch[: min(rows, 64)]
    tensors = trained.task.model_inputs(batch, trained.data.inputs)
    write_atomically(path, onnx_bytes(trained.net, tensors))
    with torch.no_grad():
        expected = trained.net(*tensors).numpy()
    worst = float(np.abs(run_onnx(path, tensors) - expected).max() / max(1.0, float(np.abs(expected).max())))
    if not worst <= TOLERANCE:
        raise UserError(f"{path} answers otherwise than the model: they differ by {worst:.2g}")
    return path


def onnx_bytes(net: torch.nn.Module, tensors: tuple[torch.Tensor, ...]) -> bytes:
    """The net as an ONNX file, for any number of rows."""
    names = [f"{INPUT}{i}" for i in range(len(tensors))]
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(),
            tensors,
            buffer,  # type: ignore[arg-type]
            input_names=names,
            output_names=["output"],
            dynamic_axes={name: {0: "rows"} for name in [*names, "output"]},
            dynamo=False,  # a tenth of the time, and the nets have no control flow
        )
    return buffer.getvalue()


def run_onnx(path: Path, tensors: tuple[torch.Tensor, ...]) -> NDArray[np.float32]:
    """What an ONNX file answers, on the CPU."""
    return _answers(onnx_session(path), tensors)


def _answers(session: Any, tensors: tuple[torch.Tensor, ...]) -> NDArray[np.float32]:
    """By the inputs that the graph kept: one that nothing depends on was left out."""
    names = [item.name for item in session.get_inputs()]
    feeds = {name: tensors[int(name.removeprefix(INPUT))].numpy() for name in names}
    outputs: NDArray[np.float32] = session.run(None, feeds)[0]
    return outputs


def onnx_session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class OnnxNet(torch.nn.Module):
    """An ONNX file where a net is expected, to be measured like one."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._session = onnx_session(path)

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(_answers(self._session, tensors))

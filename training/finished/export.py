"""Export to ONNX, and run exported models: `millrace model export RUN`.

The number of rows is dynamic; lists are padded to the length that the model was trained with.
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
from conf.model_files import verify_model_file, write_model_file
from training.finished.trained import TrainedModel

log = logging.getLogger(__name__)

FILE = "model.onnx"
TOLERANCE = 1e-4  # of the largest output: ONNX Runtime adds up in another order than torch
INPUT = "input_"  # input_0, input_1 …: the arguments of the net's `forward`


def export(trained: TrainedModel) -> Path:
    """Write a model as ONNX beside its weights, and check it against torch on up to 64 validation rows.

    Returns the file. Raises UserError when its outputs differ from the model's.
    """
    path = trained.folder / FILE
    batch = trained.batch()
    rows = int((batch.weight > 0).sum())
    batch = batch[: min(rows, 64)]
    model_inputs = trained.task.model_inputs(batch, trained.data.inputs)
    write_model_file(path, onnx_bytes(trained.net, model_inputs))
    outputs = OnnxNet(path)(*model_inputs).numpy()
    with torch.no_grad():
        expected = trained.net(*model_inputs).numpy()
    error = float(np.abs(outputs - expected).max() / max(1.0, float(np.abs(expected).max())))
    if not error <= TOLERANCE:  # not `>`: NaN must fail, too
        raise UserError(f"outputs of {path} differ from the model's by {error:.2g}")
    return path


def onnx_bytes(net: torch.nn.Module, model_inputs: tuple[torch.Tensor, ...]) -> bytes:
    """A net as an ONNX file, for any number of rows.

    Args:
        net: its `forward` is traced, so it may branch by shapes, but not by values.
        model_inputs: arguments of `forward` for some rows, to trace it with.
    """
    names = [f"{INPUT}{i}" for i in range(len(model_inputs))]
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, about each Python number that becomes a constant
        torch.onnx.export(
            net.eval(),
            model_inputs,
            buffer,  # type: ignore[arg-type]
            input_names=names,
            output_names=["output"],
            dynamic_axes={name: {0: "rows"} for name in [*names, "output"]},
            dynamo=False,  # a tenth of the time, and the nets have no control flow
        )
    return buffer.getvalue()


def onnx_session(path: Path) -> Any:
    """ONNX Runtime's session of a file, on the CPU. Raises UserError when the file is missing or corrupt."""
    import onnxruntime

    verify_model_file(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; it warns of each initialiser that it folds away
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class OnnxNet(torch.nn.Module):
    """An ONNX file as a module, to be measured like any net; it has no weights of torch's."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._session = onnx_session(path)

    def forward(self, *model_inputs: torch.Tensor) -> torch.Tensor:
        # The exporter drops inputs that no output depends on, so they are matched by name.
        names = [graph_input.name for graph_input in self._session.get_inputs()]
        feeds = {name: model_inputs[int(name.removeprefix(INPUT))].numpy() for name in names}
        outputs: NDArray[np.float32] = self._session.run(None, feeds)[0]
        return torch.from_numpy(outputs)

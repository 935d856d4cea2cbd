"""Model compression, measured before and after: pruning, low-rank factors, float16 and int8 (T15).

Distillation is training: `millrace train small --teacher RUN`.
"""

import copy
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from conf import Config, UserError
from conf.console.cli import one_of
from conf.model_files import write_model_file
from conf.runs import start_run
from training.finished.export import FILE, OnnxNet, onnx_bytes
from training.finished.trained import TrainedModel, latency_ms, load_trained_model, stored_mb
from training.saved import save_model
from training.tasks.task import table_metrics

METHODS = ("prune", "factorise", "float16", "int8")


def run(config: Config, run_id: str, how: str, amount: float) -> dict[str, Any]:
    """Compress the model of a run into a run of its own.

    Args:
        run_id: the run to compress, which stays as it is.
        how: `prune`, `factorise`, `float16` or `int8`.
        amount: the share of weights to prune, or the share of the full rank to keep.

    Returns:
        Metrics, size in megabytes and latency in milliseconds, each before and after.

    Raises:
        UserError: no such run, or `int8` for a model of items.
    """
    before = load_trained_model(config, run_id)
    one_of("way", how, METHODS)
    with start_run(config, f"{before.model.replace(':', '.')}-{how}", before.day) as run:
        after, size = _compressed(before, how, amount, run.model_folder)
        report: dict[str, Any] = {"run_id": run.run_id, "of": run_id, "how": how}
        for split in ("valid", "test"):
            metrics_before, metrics = before.measure(split), after.measure(split)
            for name in metrics_before.keys() - {"rows"}:
                report |= {f"{split}_{name}_before": metrics_before[name], f"{split}_{name}_after": metrics[name]}
            table = table_metrics(before.task, metrics)
            logged = {name: value for name, value in table.items() if name != "rows" and "@" not in name}
            run.log_metrics("train", split, logged, int(metrics["rows"]))
    report |= {"size_mb_before": stored_mb(before.net.state_dict()), "size_mb_after": size}
    return {**report, "latency_ms_before": latency_ms(before), "latency_ms_after": latency_ms(after)}


def _compressed(before: TrainedModel, how: str, amount: float, folder: Path) -> tuple[TrainedModel, float]:
    """The smaller model, saved in `folder`, and its size in megabytes."""
    if how == "int8":
        return _quantised(before, folder)
    if how == "factorise":
        return _factorised(before, amount, folder)
    net = copy.deepcopy(before.net)
    if how == "prune":
        prune(net, amount)
        weights = net.state_dict()
    else:
        # Weights are stored in 16 bits and computed with in 32: on CPUs, products of float16 are slower.
        weights = {name: v.half() if v.is_floating_point() else v for name, v in net.state_dict().items()}
        net.load_state_dict(weights)
    save_model(folder, before.model, weights, before.data.inputs, before.config)
    return replace(before, net=net), stored_mb(weights)


@torch.no_grad()
def prune(net: nn.Module, share: float) -> None:
    """Set the weights of smallest magnitude to 0, the same `share` of each matrix (Han et al. 2015); in place.

    Biases and norms stay. The net is not trained again afterwards.
    """
    matrices = [weight for weight in net.parameters() if weight.ndim > 1]
    for weight in matrices:
        smallest = int(share * weight.numel())
        if smallest:  # `kthvalue` counts from 1
            bound = weight.abs().flatten().kthvalue(smallest).values
            weight.mul_(weight.abs() > bound)


def factorise(net: nn.Module, share: float) -> nn.Module:
    """Replace each dense layer by two thin ones, by its singular values, where they have fewer weights; in place.

    Args:
        share: of the full rank, min(outputs, inputs), that is kept; about 0.25 halves a square layer.

    Returns:
        The net.
    """
    for name, layer in list(net.named_children()):
        if isinstance(layer, nn.Linear):
            setattr(net, name, _low_rank(layer, share))
        else:
            factorise(layer, share)
    return net


def _low_rank(layer: nn.Linear, share: float) -> nn.Module:
    outputs, inputs = layer.weight.shape
    rank = max(1, round(share * min(outputs, inputs)))
    if rank * (outputs + inputs) >= outputs * inputs:
        return layer  # two thin layers would be larger
    # W = U S V, of which the largest singular values are kept; their roots go to either side.
    u, s, v = torch.linalg.svd(layer.weight.detach(), full_matrices=False)
    first, second = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=layer.bias is not None)
    with torch.no_grad():
        first.weight.copy_(s[:rank, None].sqrt() * v[:rank])
        second.weight.copy_(u[:, :rank] * s[:rank].sqrt())
        if layer.bias is not None:
            second.bias.copy_(layer.bias)
    return nn.Sequential(first, second)


def _factorised(before: TrainedModel, share: float, folder: Path) -> tuple[TrainedModel, float]:
    """The factorised model and its size; saved as ONNX, for its layers are no longer those of the model's builder."""
    net = factorise(copy.deepcopy(before.net), share)
    write_model_file(folder / FILE, _as_onnx(net, before))
    return replace(before, net=net), stored_mb(net.state_dict())


def _quantised(before: TrainedModel, folder: Path) -> tuple[TrainedModel, float]:
    """The model with 8-bit weights and integer products, by ONNX Runtime's dynamic quantisation, and its size.

    Raises UserError for a model of items: its `items` is called beside `forward`, and ONNX holds `forward` alone.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if before.task.needs_item_catalog:
        raise UserError("int8 is for models of clicks, covers and titles; use float16 for models of items")
    with tempfile.TemporaryDirectory() as scratch:
        full, ready, small = (Path(scratch) / f"{name}.onnx" for name in ("full", "ready", "small"))
        full.write_bytes(_as_onnx(before.net, before))
        # Folds constants and infers shapes: fewer nodes are left to quantise.
        quant_pre_process(str(full), str(ready), skip_symbolic_shape=True)
        quantize_dynamic(str(ready), str(small), weight_type=QuantType.QUInt8)
        write_model_file(folder / FILE, small.read_bytes())
    return replace(before, net=OnnxNet(folder / FILE)), (folder / FILE).stat().st_size / 2**20


def _as_onnx(net: nn.Module, trained: TrainedModel) -> bytes:
    """`net` as an ONNX file, traced with a few of the rows that `trained` reads."""
    model_inputs = trained.task.model_inputs(trained.batch()[:64], trained.data.inputs)
    return onnx_bytes(net, model_inputs)

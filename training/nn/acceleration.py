"""What makes the same net faster on its device: types and layout of products, choice of kernels, compilation."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from training.settings import Precision, TrainSettings

PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Around forward passes whose products are of type `precision`; weights and their gradients stay float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=PRECISIONS[precision])


def accelerate(net: nn.Module, settings: TrainSettings, device: torch.device) -> None:
    """Prepare `net`, in place, for training on `device`: TF32 and tuned convolutions on CUDA, `train.compile` anywhere.

    TF32 and the choice of convolutions are switches of the process. Names and values of the weights stay.
    """
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = settings.tf32
        torch.backends.cudnn.allow_tf32 = settings.tf32
        # Every batch has one shape, the last is padded: the trial of all algorithms is paid once.
        torch.backends.cudnn.benchmark = True
        # Of the weights alone: a convolution takes the layout of either, and what follows takes that of its input.
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # documented, but not among its types
    if settings.compile:
        net.compile()

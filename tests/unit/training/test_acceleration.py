"""What is faster on a device computes the same; parts that need CUDA itself are for `make gpu-proof`."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from training.inputs.batch import Batch, IdLists
from training.inputs.device_copy import copy_ahead
from training.inputs.schema import Inputs
from training.models.multitask.esmm import ESMM
from training.net_settings import NetSettings
from training.nn.acceleration import accelerate, autocast
from training.settings import TrainSettings


@pytest.fixture
def switches() -> Iterator[None]:
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    yield
    cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


@pytest.mark.usefixtures("switches")
@pytest.mark.parametrize("tf32", [True, False])
def test_cuda_gets_its_switches_and_convolutions_their_layout(tf32: bool) -> None:
    convolution = nn.Conv2d(3, 4, 3)
    net = nn.Sequential(convolution, nn.BatchNorm2d(4), nn.ReLU())
    image = torch.rand(2, 3, 8, 8)
    before = net(image)
    accelerate(net, TrainSettings(tf32=tf32), torch.device("cuda"))
    assert torch.backends.cuda.matmul.allow_tf32 is tf32
    assert torch.backends.cudnn.benchmark
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    after = net(image)
    assert after.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(after, before, atol=1e-5)


@pytest.mark.usefixtures("switches")
def test_the_cpu_is_left_as_it_is() -> None:
    net, benchmark = nn.Conv2d(3, 4, 3), torch.backends.cudnn.benchmark
    accelerate(net, TrainSettings(), torch.device("cpu"))
    assert net.weight.is_contiguous()
    assert torch.backends.cudnn.benchmark is benchmark


def batch_of(number: int) -> Batch:
    lists = (IdLists(torch.tensor([1, 2]), torch.tensor([0, 2])),)
    rows = torch.full((1, 2), number)
    return Batch(rows, rows.float(), torch.ones(1), torch.ones(1), lists, torch.zeros((1, 3, 2, 2), dtype=torch.uint8))


def test_batches_keep_their_order_and_place() -> None:
    chunks = [[batch_of(0), batch_of(1)], [batch_of(2)]]
    steps = list(copy_ahead(chunks, torch.device("meta")))
    assert [step.host for step in steps] == chunks
    assert [[t.device.type for batch in step.device for t in batch.tensors()] for step in steps] == [
        ["meta"] * 14,
        ["meta"] * 7,
    ]


def test_probabilities_near_one_keep_their_logit_in_bfloat16() -> None:
    """log(1 − p) of a rounded p = 1 would be infinite, and with it every gradient."""
    net = ESMM(Inputs(("a",), (4,), ("x",)), NetSettings(hidden=(4,), dropout=0.0))
    for tower, bias in ((net.click, 7.0), (net.after_click, 6.0)):
        nn.init.zeros_(tower[-1].get_parameter("weight"))
        nn.init.constant_(tower[-1].get_parameter("bias"), bias)
    with autocast("bfloat16", torch.device("cpu")):
        both = net(torch.tensor([[1]]), torch.tensor([[0.5]]))[:, 1]
        loss = nn.functional.binary_cross_entropy_with_logits(both, torch.zeros(1))
    p = torch.sigmoid(torch.tensor(7.0, dtype=torch.float64)) * torch.sigmoid(torch.tensor(6.0, dtype=torch.float64))
    assert both.item() == pytest.approx(float(torch.logit(p)), rel=1e-4)
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)

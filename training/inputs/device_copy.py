"""Batches on their device one step ahead: a GPU gets the next one while it computes with the one before."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from training.inputs.batch import Batch


@dataclass(frozen=True)
class Step:
    """The batches of a step, where they were read and where they are computed with."""

    host: list[Batch]
    device: list[Batch]


def copy_ahead(chunks: Iterable[list[Batch]], device: torch.device) -> Iterator[Step]:
    """Each of `chunks` with its copy on `device`; on CUDA copied from pinned memory, on a stream of its own.

    One step is on its way while the caller works on the one before; elsewhere nothing is read ahead.
    """
    if device.type != "cuda":
        for chunk in chunks:
            yield Step(chunk, [batch.to(device) for batch in chunk])
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types for it
    ahead: Step | None = None
    for chunk in chunks:
        # Copies of pinned memory alone run beside the computation.
        pinned = [batch.pin_memory() for batch in chunk]
        with torch.cuda.stream(stream):
            following = Step(chunk, [batch.to(device) for batch in pinned])
        if ahead is not None:
            yield ahead
        # Here the caller has queued all of the step before: this wait is for the copy alone.
        ahead = _wait_for(following, stream)
    if ahead is not None:
        yield ahead


def _wait_for(step: Step, stream: torch.cuda.Stream) -> Step:
    """`step`, with the caller's stream waiting for the copies on `stream`; the host does not wait."""
    current = torch.cuda.current_stream(stream.device)
    current.wait_stream(stream)
    for batch in step.device:
        for tensor in batch.tensors():
            tensor.record_stream(current)  # or its memory could be reused by `stream` before the step has ended
    return step

"""What a model answers when it is asked again about samples of an earlier run."""

import torch
from torch import Tensor, nn

from lightning_robust.evaluation._engine import halved
from lightning_robust.evaluation._pool import Part


def judged_again(module: nn.Module, part: Part, rows: list[int], most: int) -> tuple[Tensor, Tensor]:
    """Which samples are right, and the outputs.

    Args:
        module: The model.
        part: The samples in memory.
        rows: Those of them that are meant; all of them, where the batch cannot be cut.
        most: Samples in a forward; halved where memory runs out.
    """
    if part.whole:
        return part.sample.view(module).judged()

    def ask(size: int) -> tuple[Tensor, Tensor]:
        views = [part.sample.rows(some).view(module) for some in torch.tensor(rows).split(size)]
        right, outputs = zip(*(view.judged() for view in views), strict=True)
        return torch.cat(right), torch.cat(outputs)

    return halved(ask, min(len(rows), most))


def elsewhere(module: nn.Module, part: Part, rows: list[int], most: int) -> tuple[Tensor, Tensor]:
    """The same at other places of a batch and in other company, where the batch can be cut; arguments as for
    `judged_again`.
    """
    if part.whole:
        return judged_again(module, part, rows, most)
    order = torch.arange(len(rows)).flip(0)
    halves = [order[i::2] for i in range(2) if i < len(rows)]
    answers = [judged_again(module, part, [rows[i] for i in half], most) for half in halves]
    right, output = (
        torch.cat(both)[torch.cat(halves).argsort().to(both[0].device)] for both in zip(*answers, strict=True)
    )
    return right, output

"""Thresholds in front of a network, and thresholds that a network has learnt by itself."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_robust._checks import instance, interval, number

__all__ = ["Threshold", "ThresholdDetector", "ThresholdFilters", "binarize", "find_thresholds"]


def binarize(x: Tensor, threshold: float = 0.0) -> Tensor:
    """Round every entry to a sign: T(x)_i = +1 if x_i >= `threshold`, else -1.

    The map that removes the price of robustness in the Bernoulli model (Schmidt et al., NeurIPS 2018, Theorem 10): with
    threshold 0, no perturbation of less than 1 changes T of a vector of signs.

    It has no gradient, and `PGD` refuses a network that begins with it: attack without gradients (`RandomSearch`), by
    transfer, or with `Bpda(binarize)` in its place.

    Example:
        >>> binarize(torch.tensor([0.3, 0.0, -2.0]))
        tensor([ 1.,  1., -1.])
    """
    return torch.where(x >= threshold, 1.0, -1.0).to(x.dtype)


class ThresholdFilters(nn.Module):
    """Two fixed channels for each input channel, one that is on above eps and one that is on above 1 - eps.

        x -> ReLU(x - eps), ReLU(x - (1 - eps))

    In front of any network for images that are almost black and white, such as MNIST: a perturbation of up to eps in
    the maximum norm leaves black pixels at zero in both channels, and what is white stays on in the first. The filters
    only take capacity away, yet far fewer samples are then needed for robustness (Schmidt et al., NeurIPS 2018, section
    4). They use eps 0.1 for natural training and the radius of training for adversarial training. Adversarially trained
    networks learn the same filters by themselves, see `ThresholdDetector`.

    White-box PGD is too optimistic here: where x < eps both channels have gradient zero, although a perturbation may
    lead out of this zone. (On scikit-learn's digits, a network with filters of 0.1 kept 26 % under 20 steps of PGD at
    twice that radius, and 2.5 % under PGD through `Bpda` and under `RandomSearch` alike.) Evaluate also with attacks
    that need no gradient at the pixel itself: `finite_differences(attack, width)` with a width of more than eps,
    transfer from a network without filters, a score-based attack (`RandomSearch`), or `Bpda` with `filters.linear` as
    substitute; and report the worst.

    Args:
        eps: the distance of the two thresholds from 0 and 1, between 0 and 1/2.

    Raises:
        ValueError: if `eps` is not between 0 and 1/2.
        TypeError: if images are integers.

    Example:
        >>> ThresholdFilters(0.25)(torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3))
        tensor([[[[0.0000, 0.2500, 0.7500]],
                 [[0.0000, 0.0000, 0.2500]]]])
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = number("eps", eps, 0, 0.5, above=True, below=True)

    def extra_repr(self) -> str:
        """Show the argument."""
        return f"eps={self.eps}"

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, ...) in [0, 1] to (N, 2 C, ...): first all channels above eps, then all above 1 - eps."""
        return torch.relu(self.linear(x))

    def linear(self, x: Tensor) -> Tensor:
        """The filters without their ReLU, a substitute for `Bpda`."""
        if not x.is_floating_point():
            raise TypeError(f"Expected argument `x` to be floating, in [0, 1], but got {x.dtype}: divide by 255 first.")
        return torch.cat([x - self.eps, x - (1 - self.eps)], dim=1)


@dataclass(frozen=True)
class Threshold:
    """A filter of a first layer that looks at one pixel: ReLU(weight * x + bias).

    Attributes:
        filter: its output channel.
        channel: the input channel of the tap.
        row: the row of the tap in the kernel.
        column: its column.
        weight: a.
        bias: b.
        share: the share of the tap in the filter's sum of |weights|, at most 1.
    """

    filter: int
    channel: int
    row: int
    column: int
    weight: float
    bias: float
    share: float

    @property
    def threshold(self) -> float:
        """Where the filter turns on or off: -b / a."""
        return -self.bias / self.weight

    @property
    def above(self) -> bool:
        """Is the filter on above its threshold (positive weight), or below it?"""
        return self.weight > 0


def find_thresholds(
    weight: Tensor,
    bias: Tensor | None,
    dominance: float = 0.95,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> list[Threshold]:
    r"""The filters of a convolution that are thresholds of single pixels.

    A filter counts if one tap a holds at least the share `dominance` of :math:`\sum |w|`, and :math:`-b/a` lies
    strictly inside the range of pixels, so that the filter is neither always on nor always off.

    In a public network for MNIST, trained on PGD examples with eps 0.3, nine of sixteen filters are such, eight with
    threshold 0.300 to 0.302 and one with 0.696: eps and 1 - eps.

    Args:
        weight: (O, C, h, w), the kernel.
        bias: (O,), or None for zero.
        dominance: the least share of the tap, in (1/2, 1].
        value_range: the least and greatest value of an input.

    Returns:
        The thresholds, in the order of the filters.

    Raises:
        ValueError: if an argument has another shape or value than said here.

    Example:
        >>> weight = torch.zeros(2, 1, 3, 3)
        >>> weight[0, 0, 1, 1], weight[1] = 2.0, 1.0
        >>> [round(t.threshold, 3) for t in find_thresholds(weight, torch.tensor([-0.6, -0.6]))]
        [0.3]
    """
    if instance("weight", weight, Tensor, "a kernel (O, C, h, w)").ndim != 4:
        raise ValueError(f"Expected argument `weight` to be a kernel (O, C, h, w), but got {tuple(weight.shape)}.")
    if bias is not None and instance("bias", bias, Tensor, "a tensor (O,) or None").shape != weight.shape[:1]:
        raise ValueError(
            f"Expected argument `bias` to be of shape ({weight.shape[0]},) or None, but got {tuple(bias.shape)}."
        )
    dominance = number("dominance", dominance, 0.5, 1, above=True)
    low, high = interval("value_range", value_range, finite=False)
    kernels = weight.detach().double().cpu()
    offsets = torch.zeros(len(kernels), dtype=torch.float64) if bias is None else bias.detach().double().cpu()
    thresholds = []
    for index, (kernel, b) in enumerate(zip(kernels, offsets.tolist(), strict=True)):
        size = kernel.abs()
        total, place = float(size.sum()), int(size.argmax())
        if total == 0 or float(size.flatten()[place]) < dominance * total:
            continue
        channel, row, column = (int(i) for i in torch.unravel_index(torch.tensor(place), kernel.shape))
        a = float(kernel[channel, row, column])
        entry = Threshold(index, channel, row, column, a, b, abs(a) / total)
        if low < entry.threshold < high:
            thresholds.append(entry)
    return thresholds


@dataclass(frozen=True)
class ThresholdDetector:
    """Says which thresholds the first convolution of a network has learnt.

    The first `nn.Conv2d` in the order in which modules are registered is looked at, and thresholds are in units of its
    input. Where a network normalises its images first, give the range of normalised images.

    Args:
        dominance: as for `find_thresholds`.
        value_range: as for `find_thresholds`.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
        >>> with torch.no_grad():
        ...     network[0].weight[:], network[0].bias[:] = 2.0, torch.tensor([-0.5, 0.5])
        >>> [(t.filter, t.threshold) for t in ThresholdDetector()(network)]
        [(0, 0.25)]

    References:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018, appendix C; Schmidt et
        al., NeurIPS 2018, section 4.
    """

    dominance: float = 0.95
    value_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dominance", number("dominance", self.dominance, 0.5, 1, above=True))
        object.__setattr__(self, "value_range", interval("value_range", self.value_range, finite=False))

    def __call__(self, model: nn.Module) -> list[Threshold]:
        """The thresholds of the first convolution.

        Raises:
            ValueError: if the network has no convolution.
        """
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                return find_thresholds(module.weight, module.bias, self.dominance, self.value_range)
        raise ValueError(f"Expected a network with a Conv2d, but got {type(model).__name__} without one.")

"""Is an adversarial example still of its class? By which class's decoder explains it best."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_robust import _nested
from lightning_robust._checks import count, number
from lightning_robust._modes import evaluating
from lightning_robust.manifolds._inputs import check_images, check_labels, check_manifold
from lightning_robust.manifolds.projection import project
from lightning_robust.manifolds.protocol import Manifold
from lightning_robust.manifolds.residual import Residual


class Explanation(NamedTuple):
    """Which class explains an image best.

    Fields:
        best: int64 of shape (N,), the class of the highest likelihood, the lowest one of several.
        likelihood: (N, K), the logarithm of the likelihood of each class, up to a constant.
    """

    best: Tensor
    likelihood: Tensor


def explain(
    judge: Manifold,
    x: Tensor,
    y: Tensor | None = None,
    *,
    num_classes: int,
    candidates: int | None = 3,
    beta: float = 3.0,
    steps: int = 20,
    lr: float = 0.1,
    batch_size: int = 100,
) -> Explanation:
    r"""How well the decoder of each class explains images.

    The log-likelihood of class k, with Laplace noise around the decoder's image and standard normal codes, at the best
    code z that was reached:

    .. math::

        \log p(x \mid k) \approx \max_z \; -\beta \| x - \mathrm{decode}(z, k) \|_1 - \tfrac12 \|z\|_2^2

    up to a constant, which is the same for all classes. Two codes are tried: that of the encoder, and the one that
    `project` reaches from there, both within the bounds of codes. So the value is a lower bound of the maximum, and
    more `candidates` never lower it. `project` minimizes the Euclidean distance.

    Args:
        judge: a manifold with an encoder and a decoder for each class.
        x: images (N, C, H, W).
        y: int64 of shape (N,), a class of each image that is a candidate in any case; None: there is none.
        num_classes: K.
        candidates: number of classes from whose codes `project` searches, those that are likeliest at the encoder's
            code; None: all K. Others have the likelihood at the encoder's code.
        beta: weight of the residual, that of the judge's training. The paper: 3.
        steps: number of steps of each search; 0: the encoder's code alone.
        lr: step size of Adam.
        batch_size: number of images at once, each with its candidates.

    Raises:
        TypeError: if `judge` is a `Residual`.
        ValueError: if one decoder makes the images of all classes.

    Example:
        >>> class Points:  # class k has one image, the number k
        ...     def encode(self, x, y):
        ...         return torch.zeros(len(x), 1)
        ...     def decode(self, z, y):
        ...         return y.view(-1, 1, 1, 1) + 0 * z[:, :, None, None]
        >>> x = torch.tensor([0.1, 1.8, 0.9]).view(3, 1, 1, 1)
        >>> explain(Points(), x, num_classes=3).best
        tensor([0, 2, 1])

    References:
        Stutz, Hein, Schiele, CVPR 2019 (arXiv 1812.00740), section 3.2 and figure 1: an adversarial example must keep
        the label that is most likely under the true distribution. They do not measure it.
    """
    check_manifold("judge", judge)
    check_images("x", x)
    num_classes = count("num_classes", num_classes)
    candidates = num_classes if candidates is None else min(count("candidates", candidates), num_classes)
    beta, lr = number("beta", beta, 0, above=True), number("lr", lr, 0, above=True)
    steps, batch_size = count("steps", steps, 0), count("batch_size", batch_size)
    if num_classes > 1 and getattr(judge, "num_classes", None) == 1:
        raise ValueError(
            "Expected argument `judge` to have a decoder for each class, but one decoder makes the images of all."
        )
    if isinstance(judge, Residual):
        raise TypeError(
            "Expected argument `judge` to be no Residual, which explains every image by every class. Give its manifold."
        )
    if y is not None:
        check_labels("y", y, len(x), num_classes)
    bounds = getattr(judge, "bounds", None)

    def likelihoods(images: Tensor, must: Tensor | None) -> Tensor:
        rows = torch.arange(len(images) * num_classes, device=x.device)
        copies, classes = images.repeat_interleave(num_classes, 0), rows % num_classes
        code = judge.encode(copies, classes)

        def search(rows: Tensor, steps: int) -> Tensor:
            start = _nested.cut(code, len(copies), rows)
            point = project(judge, copies[rows], classes[rows], start, steps=steps, lr=lr, bounds=bounds)
            residual = (copies[rows].to(point.x) - point.x).abs().flatten(1).sum(1)
            return -(beta * residual + point.z.square().sum(1) / 2)

        found = search(rows, 0)
        if steps:
            first = found.view(-1, num_classes).clone()
            if must is not None:
                first.scatter_(1, must[:, None], torch.inf)
            tried = (first.topk(candidates).indices + rows[::num_classes, None]).flatten()
            found[tried] = torch.maximum(found[tried], search(tried, steps))
        return found.view(-1, num_classes)

    images = x.split(batch_size)
    must = [None] * len(images) if y is None else y.split(batch_size)
    with torch.no_grad(), evaluating(*([judge] if isinstance(judge, nn.Module) else [])):
        likelihood = torch.cat([likelihoods(*part) for part in zip(images, must, strict=True)])
    return Explanation(likelihood.argmax(1), likelihood)


def still_valid(
    judge: Manifold,
    x_adv: Tensor,
    y: Tensor,
    *,
    num_classes: int,
    candidates: int | None = 3,
    beta: float = 3.0,
    steps: int = 20,
    lr: float = 0.1,
    batch_size: int = 100,
) -> Tensor:
    """Does the decoder of the true class explain adversarial examples best?

    An on-manifold example is made by the decoder of its class, but the code may have moved so far that the image shows
    another class. Then a classifier that says so is right, and the example is none: case (c) of the paper's first
    figure.

    The judge must be learned apart from the manifold that made the examples, from other images or another seed: that
    one explains its own images exactly. `Residual` cannot judge, since it explains every image. A judge errs as well:
    compare with the share that is valid of the images from which the attack started.

    Args:
        judge: a manifold with an encoder and a decoder for each class.
        x_adv: adversarial examples (N, C, H, W).
        y: int64 of shape (N,), their true classes.
        num_classes: K.
        candidates: number of classes that are searched, the true one among them; see `explain`. None: all.
        beta: weight of the residual; see `explain`.
        steps: number of steps of each search.
        lr: step size of Adam.
        batch_size: number of images at once.

    Returns:
        bool (N,): no class has a higher likelihood than the true one. `explain(judge, x_adv, y, ...).best` says which
        class has the highest.

    Raises:
        TypeError, ValueError: as `explain`.

    Example:
        >>> class Points:  # class k has one image, the number k
        ...     def encode(self, x, y):
        ...         return torch.zeros(len(x), 1)
        ...     def decode(self, z, y):
        ...         return y.view(-1, 1, 1, 1) + 0 * z[:, :, None, None]
        >>> x_adv = torch.tensor([0.1, 1.8, 0.9]).view(3, 1, 1, 1)
        >>> still_valid(Points(), x_adv, torch.tensor([0, 1, 1]), num_classes=3)
        tensor([ True, False,  True])
    """
    check_images("x_adv", x_adv)
    check_labels("y", y, len(x_adv), count("num_classes", num_classes))
    likelihood = explain(
        judge,
        x_adv,
        y,
        num_classes=num_classes,
        candidates=candidates,
        beta=beta,
        steps=steps,
        lr=lr,
        batch_size=batch_size,
    ).likelihood
    return likelihood.gather(1, y[:, None])[:, 0] >= likelihood.amax(1)

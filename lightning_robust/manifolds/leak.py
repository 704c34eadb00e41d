"""Does a learned manifold hand the label on to the classifier? What a classifier reads of images that decoders make."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_robust import _checks, _nested
from lightning_robust._checks import count, function, instance
from lightning_robust._codes import parts
from lightning_robust._modes import evaluating
from lightning_robust._noise import Noise
from lightning_robust.manifolds._inputs import check_images, check_labels, check_manifold
from lightning_robust.manifolds._leaks import Fingerprint, Leak
from lightning_robust.manifolds._share import Share
from lightning_robust.manifolds.codes import truncated_normal
from lightning_robust.manifolds.protocol import Code, Manifold

_CHOICE = 0x1EAC  # the stream of the random numbers that choose wrong classes


def leak(
    classify: Callable[[Tensor], Tensor],
    manifold: Manifold,
    x: Tensor,
    y: Tensor,
    *,
    num_classes: int,
    code: Code | None = None,
    seed: int = 0,
    batch_size: int = 250,
) -> Leak:
    r"""Measure whether a manifold puts the label that it is handed into its images.

    On-manifold attacks and training hand the true label c to the manifold: :math:`\mathrm{decode}(z + \delta, c)`. A
    classifier may then read whose decoder made the image, not what the image shows: it is right along all codes, and
    gains nothing on real images.

    A reconstruction holds no more about the label than its original, unless the label comes from outside. So where
    reconstructions are read better than the originals they come from, either the label entered, or the manifold
    removes what troubled the classifier. What a wrong label does tells the two apart. The manifold leaks if

    - the error on reconstructions is below that on originals, by more than 5 points or by more than a half of it, and
    - the error on reconstructions with a wrong label is above that on originals,

    both with 95 % intervals of Wilson that do not meet. That an image is read as the class k of its decoder is no leak
    by itself: decoder k may truly have made an image of k, as the true manifold of letters does. `fingerprint` tells
    whether it has.

    Each image gets one wrong class k, by its rank among the hashes of the images of its class: every k occurs equally
    often, and neither the order of images nor the size of batches matters. Codes of images are taken as they are, also
    beyond the bounds, as `LatentSpace` does; random codes are clipped to the bounds.

    Args:
        classify: images (N, C, H, W) to logits (N, K). Modules are in evaluation mode meanwhile.
        manifold: with `encode` and `decode`.
        x: images (N, C, H, W) that neither the classifier nor the manifold was trained on.
        y: int64 of shape (N,), their classes.
        num_classes: K, at least 2.
        code: the codes of the images, where the manifold cannot find them; then the wrong label reaches the decoder
            only. None: `manifold.encode(x, y)`.
        seed: of the choice of wrong classes and of random codes.
        batch_size: number of images at once.

    Raises:
        ValueError: if there are no images, labels are not from 0 to K - 1, or logits are not (N, K).

    Example:
        >>> class Stamp:  # the decoder of class k sets pixel k to 1
        ...     def encode(self, x, y):
        ...         return x.flatten(1)
        ...     def decode(self, z, y):
        ...         return z.scatter(1, y[:, None], 1.0)[:, None, None]
        >>> x, y = torch.zeros(300, 1, 1, 3), torch.arange(300) % 3
        >>> found = leak(lambda x: x.flatten(1), Stamp(), x, y, num_classes=3)
        >>> found.leaks, found.error_on_originals.value, found.error_on_reconstructions.value, found.reads_decoder.value
        (True, 0.6666666666666666, 0.0, 1.0)
    """
    function("classify", classify, "(images) -> logits (N, K)")
    check_manifold("manifold", manifold)
    num_classes, seed = count("num_classes", num_classes, 2), _checks.seed("seed", seed)
    batch_size = count("batch_size", batch_size)
    check_images("x", x)
    check_labels("y", y, len(x), num_classes)
    if code is not None:
        first = instance("code", parts(code)[0], Tensor, "a tensor (N, Z), or a tuple that begins so")
        if len(first) != len(x):
            raise ValueError(f"Expected argument `code` to hold {len(x)} codes, but got {len(first)}.")
    modules = [part for part in (classify, manifold) if isinstance(part, nn.Module)]
    wrong = another_class(x, y, num_classes, seed)

    def read(images: Tensor) -> Tensor:
        logits = classify(images)
        if not isinstance(logits, Tensor) or logits.shape != (len(images), num_classes):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"Expected argument `classify` to return logits of shape ({len(images)}, {num_classes}), but got {got}."
            )
        return logits.argmax(1)

    def reading(rows: Tensor) -> "_Reading":
        images, own, another = x[rows], y[rows], wrong[rows]
        given = None if code is None else _nested.cut(code, len(x), rows)
        z, *fixed = parts(manifold.encode(images, own) if given is None else given)
        z_wrong, *fixed_wrong = parts(manifold.encode(images, another) if given is None else given)
        made, swapped = manifold.decode(z, own, *fixed), manifold.decode(z, another, *fixed)
        mislabeled = manifold.decode(z_wrong, another, *fixed_wrong)
        labels = [read(each.to(images.dtype)) for each in (images, made, mislabeled, swapped)]
        return _Reading(torch.stack(labels), torch.equal(made, swapped), None if fixed else z.new_empty(0, z.shape[1]))

    def random(like: Tensor) -> Share:
        z = truncated_normal(len(x), like.shape[1], seed=seed).to(like)
        bounds = getattr(manifold, "bounds", None)
        z = z if bounds is None else torch.clamp(z, *(torch.as_tensor(bound).to(z) for bound in bounds))
        k = torch.arange(len(x), device=x.device) % num_classes
        chunks = zip(z.split(batch_size), k.split(batch_size), strict=True)
        return Share.of(torch.cat([read(manifold.decode(*each).to(x.dtype)) == each[1] for each in chunks]))

    with torch.no_grad(), evaluating(*modules):
        readings = [reading(rows) for rows in torch.arange(len(x), device=x.device).split(batch_size)]
        original, made, mislabeled, swapped = torch.cat([each.labels for each in readings], dim=1)
        errors = (Share.of(original != y), Share.of(made != y), Share.of(mislabeled != y))
        if getattr(manifold, "num_classes", None) == 1 or all(each.same for each in readings):
            return Leak(*errors)
        like = readings[0].code
        pairs = torch.bincount(wrong * num_classes + swapped, minlength=num_classes**2)
        return Leak(
            *errors,
            reads_own=Share.of(swapped == y),
            reads_decoder=Share.of(swapped == wrong),
            reads_random=None if like is None else random(like),
            table=tuple(map(tuple, pairs.view(num_classes, num_classes).tolist())),
        )


def fingerprint(
    classify: Callable[[Tensor], Tensor],
    manifold: Manifold,
    other: Manifold,
    x: Tensor,
    y: Tensor,
    *,
    num_classes: int,
    seed: int = 0,
    batch_size: int = 250,
) -> Fingerprint:
    """Tell a manifold whose decoders truly show their classes from one whose decoders are known by their network.

    The shares of `leak` for two manifolds that were learned from the same data with different seeds, on the same images
    with the same wrong classes. What is read as the decoder's class with `other` too is in the picture: a prototype of
    the class. What vanishes with it is a fingerprint of the network.

    Args:
        classify: images (N, C, H, W) to logits (N, K), trained along `manifold` and not along `other`.
        manifold: with a decoder for each class.
        other: the same, from another seed.
        x: images (N, C, H, W) that nothing was trained on.
        y: int64 of shape (N,), their classes.
        num_classes: K, at least 2.
        seed: of the choice of wrong classes and of random codes.
        batch_size: number of images at once.

    Raises:
        ValueError: as `leak`, and if one decoder makes the images of all classes.
    """
    check_manifold("manifold", manifold)
    check_manifold("other", other)
    options: dict[str, Any] = {"num_classes": num_classes, "seed": seed, "batch_size": batch_size}
    return Fingerprint(*(leak(classify, each, x, y, **options) for each in (manifold, other)))


class _Reading(NamedTuple):
    """What is read of a batch of n images.

    Fields:
        labels: (4, n), of the originals, of their reconstructions, of those with a wrong label, and of their codes in a
            wrong class's decoder.
        same: whether that decoder made what the right one makes.
        code: (0, Z), of the type and on the device of codes; None where they have fixed parts.
    """

    labels: Tensor
    same: bool
    code: Tensor | None


def another_class(x: Tensor, y: Tensor, num_classes: int, seed: int) -> Tensor:
    """A wrong class for each image, int64 (N,): each of the K - 1 equally often among the images of a class.

    The choice follows the rank of an image among the hashes of its class, so the order of images does not matter.

    Example:
        >>> x, y = torch.rand(6, 1, 2, 2), torch.zeros(6, dtype=torch.int64)
        >>> another_class(x, y, num_classes=3, seed=0).bincount()
        tensor([0, 3, 3])
    """
    order = Noise.of(x, seed, _CHOICE).words.argsort(stable=True)
    shift = torch.zeros_like(y)
    for c in range(num_classes):
        rows = order[y[order] == c]
        shift[rows] = 1 + torch.arange(len(rows), device=y.device) % (num_classes - 1)
    return (y + shift) % num_classes

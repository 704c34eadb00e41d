"""Join VAE-GANs that were trained one by one."""

import copy
from collections.abc import Sequence

import torch

from lightning_robust._checks import instance, sequence
from lightning_robust.manifolds._per_class import PerClass
from lightning_robust.manifolds.vaegan import VAEGAN


def bank(members: Sequence[VAEGAN]) -> VAEGAN:
    r"""One VAE-GAN of which the label chooses the member: class k goes through member k.

    To train all classes in one run, use `VAEGAN(num_classes=K)` from the start: it is the same.

    Args:
        members: models of one architecture in the order of their classes. One with several classes of its own stands
            for as many.

    Returns:
        A model with all their classes. Its bounds hold all their codes.

    Raises:
        ValueError: if there are no members, their networks differ, or one is conditional.

    Example:
        >>> members = [VAEGAN((1, 28, 28), latent=4, width=1 / 16, bound=2.0) for _ in range(3)]
        >>> both = bank(members)
        >>> z, y = torch.randn(2, 4), torch.tensor([2, 0])
        >>> torch.allclose(both.decode(z, y)[:1], members[2].decode(z[:1], y[:1]), atol=1e-6)
        True
    """
    members = sequence("members", members, "a sequence of VAEGANs")
    for i, member in enumerate(members):
        instance(f"members[{i}]", member, VAEGAN, "a VAEGAN")
        if member.hparams["conditional"]:
            raise ValueError(
                f"Expected argument `members[{i}]` to have networks of its own for each class, but got a conditional "
                "model, which has one for all."
            )
    if not members:
        raise ValueError("Expected argument `members` to have at least one model, but got none.")
    options = dict(members[0].hparams)
    for i, member in enumerate(members):
        for name in ("image_shape", "latent", "width"):
            if member.hparams[name] != options[name]:
                raise ValueError(
                    f"Expected argument `members` to agree in `{name}`, but got {options[name]} and, for member {i}, "
                    f"{member.hparams[name]}."
                )
        if (member.discriminator is None) != (members[0].discriminator is None):
            raise ValueError("Expected argument `members` to have discriminators all or none, but got some of both.")
    options["num_classes"] = sum(member.num_classes for member in members)
    options["beta"] = torch.cat([member.beta for member in members]).tolist()
    joined = VAEGAN(**options)
    for name in ("encoder", "decoder", "discriminator"):
        if getattr(joined, name) is not None:
            networks = [network for member in members for network in getattr(member, name).members]
            setattr(joined, name, PerClass(copy.deepcopy(networks)))
    joined.code_low.copy_(torch.stack([member.code_low for member in members]).amin(0))
    joined.code_high.copy_(torch.stack([member.code_high for member in members]).amax(0))
    return joined.to(members[0].code_low).train(members[0].training)

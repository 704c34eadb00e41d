"""Joining models that were trained one by one."""

import pytest
import torch

from lightning_robust.manifolds.bank import bank
from lightning_robust.manifolds.vaegan import VAEGAN

OPTIONS = {"image_shape": (1, 8, 8), "latent": 3, "width": 1 / 16, "init_std": None}


def test_each_class_goes_through_its_member():
    torch.manual_seed(0)
    members = [VAEGAN(**OPTIONS, beta=b) for b in (1.0, 2.0)] + [VAEGAN(**OPTIONS, num_classes=2, beta=[3.0, 4.0])]
    for i, member in enumerate(members):
        member.fit_bounds([(torch.rand(9, 1, 8, 8), torch.arange(9) % member.num_classes)])
        member.encoder.members[0][1].running_mean += 0.1 * i
    joined = bank(members)
    assert joined.num_classes == 4
    assert joined.beta.tolist() == [1, 2, 3, 4]
    x, y = torch.rand(8, 1, 8, 8), torch.tensor([3, 0, 1, 2, 3, 3, 0, 1])
    z = joined.encode(x, y)
    for k in range(4):
        member, label = (members[k], 0) if k < 2 else (members[2], k - 2)
        own = torch.full((int((y == k).sum()),), label)
        torch.testing.assert_close(z[y == k], member.encode(x[y == k], own))
        torch.testing.assert_close(joined.decode(z, y)[y == k], member.decode(z[y == k], own))
    torch.testing.assert_close(joined.bounds[0], torch.stack([m.bounds[0] for m in members]).amin(0))
    torch.testing.assert_close(joined.bounds[1], torch.stack([m.bounds[1] for m in members]).amax(0))
    assert joined.training


def test_models_that_differ_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        bank([])
    with pytest.raises(TypeError, match=r"`members\[0\]` to be a VAEGAN"):
        bank([torch.nn.Linear(1, 1)])
    with pytest.raises(ValueError, match="agree in `latent`"):
        bank([VAEGAN(**OPTIONS), VAEGAN(**{**OPTIONS, "latent": 4})])
    with pytest.raises(ValueError, match="discriminators"):
        bank([VAEGAN(**OPTIONS), VAEGAN(**OPTIONS, gamma=0.0)])
    with pytest.raises(ValueError, match=r"`members\[1\]` to have networks of its own"):
        bank([VAEGAN(**OPTIONS), VAEGAN(**OPTIONS, num_classes=2, conditional=True)])


def test_bounds_of_a_member_without_any_do_not_count_as_known():
    assert bank([VAEGAN(**OPTIONS), VAEGAN(**OPTIONS)]).bounds is None

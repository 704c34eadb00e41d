"""A code in parts."""

import torch

from lightning_robust._codes import parts


def test_a_code_is_z_and_what_stays_fixed():
    z, font = torch.zeros(2, 3), torch.zeros(2)
    assert parts(z)[0] is z
    assert len(parts(z)) == 1
    for code in ((z, font), [z, font]):
        first, *fixed = parts(code)
        assert first is z
        assert fixed[0] is font
    assert parts(()) == ((),)

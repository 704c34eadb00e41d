"""The quality metric against numpy."""

import numpy as np
import pytest
import torch

from lightning_robust.manifolds.quality import CodeQuality


def test_against_numpy_over_batches_of_different_size():
    torch.manual_seed(0)
    x, x_rec, z = torch.rand(10, 1, 4, 4), torch.rand(10, 1, 4, 4), 1.5 * torch.randn(10, 3) + 0.5
    metric = CodeQuality()
    for part in (slice(0, 3), slice(3, 10)):
        metric.update(x[part], x_rec[part], z[part])
    got = {name: float(value) for name, value in metric.compute().items()}
    assert got["rec_mse"] == pytest.approx(float(((x - x_rec) ** 2).mean()), rel=1e-5)
    assert got["code_mean"] == pytest.approx(np.mean(z.numpy()), rel=1e-5)
    assert got["code_var"] == pytest.approx(np.var(z.numpy()), rel=1e-5)
    assert got["code_within_2"] == pytest.approx(np.mean(np.abs(z.numpy()).max(1) <= 2))

import pytest
import torch

from lightning_robust.models import resnet


@pytest.mark.parametrize("shape", [(28, 28), (56, 48)])
def test_the_average_is_the_pool_of_the_paper(shape):
    network = resnet(width=4).eval()
    x = torch.rand(2, 1, *shape)
    features = network[:-3](x)
    height, width = shape[0] // 4, shape[1] // 4
    assert features.shape == (2, 16, height, width)
    pooled = torch.nn.functional.avg_pool2d(features, (height, width)).flatten(1)
    torch.testing.assert_close(network(x), network[-1](pooled))

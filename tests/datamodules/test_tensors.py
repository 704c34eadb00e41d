import torch

from lightning_robust.datamodules import TensorDataModule


def test_describes_itself():
    x, y = torch.rand(40, 3, 6, 5), torch.arange(40) % 4
    module = TensorDataModule((x, y), (x[:8], y[:8]), val_size=10)
    assert (module.num_classes, module.image_shape, module.value_range) == (4, (3, 6, 5), (0.0, 1.0))
    assert TensorDataModule((x, y), (x, y), num_classes=7, val_size=0).num_classes == 7


def test_uint8_is_divided_by_255_and_the_rest_is_not():
    x, y = torch.randint(0, 256, (40, 1, 3, 3), dtype=torch.uint8), torch.arange(40) % 4
    module = TensorDataModule((x, y), (x, y), val_size=10)
    assert torch.equal(module.tensors("test")[0], x.float() / 255)
    module = TensorDataModule((x.float(), y), (x.float(), y), val_size=10, value_range=(0.0, 255.0))
    assert torch.equal(module.tensors("test")[0], x.float())


def test_vectors_are_data_too():
    x, y = torch.randn(40, 17), torch.arange(40) % 2
    module = TensorDataModule((x, y), (x, y), val_size=10, value_range=(-10.0, 10.0))
    assert module.tensors("train", limit=3)[0].shape == (3, 17)

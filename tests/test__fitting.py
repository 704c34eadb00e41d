import torch

from lightning_robust._fitting import device, loaded, quiet_trainer
from lightning_robust.cells import save_artifact
from lightning_robust.models import RobustClassifier


def _module():
    return RobustClassifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)))


def test_weights_come_back_frozen_and_on_the_device(tmp_path):
    first, second = _module(), _module()
    save_artifact(tmp_path / "model.pt", first.state_dict())
    module = loaded(second, tmp_path / "model.pt")
    x = torch.rand(5, 1, 2, 2)
    torch.testing.assert_close(module(x.to(device())).cpu(), first(x))
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_the_trainer_writes_and_shows_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = quiet_trainer(max_epochs=3)
    assert (trainer.max_epochs, trainer.loggers, trainer.checkpoint_callbacks) == (3, [], [])
    assert quiet_trainer(logger=True, accelerator="cpu").loggers
    assert list(tmp_path.iterdir()) == []

import sys
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_robust._lightning import pl
from lightning_robust.models import ExponentialDecay, Normalize, RobustClassifier, standard_net


def _data(with_code=False, n=96):
    """Stripes along the columns or the rows, in gray values of [0, 1]."""
    torch.manual_seed(0)
    y = torch.arange(n) % 2
    stripes = (torch.arange(8) % 2).float()
    x = torch.where((y == 0)[:, None, None], stripes[None, None, :], stripes[None, :, None]).expand(n, 8, 8)[:, None]
    x = (0.25 + 0.5 * x + 0.05 * torch.randn(n, 1, 8, 8)).clamp(0, 1)
    return TensorDataset(x, y, torch.zeros(n, 3)) if with_code else TensorDataset(x, y)


def _loader(with_code=False):
    return DataLoader(_data(with_code), batch_size=16)


def _network():
    torch.manual_seed(1)
    return standard_net(num_classes=2, image_size=8)


def _trainer(path, **kwargs):
    return pl.Trainer(
        default_root_dir=path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **({"accelerator": "cpu", "max_epochs": 3, "enable_checkpointing": False} | kwargs),
    )


def _accuracy(module):
    x, y = _data().tensors
    with torch.no_grad():
        return (module.eval()(x).argmax(1) == y).float().mean().item()


GPU = [pytest.param(p, "cuda", marks=pytest.mark.gpu) for p in ("16-mixed", "bf16-mixed", "bf16-true")]


@pytest.mark.parametrize("with_code", [False, True])
@pytest.mark.parametrize(
    ("precision", "accelerator"), [*((p, "cpu") for p in ("32-true", "bf16-mixed", "bf16-true")), *GPU]
)
def test_fits_a_toy_problem(tmp_path, precision, accelerator, with_code):
    module = RobustClassifier(_network(), num_classes=2, mean=0.5, std=0.25)
    trainer = _trainer(tmp_path, precision=precision, accelerator=accelerator, devices=1)
    trainer.fit(module, _loader(with_code), _loader(with_code))
    assert set(trainer.callback_metrics) == {"train/loss", "train/acc", "val/loss"}  # accuracies: RobustEvaluation
    assert trainer.callback_metrics["train/acc"] > 0.9
    (logged,) = trainer.test(module, _loader(with_code), verbose=False)
    assert set(logged) == {"test/loss"}
    probabilities = torch.cat(trainer.predict(module, _loader(with_code)))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(96))
    assert _accuracy(module.cpu().float()) > 0.95


def test_logs_means_over_samples_also_when_the_last_batch_is_short(tmp_path):
    module = RobustClassifier(_network())
    loader = DataLoader(_data(), batch_size=40)
    (logged,) = _trainer(tmp_path).test(module, loader, verbose=False)
    x, y = _data().tensors
    expected = nn.functional.cross_entropy(module.eval()(x), y)
    assert logged["test/loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_trains_as_by_hand(tmp_path):
    module = RobustClassifier(_network(), mean=0.5, std=0.25, scheduler=partial(ExponentialDecay, steps_per_epoch=6))
    _trainer(tmp_path, max_epochs=2).fit(module, _loader())
    model = nn.Sequential(Normalize(0.5, 0.25), _network())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.5, 0.9), weight_decay=1e-4)
    step = 0
    for _ in range(2):
        for x, y in _loader():
            optimizer.param_groups[0]["lr"] = 0.01 * 0.95 ** (1 + step / 6)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            step += 1
    for p, q in zip(module.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("interval", "steps"), [("step", 12), ("epoch", 2), (None, 2)])
def test_interval_of_the_scheduler(tmp_path, interval, steps):
    halve = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    module = RobustClassifier(_network(), partial(torch.optim.SGD, lr=1e-3), halve, interval=interval)
    trainer = _trainer(tmp_path, max_epochs=2)
    trainer.fit(module, _loader())
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 * 0.5**steps)


@pytest.mark.parametrize(("interval", "steps"), [(None, 12), ("epoch", 2)])
def test_a_scheduler_says_when_it_steps(tmp_path, interval, steps):
    decay = partial(ExponentialDecay, steps_per_epoch=1, decay=0.5)
    module = RobustClassifier(_network(), partial(torch.optim.SGD, lr=1e-3), decay, interval=interval)
    trainer = _trainer(tmp_path, max_epochs=2)
    trainer.fit(module, _loader())
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 * 0.5 ** (1 + steps))


def test_a_rate_falls_where_the_loss_of_validation_does_not(tmp_path):
    plateau = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, factor=0.5, patience=0, threshold=1e9)
    module = RobustClassifier(_network(), partial(torch.optim.SGD, lr=1e-3), plateau)
    trainer = _trainer(tmp_path, max_epochs=3)
    trainer.fit(module, _loader(), _loader())
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 * 0.5**3)


def test_label_smoothing_acts_in_training_only():
    module = RobustClassifier(_network(), label_smoothing=0.2)
    logits, y = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    log_p = logits.log_softmax(1)[0]
    torch.testing.assert_close(module.train().loss(logits, y), -(0.9 * log_p[0] + 0.1 * log_p[1]))
    torch.testing.assert_close(module.eval().loss(logits, y), -log_p[0])


def test_checkpoint_round_trip_without_unpickling_code(tmp_path):
    module = RobustClassifier(
        _network(),
        partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        partial(ExponentialDecay, steps_per_epoch=6),
        mean=[0.4],
        std=[0.3],
        num_classes=2,
        label_smoothing=0.1,
    )
    trainer = _trainer(tmp_path, max_epochs=1)
    trainer.fit(module, _loader())
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    state = torch.load(path, weights_only=True)
    assert dict(state["hyper_parameters"]) == {
        "interval": None,
        "mean": [0.4],
        "std": [0.3],
        "num_classes": 2,
        "label_smoothing": 0.1,
    }
    again = RobustClassifier.load_from_checkpoint(
        path, network=standard_net(num_classes=2, image_size=8), weights_only=True
    )
    x = _data().tensors[0]
    assert torch.equal(again.eval()(x), module.eval()(x))
    assert (again.label_smoothing, again.num_classes) == (0.1, 2)


def test_resuming_equals_never_stopping(tmp_path):
    def module():
        return RobustClassifier(_network(), scheduler=partial(ExponentialDecay, steps_per_epoch=6))

    whole, first, second = module(), module(), module()
    _trainer(tmp_path, max_epochs=3).fit(whole, _loader())
    trainer = _trainer(tmp_path, max_epochs=1)
    trainer.fit(first, _loader())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    _trainer(tmp_path, max_epochs=3).fit(second, _loader(), ckpt_path=tmp_path / "half.ckpt")
    for p, q in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q)


class _Subclass(RobustClassifier):
    def __init__(self, width: int, mean: float = 0.5):
        super().__init__(
            nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 2)), mean=mean, std=0.5
        )
        self.save_hyperparameters("width")

    def loss(self, logits, y):
        return nn.functional.multi_margin_loss(logits, y)


def test_subclass(tmp_path):
    torch.manual_seed(0)
    module = _Subclass(width=16)
    trainer = _trainer(tmp_path, max_epochs=5)
    trainer.fit(module, _loader())
    assert _accuracy(module) > 0.95
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = _Subclass.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    x = _data().tensors[0]
    assert torch.equal(again.eval()(x), module.eval()(x))


def test_refuses_wrong_arguments():
    with pytest.raises(ValueError, match=r"`mean` and `std` to be given together, but got 0.5 and None"):
        RobustClassifier(_network(), mean=0.5)
    with pytest.raises(TypeError, match=r"`network` .* the class Linear. Did you mean Linear\(...\)\?"):
        RobustClassifier(nn.Linear)
    with pytest.raises(TypeError, match=r"`optimizer` .* the class LambdaLR"):
        RobustClassifier(_network(), torch.optim.lr_scheduler.LambdaLR)
    RobustClassifier(_network(), torch.optim.SGD, torch.optim.lr_scheduler.ExponentialLR)  # classes that make them


def test_refuses_wrong_batches():
    module = RobustClassifier(_network(), num_classes=3)
    x, y = (t[:4] for t in _data().tensors)
    with pytest.raises(TypeError, match=r"`batch` to be `\(x, y\)` or `\(x, y, code\)`, but got dict"):
        module.training_step({"x": x, "y": y}, 0)
    with pytest.raises(ValueError, match=r"return 3 logits, but got shape \(4, 2\)"):
        module.training_step((x, y), 0)


CONFIG = """
model:
  class_path: lightning_robust.models.RobustClassifier
  init_args:
    network:
      class_path: lightning_robust.models.standard_net
      init_args: {num_classes: 2, image_size: [8, 8]}
    mean: [0.5]
    std: [0.25]
    num_classes: 2
    interval: epoch
"""
OPTIMIZER = """
    optimizer:
      class_path: torch.optim.SGD
      init_args: {lr: 0.05, momentum: 0.9}
    scheduler:
      class_path: lightning_robust.models.ExponentialDecay
      init_args: {steps_per_epoch: 7, decay: 0.5}
"""


@pytest.mark.parametrize("text", [CONFIG, CONFIG + OPTIMIZER], ids=["defaults", "optimizer and scheduler"])
def test_comes_from_lightning_cli(tmp_path, monkeypatch, text):
    monkeypatch.setattr(sys, "argv", ["fit.py"])
    cli_module = pytest.importorskip(f"{pl.__name__}.cli")
    (tmp_path / "config.yaml").write_text(text)
    cli = cli_module.LightningCLI(
        pl.LightningModule,
        subclass_mode_model=True,
        run=False,
        save_config_callback=None,
        trainer_defaults={
            "accelerator": "cpu",
            "logger": False,
            "max_epochs": 1,
            "default_root_dir": str(tmp_path),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
        },
        args=[f"--config={tmp_path / 'config.yaml'}"],
    )
    assert isinstance(cli.model, RobustClassifier)
    cli.trainer.fit(cli.model, _loader())
    optimizer = cli.trainer.optimizers[0]
    if text == CONFIG:
        assert type(optimizer) is torch.optim.Adam
        assert optimizer.param_groups[0]["betas"] == (0.5, 0.9)
    else:
        assert type(optimizer) is torch.optim.SGD
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05 * 0.5 ** (1 + 1 / 7))
    cli.trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = RobustClassifier.load_from_checkpoint(tmp_path / "model.ckpt", network=_network(), weights_only=True)
    x = _data().tensors[0]
    assert torch.equal(again.eval()(x), cli.model.eval()(x))

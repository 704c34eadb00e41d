"""What only a GPU can show, besides the cells of the matrix: cuDNN's recurrent layers, and memory."""

import pytest
import torch
from callbacks_fakes import Module, loader, trainer
from torch import nn

from lightning_robust import PGD, AdversarialTraining, Linf, RobustEvaluation
from lightning_robust.attacks import fast
from lightning_robust.models import standard_net
from tests.helpers import Recurrent, batch

ATTACK = PGD(Linf(0.1), steps=4, random_start=False)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("training", [False, True])
def test_recurrent_layers_are_attacked_as_on_a_cpu(device, training):
    """cuDNN refuses gradients of a recurrent layer in evaluation mode."""
    model, (x, y, _) = Recurrent().double(), batch(dtype=torch.float64)
    expected = ATTACK(model.eval(), x, y)
    model.train(training).to(device)
    dropout, inputs = model.dropped.dropout, x.to(device)
    x_adv = ATTACK(model, inputs, y.to(device))
    torch.testing.assert_close(x_adv.cpu(), expected, rtol=1e-6, atol=1e-6)
    assert model.dropped.dropout == dropout
    assert {part.training for part in model.modules()} == {training}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.filterwarnings("ignore")
def test_recurrent_layers_are_trained_and_evaluated(device):
    class Rows(Module):
        def forward(self, x):
            return self.net[1](self.net[0](x.flatten(2).transpose(1, 2))[0][:, -1])

    images, _ = next(iter(loader()))
    layers = nn.Sequential(nn.GRU(images.shape[1], 8, 2, dropout=0.5, batch_first=True), nn.Linear(8, 3))
    callbacks = AdversarialTraining(ATTACK), RobustEvaluation(ATTACK)
    t = trainer(*callbacks, max_epochs=1, accelerator=device, devices=1)
    t.fit(Rows(net=layers), loader(), loader())
    assert 0 <= callbacks[1].results["val/robust_acc"] <= callbacks[1].results["val/clean_acc"] <= 1


@pytest.mark.gpu
@pytest.mark.parametrize("last", [False, True])
def test_an_attack_takes_no_more_memory_than_a_step_of_training(last):
    """Parameters are frozen, so an attack keeps fewer activations for the way back."""
    model = standard_net().cuda()
    x, y = torch.rand(512, 1, 28, 28, device="cuda"), torch.arange(512, device="cuda") % 10
    attack = fast(ATTACK, channels_last=True) if last else ATTACK

    def peak(work):
        work()  # what is made once
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before

    def step():
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()

    assert 0 < peak(lambda: attack(model, x, y)) <= peak(step)

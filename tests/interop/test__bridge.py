import pytest
import torch
from torch import nn

from lightning_robust.attacks import L2, Context, Linf, PixelSpace
from lightning_robust.interop._bridge import Shell, run_foreign


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.BatchNorm1d(3)).train()


def data(n: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 3


def test_shell_keeps_the_model_out_of_reach():
    model = net()
    shell = Shell(model.forward, torch.device("cpu"))
    shell.train().to(torch.float64)
    model[1].eval()
    shell.eval()
    assert [m.training for m in model] == [True, False, True]
    assert model[1].weight.dtype == torch.float32
    assert [p.requires_grad for p in shell.parameters()] == [False]
    assert not shell.training
    assert list(shell.children()) == []


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.1)])
def test_what_is_too_far_is_projected_and_what_is_not_a_number_stays(ball):
    x, y = data()
    x = x * 0.2 + 0.4

    def find(shell, pixels, labels, seed):
        moved = pixels + 0.3
        moved[0] = torch.nan
        return moved, None

    outcome = run_foreign(find, net(), x, y, Context(), space=PixelSpace(), ball=ball)
    assert torch.equal(outcome.x_adv[0], x[0])
    norms = ball.norm(outcome.x_adv.double() - x.double())
    assert torch.allclose(norms[1:], torch.tensor(0.1, dtype=torch.float64))
    assert norms.max() <= 0.1 * (1 + 1e-7)
    assert torch.allclose(outcome.x_adv[1:] - x[1:], outcome.delta[1:], atol=1e-7)


def test_what_is_inside_comes_back_bit_for_bit():
    x, y = data(200)
    found = []

    def find(shell, pixels, labels, seed):
        found.append((pixels + 0.1 * torch.randn_like(pixels)).clamp(0, 1))
        return found[0], None

    outcome = run_foreign(find, net(), x, y, Context(), space=PixelSpace(), ball=Linf(1.0))
    assert torch.equal(outcome.x_adv, found[0])


def test_without_a_ball_the_range_of_images_holds():
    x, y = data()
    outcome = run_foreign(
        lambda shell, pixels, labels, seed: (pixels - 3, None), net(), x, y, Context(), space=PixelSpace()
    )
    assert torch.equal(outcome.x_adv, torch.zeros_like(x))


def test_shell_takes_pixels_whatever_the_normalisation():
    x, y = data()
    model, seen = net().eval(), []

    def find(shell, pixels, labels, seed):
        seen.extend([pixels.clone(), shell(pixels), shell(pixels[1:2])])
        return pixels, None

    space = PixelSpace(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    run_foreign(find, model, x, y, Context(), space=space)
    assert torch.allclose(seen[0], space.pixels(x).clamp(0, 1))
    inside = (x - torch.tensor([0.1, 0.2, 0.3]).reshape(3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).reshape(3, 1, 1)
    run_foreign(find, model, inside, y, Context(), space=space)
    assert torch.allclose(seen[3], x, atol=1e-6)
    assert torch.allclose(seen[4], model(inside), atol=1e-5)
    assert torch.allclose(seen[5], model(inside)[1:2], atol=1e-5)


def test_inputs_are_safe_from_writing_attacks():
    x, y = data()
    x_before, y_before = x.clone(), y.clone()

    def find(shell, pixels, labels, seed):
        pixels += 0.1
        labels += 1
        return pixels, None

    run_foreign(find, net(), x, y, Context(), space=PixelSpace())
    assert torch.equal(x, x_before)
    assert torch.equal(y, y_before)


def test_refuses_results_of_another_shape():
    x, y = data()
    with pytest.raises(ValueError, match=r"return images of shape \(5, 3, 2, 2\), but got \(4, 3, 2, 2\)"):
        run_foreign(lambda shell, pixels, labels, seed: (pixels[:4], None), net(), x, y, Context(), space=PixelSpace())

import torch

from lightning_robust import Linf, Threat
from lightning_robust.attacks import log_odds
from lightning_robust.models import RobustClassifier
from lightning_robust_studies.stutz2019.attacks import AttackedImages
from lightning_robust_studies.stutz2019.pictures import plane_of_leaving, surface_of
from tests.helpers import SHAPE, K, Plane, Z


def test_the_plane_shows_the_data_along_one_axis_and_what_leaves_it_along_the_other():
    generator = torch.Generator().manual_seed(0)
    data = torch.zeros(50, 1, 2, 2)
    data[:, 0, 0, 0] = 3 * torch.randn(50, generator=generator)  # most of the data
    data[:, 0, 0, 1] = torch.randn(50, generator=generator)
    leaving = torch.zeros(20, 1, 2, 2)
    leaving[:, 0, 0, 1] = 0.5  # where the data varies too
    leaving[:, 0, 1, 1] = 0.4  # where it does not
    points = plane_of_leaving(data, leaving, torch.cat([data, data[:20] + leaving]))
    clean, moved = points[:50], points[50:]
    torch.testing.assert_close(
        clean[:, 0].abs(), (data[:, 0, 0, 0] - data[:, 0, 0, 0].mean()).double().abs(), atol=0.4, rtol=0
    )
    assert clean[:, 1].std() < 0.5 * clean[:, 0].std()
    shift = moved - clean[:20]
    torch.testing.assert_close(shift[:, 0], torch.zeros(20, dtype=torch.float64), atol=0.05, rtol=0)
    assert float(shift[:, 1].abs().min()) > 0.4


def _module():
    torch.manual_seed(0)
    return RobustClassifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(SHAPE[0] * 36, K))).eval()


def test_the_surface_is_the_gain_at_the_code_and_at_the_attack():
    module, manifold = _module(), Plane((-9.0, 9.0)).eval()
    z = torch.randn(2, Z, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        x = manifold.decode(z, torch.zeros(2))
        y = module(x).argmax(1)
    delta = 0.2 * torch.ones(2, Z)
    attacked = AttackedImages(
        x=x,
        y=y,
        x_adv=x,
        delta=delta,
        right=torch.tensor([False, True]),
        fooled=torch.ones(1, 2, dtype=torch.bool),
        first=torch.zeros(1, 2),
    )
    kept = surface_of(module, Threat(Linf(0.2)), manifold, attacked, (z,))
    assert int(kept["shown"]) == 1
    torch.testing.assert_close(kept["attack"], torch.tensor([0.2, 0.0]))
    with torch.no_grad():
        torch.testing.assert_close(kept["surface"][16, 16], log_odds(module(x[1:]), y[1:])[0])
        at = manifold.decode(z[1:] + kept["axis"][-1] / 0.2 * delta[1:], y[1:])
        torch.testing.assert_close(kept["surface"][-1, 16], log_odds(module(at), y[1:])[0])


def test_without_a_success_there_is_no_surface():
    z = torch.zeros(1, Z)
    attacked = AttackedImages(
        x=torch.zeros(1, *SHAPE),
        y=torch.zeros(1, dtype=torch.long),
        x_adv=torch.zeros(1, *SHAPE),
        delta=z,
        right=torch.tensor([True]),
        fooled=torch.zeros(1, 1, dtype=torch.bool),
        first=-torch.ones(1, 1),
    )
    assert surface_of(_module(), Threat(Linf(0.2)), Plane((-1.0, 1.0)), attacked, (z,)) == {}

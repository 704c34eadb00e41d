"""Robust accuracy of laxer verdicts, and of few targets, on 120 digits: the tables of `docs/evaluation.md`.

python benchmarks/verdicts.py
"""

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from torch import Tensor, nn

from lightning_robust import PGD, Linf, evaluate, standard
from lightning_robust.attacks import targeted_margin

TRAINED = 1500


def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's digits in a random order: (1797, 1, 8, 8) in [0, 1] and their labels."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    return (torch.tensor(data.images, dtype=torch.float32)[:, None] / 16)[order], torch.tensor(data.target)[order]


def clusters(x: Tensor, y: Tensor) -> Tensor:
    """(N,) labels of 100 clusters, ten of each digit."""
    fine = torch.zeros_like(y)
    for digit in range(10):
        rows = (y == digit).nonzero()[:, 0]
        found = KMeans(10, n_init=1, random_state=0).fit_predict(x[rows].flatten(1).numpy())
        fine[rows] = 10 * digit + torch.tensor(found).to(y)
    return fine


def network(x: Tensor, y: Tensor, classes: int) -> nn.Module:
    """A small network, trained on the examples of two steps in Linf 0.06."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, classes)
    )
    attack, optimizer = PGD(Linf(0.06), 2), torch.optim.Adam(net.parameters(), 3e-3)
    for epoch in range(12):
        for rows in torch.randperm(len(x)).split(50):
            x_adv = attack(net, x[rows], y[rows], key=epoch)
            optimizer.zero_grad()
            F.cross_entropy(net(x_adv), y[rows]).backward()
            optimizer.step()
    return net.eval()


# What a verdict asks an attacker for: a gain that is above 0 where the verdict is wrong


def grouped(group: Callable[[Tensor], Tensor], classes: int) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """The verdict that the group of the label is the highest, and its gain."""

    def correct(output: Tensor, y: Tensor) -> Tensor:
        return group(output.argmax(1)) == group(y)

    def gain(output: Tensor, y: Tensor) -> Tensor:
        own = group(torch.arange(classes)) == group(y)[:, None]
        return output.masked_fill(own, -torch.inf).amax(1) - output.masked_fill(~own, -torch.inf).amax(1)

    return correct, gain


def among(k: int) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """The verdict that the label is among the first k, and its gain."""

    def correct(output: Tensor, y: Tensor) -> Tensor:
        return (output.topk(k).indices == y[:, None]).any(1)

    def gain(output: Tensor, y: Tensor) -> Tensor:
        others = output.scatter(1, y[:, None], -torch.inf)
        return others.topk(k).values[:, -1] - output.gather(1, y[:, None])[:, 0]

    return correct, gain


def _share(report: object, name: str) -> str:
    return "".join(f"{one.value:.3f}" for one in report.indicators if one.name == name)


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    x, y = digits()
    fine = clusters(x, y)
    plain, split = (network(x[:TRAINED], labels[:TRAINED], n) for labels, n in ((y, 10), (fine, 100)))
    rows = slice(TRAINED, TRAINED + 120)
    three, ten = grouped(lambda c: c // 4, 10), grouped(lambda c: c // 10, 100)
    print("| verdict, Linf | PGD(20), % | standard, % | its own gain, % | `gain_won` of PGD | of standard |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, net, labels, (correct, gain), eps in (
        ("three groups of ten digits", plain, y, three, 0.1),
        ("three groups of ten digits", plain, y, three, 0.15),
        ("100 clusters judged as 10 digits", split, fine, ten, 0.1),
        ("100 clusters judged as 10 digits", split, fine, ten, 0.15),
        ("among the first two", plain, y, among(2), 0.1),
        ("among the first three", plain, y, among(3), 0.2),
    ):
        ball = Linf(eps)
        attacks = (PGD(ball, 20), standard(ball), PGD(ball, 40, gain=gain, restarts=5))
        one, plan, own = (
            evaluate(net, (x[rows], labels[rows]), attack, correct=correct, progress=False) for attack in attacks
        )
        values = (f"{100 * report.robust_acc.value:.1f}" for report in (one, plan, own))
        print(f"| {name}, {eps}", *values, _share(one, "gain_won"), _share(plan, "gain_won"), sep=" | ", end=" |\n")
    print()
    ranks = ((1,), (2,), (9,), (1, 2), (1, 2, 3), (2, 3, 4), (7, 8, 9), tuple(range(4, 10)))
    print("| ranks", *(", ".join(map(str, some)) for some in ranks), "`standard`", sep=" | ", end=" |\n")
    print("| ---: |" + " ---: |" * (len(ranks) + 1))
    for eps in (0.1, 0.15):
        ball = Linf(eps)
        plans = [PGD(ball, 20, gain=tuple(map(targeted_margin, some)), restarts=len(some)) for some in ranks]
        reports = [evaluate(plain, (x[rows], y[rows]), one, progress=False) for one in (*plans, standard(ball))]
        print(f"| {eps}", *(f"{100 * report.robust_acc.value:.1f}" for report in reports), sep=" | ", end=" |\n")


if __name__ == "__main__":
    main()

"""Without a Trainer
=================

Attacks are functions of a model and a batch, and `evaluate` needs no Trainer either; the model is as it was.
"""

import torch

from lightning_robust import L1, L2, PGD, Linf, evaluate, margin
from lightning_robust.datamodules import Fonts
from lightning_robust.models import standard_net

# %%
# An attack is called like a function. What it returns is in the ball.

x, y, _ = Fonts().tensors("test", limit=50)
model = standard_net()  # untrained, in training mode
for ball in (Linf(0.1), L2(1.5), L1(12.0)):
    attack = PGD(ball, steps=20, restarts=2, gain=margin, keep="best")
    x_adv = attack(model, x, y)
    assert model.training
    print(ball, "largest norm:", round(float(ball.norm(x_adv - x).max()), 3))

# %%
# `run` tells more: which of the restarts fooled the model, and where no gradient was found.

outcome = PGD(Linf(0.1), steps=20, restarts=2, keep="best").run(model, x, y)
print("fooled per restart:", outcome.fooled.float().mean(1).tolist(), "stuck:", int(outcome.stuck.sum()))
assert torch.equal(outcome.x_adv, PGD(Linf(0.1), steps=20, restarts=2, keep="best")(model, x, y))

# %%
# Attacks by name run in full. `report` also has `per_class()`, `to_pandas()` and `write("runs/report")`.

report = evaluate(model, (x, y), {"linf": PGD(Linf(0.1), steps=20), "l2": PGD(L2(1.5), steps=20)})
print(report.table())

from types import SimpleNamespace

import pytest
from torch import nn

from lightning_robust.attacks.schedules import Progress
from lightning_robust.callbacks._clock import Clock


def fit(module, epochs, batches, first=0, state=None):
    """What a clock says at every batch of a fit."""
    clock, said = Clock(), []
    trainer = SimpleNamespace(current_epoch=0, num_training_batches=batches)
    clock.start(trainer, module)
    if state is not None:
        clock.load_state_dict(state)
    for epoch in range(first, epochs):
        trainer.current_epoch = epoch
        for batch in range(4):
            clock.batch()
            said.append((clock.progress(trainer, batch), clock.key(trainer)))
        clock.epoch_end(trainer, module)
    return said, clock.state_dict()


@pytest.mark.parametrize("batches", [4, float("inf")])
@pytest.mark.parametrize("rounds", [(4,), (1, 3), (2, 2), (1, 1, 1, 1)])
def test_it_goes_on_from_trainer_to_trainer(rounds, batches):
    module = nn.Linear(1, 1)
    said = [entry for epochs in rounds for entry in fit(module, epochs, batches)[0]]
    if batches == 4:
        expected = [(Progress(i / 4, i), i // 4) for i in range(16)]
    else:
        expected = [(Progress(None, i), i) for i in range(16)]
    assert said == expected


@pytest.mark.parametrize("before", [0, 2])
def test_it_goes_on_where_a_fit_is_resumed(before):
    """Also in another process, where nothing is known of the module."""
    module, expected = nn.Linear(1, 1), nn.Linear(1, 1)
    for one in (module, expected):
        if before:
            fit(one, before, 4)
    whole, _ = fit(expected, 4, 4)
    first, state = fit(module, 2, 4)
    rest, _ = fit(nn.Linear(1, 1), 4, 4, first=2, state=state)
    assert first + rest == whole


def test_modules_have_clocks_of_their_own():
    fit(nn.Linear(1, 1), 3, 4)
    assert fit(nn.Linear(1, 1), 1, 4)[0][0] == (Progress(0.0, 0), 0)

from types import SimpleNamespace

import pytest
from torch import nn

from lightning_robust.attacks.schedules import Progress
from lightning_robust.callbacks._clock import Clock


def fit(module, epochs, batches, first=0, state=None, start=0, stop=None, dev=False):
    """What a clock says at every batch of a fit of four batches an epoch: from `start` of the first to `stop`."""
    clock, said = Clock(), []
    trainer = SimpleNamespace(current_epoch=0, num_training_batches=batches, fast_dev_run=dev)
    clock.start(module)
    if state is not None:
        clock.load_state_dict(state)
    for epoch in range(first, epochs):
        trainer.current_epoch = epoch
        for batch in range(start if epoch == first else 0, 4 if stop is None else stop):
            trainer.is_last_batch = batch == 3
            clock.batch(trainer, module, batch)
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


def test_an_epoch_that_was_cut_counts_by_its_batches():
    """Each fit that begins has random starts of its own."""
    module = nn.Linear(1, 1)
    said = [entry for _ in range(3) for entry in fit(module, 1, 4, stop=3)[0]]
    assert said == [(Progress(i / 4, i), i // 3) for i in range(9)]
    assert fit(module, 1, 4)[0] == [(Progress(i / 4, i), 3) for i in range(9, 13)]


def test_an_epoch_of_unknown_length_is_whole_where_it_ends():
    module = nn.Linear(1, 1)
    fit(module, 1, float("inf"), stop=2)
    assert fit(module, 1, 4)[0] == [(Progress(1 + i / 4, 2 + i), 1) for i in range(4)]


def test_an_epoch_is_over_where_its_data_are():
    """Before as many batches as `limit_train_batches` allows."""
    module = nn.Linear(1, 1)
    fit(module, 1, 100)
    assert fit(module, 1, 4)[0][0] == (Progress(1.0, 4), 1)


def test_a_trial_run_does_not_count():
    module = nn.Linear(1, 1)
    assert len(fit(module, 1, 1, dev=True, stop=1)[0]) == 1
    assert fit(module, 1, 4)[0][0] == (Progress(0.0, 0), 0)


@pytest.mark.parametrize("start", [0, 3])
def test_a_training_without_the_callback_does_not_count(start):
    """A checkpoint of it, whose Trainer is at epoch 2, or within it: epochs and steps both begin."""
    said, state = fit(nn.Linear(1, 1), 5, 4, first=2, start=start)
    assert said == [(Progress(i / 4, i), (i + start) // 4) for i in range(12 - start)]
    assert fit(nn.Linear(1, 1), 6, 4, first=5, state=state)[0][0] == (Progress(3 - start / 4, 12 - start), 3)


def test_a_fit_goes_on_within_an_epoch():
    whole, _ = fit(nn.Linear(1, 1), 2, 4)
    first, state = fit(nn.Linear(1, 1), 1, 4, stop=3)
    rest, _ = fit(nn.Linear(1, 1), 2, 4, start=3, state=state)
    assert first + rest == whole


def test_states_of_older_releases_and_of_no_batch():
    said, _ = fit(nn.Linear(1, 1), 3, 4, first=2, state={"epochs_before": 1, "batches": 12})
    assert said[0] == (Progress(3.0, 12), 3)
    _, state = fit(nn.Linear(1, 1), 0, 4)
    assert fit(nn.Linear(1, 1), 3, 4, first=2, state=state)[0][0] == (Progress(0.0, 0), 0)

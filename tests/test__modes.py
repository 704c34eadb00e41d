import pytest
from torch import nn

from lightning_robust._modes import evaluating


def test_each_submodule_is_put_back_also_after_an_exception():
    frozen, network = nn.BatchNorm1d(2).eval(), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))
    network.append(frozen)
    modes = [module.training for module in network.modules()]

    def inside():
        with evaluating(network):
            assert not any(module.training for module in network.modules())
            raise KeyError

    with pytest.raises(KeyError):
        inside()
    assert [module.training for module in network.modules()] == modes == [True, True, True, False]


def test_the_dropout_of_recurrent_layers_is_put_back_also_after_an_exception():
    network = nn.Sequential(nn.LSTM(2, 3), nn.GRU(3, 3, num_layers=2, dropout=0.5).eval())

    def inside():
        with evaluating(network):
            assert [layer.dropout for layer in network] == [0, 0]
            raise KeyError

    with pytest.raises(KeyError):
        inside()
    assert [(layer.dropout, layer.training) for layer in network] == [(0, True), (0.5, False)]

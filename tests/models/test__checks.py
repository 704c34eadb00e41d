from lightning_robust.models._checks import height_and_width


def test_sizes():
    assert height_and_width(28) == (28, 28)
    assert height_and_width([56, 48]) == (56, 48)

import pytest

from lightning_robust_studies.schmidt2018.closed_form.rows import compute
from lightning_robust_studies.schmidt2018.closed_form.settings import TheorySettings


@pytest.fixture(scope="session")
def tiny():
    return TheorySettings(
        dimensions=(256, 1024), radii=(0.25, 0.5), repeats=2, d=64, samples=(1, 2), draws=4, self_training_d=256,
        labels=2,
    )  # fmt: skip


@pytest.fixture(scope="session")
def rows(tiny):
    return compute(tiny)

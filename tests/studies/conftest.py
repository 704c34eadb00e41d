import pytest


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made but not drawn, which takes a third of a second each: for tests of what else a report has."""
    monkeypatch.setattr("lightning_robust.plots.page.png", lambda figure: b"")

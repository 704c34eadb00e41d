"""The demonstration: four models on the Fonts data, trained and attacked through the public interface."""

from lightning_robust.demo.settings import Settings

__all__ = ["Settings"]

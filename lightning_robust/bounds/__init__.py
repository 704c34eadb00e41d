"""What no classifier can beat: the least robust error on a sample."""

from lightning_robust.bounds.conflicts import Conflicts, conflicts
from lightning_robust.bounds.least_error import Bound, least_error, least_errors

__all__ = ["Bound", "Conflicts", "conflicts", "least_error", "least_errors"]

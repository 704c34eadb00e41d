"""Statistics of learning curves: accuracies over numbers of training samples, a curve for each seed."""

from lightning_robust.learning_curves.amounts import Amount, AmountEstimate
from lightning_robust.learning_curves.contrasts import contrast, last_step, rises_more, still_rising
from lightning_robust.learning_curves.per_seed import Curve, Curves, best_over, curve_per_seed, shared_sizes
from lightning_robust.learning_curves.power_law import PowerLaw, fit_power_law, fit_with_bands
from lightning_robust.learning_curves.samples_needed import isotonic, needed_with_interval, ratio_needed, samples_needed

__all__ = [
    "Amount",
    "AmountEstimate",
    "Curve",
    "Curves",
    "PowerLaw",
    "best_over",
    "contrast",
    "curve_per_seed",
    "fit_power_law",
    "fit_with_bands",
    "isotonic",
    "last_step",
    "needed_with_interval",
    "ratio_needed",
    "rises_more",
    "samples_needed",
    "shared_sizes",
    "still_rising",
]

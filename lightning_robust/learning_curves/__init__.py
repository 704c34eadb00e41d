"""How much data a module needs: train it on several numbers of samples and see what accuracy they give.

    curves = learning_curve(my_data, my_module, sizes=[500, 2000, 8000], eps_train=[0, 0.1], out="runs/mine")
    curves.to_pandas()               # all accuracies: sizes x radii x seeds x checkpoints x splits
    curves.best()                    # chosen on validation samples, reported on test samples
    curves.samples_needed(0.8)       # samples for 80 % under the largest radius, with an interval over seeds
    curves.ratio_needed(0.8)         # how many times as many as without an attack
    curves.fit().exponent()          # power law of the test error
    curves.figure()

`my_data(n, seed)` gives a LightningDataModule, `my_module()` a LightningModule. Each training is a cell of
`lightning_robust.cells`, so a study can be stopped, continued and enlarged, on any executor. A study with several
modules, or with attacks that depend on the module, runs `TrainAndEvaluate` itself; see the studies of Schmidt et al.
"""

from lightning_robust.learning_curves.amounts import Amount, AmountEstimate
from lightning_robust.learning_curves.curves import Curves, best_over, curves_of
from lightning_robust.learning_curves.power_law import PowerLaw, PowerLawFit, fit_power_law, fit_with_bands
from lightning_robust.learning_curves.samples_needed import needed_with_interval, ratio_needed, samples_needed
from lightning_robust.learning_curves.seeds import contrast, mean_over_seeds
from lightning_robust.learning_curves.study import LearningCurves, check_data, learning_curve, means, unmasked
from lightning_robust.learning_curves.training import FindMasking, TrainAndEvaluate

__all__ = [
    "Amount",
    "AmountEstimate",
    "Curves",
    "FindMasking",
    "LearningCurves",
    "PowerLaw",
    "PowerLawFit",
    "TrainAndEvaluate",
    "best_over",
    "check_data",
    "contrast",
    "curves_of",
    "fit_power_law",
    "fit_with_bands",
    "learning_curve",
    "mean_over_seeds",
    "means",
    "needed_with_interval",
    "ratio_needed",
    "samples_needed",
    "unmasked",
]

r"""Train small models, judge them by others' attacks and by `standard`, and write the tables of docs/evaluation.md.

    python -m benchmarks.evaluation --out runs/evaluation

Everything that is finished stays in the folder: started again, it goes on where it was stopped. A part of it:

    python -m benchmarks.evaluation --out runs/evaluation --stages verdicts tables --models "fonts PGD" --images 250
"""

import argparse
import logging
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.evaluation.models import MODELS, Train, train
from benchmarks.evaluation.oracles import ORACLES, Judge
from benchmarks.evaluation.ours import CLASSES, FRACTIONS, SCALES, Curve, LinearModels, Standard
from benchmarks.evaluation.radii import Others, others
from benchmarks.evaluation.tables import curves, differences, linear_models, optimalities, verdicts
from lightning_robust import cells
from lightning_robust._files import write_text
from lightning_robust._lightning import pl

STAGES = ("models", "oracles", "verdicts", "linear", "radii", "curve", "tables")
RADII_OF = ("fonts TRADES", "fonts L2", "fonts L1")
"""The models whose least radii are compared, one for each norm."""


class Evaluation:
    """All stages over one folder.

    Args:
        options: What the command line says.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.out = options, Path(options.out)
        self.folders = {"models": str(self.out / "models"), "root": options.root}

    def run(self) -> None:
        """The stages in their order."""
        for stage in STAGES:
            if stage in self.options.stages:
                getattr(self, stage)()

    def models(self) -> None:
        """Train."""
        names = [name for name in MODELS if name in {*self.options.models, *RADII_OF}]
        train(self.out / "models", Train(self.options.root), names, self.options.seed)

    def oracles(self) -> None:
        """What others break; the same images of all models before the next ones."""
        for first in self._firsts():
            axes = {"model": self.options.models, "oracle": list(ORACLES), "first": [first]}
            self._cells("oracles", Judge(**self.folders), self._of_images(**axes))

    def verdicts(self) -> None:
        """What `standard` breaks."""
        axes = {"model": self.options.models, "first": self._firsts(), "radii": [False]}
        self._cells("verdicts", Standard(**self.folders), self._of_images(**axes))

    def linear(self) -> None:
        """Verdicts that are known exactly."""
        axes = {"classes": CLASSES, "scale": SCALES, "count": [self.options.images], "seed": [self.options.seed]}
        self._cells("linear", LinearModels(), cells.expand(**axes))

    def radii(self) -> None:
        """Least radii, of others and of `standard`."""
        count, seed = self.options.radii, self.options.seed
        wanted = [
            {"model": name, "attack": attack, "count": count, "seed": seed}
            for name in RADII_OF
            for attack in others(MODELS[name].norm, MODELS[name].eps, seed)
        ]
        self._cells("radii", Others(**self.folders), wanted)
        self._with_radii(count)

    def curve(self) -> None:
        """Robust accuracy over the radius, by one run and by a run for each radius."""
        axes = {"model": RADII_OF, "fraction": FRACTIONS, "count": [self.options.chunk], "seed": [self.options.seed]}
        self._cells("curve", Curve(**self.folders), cells.expand(**axes))
        self._with_radii(self.options.chunk)

    def tables(self) -> None:
        """Write the tables to `tables.md`."""
        ours, oracles, linear, radii, curve = (
            self._rows(name) for name in ("verdicts", "oracles", "linear", "radii", "curve")
        )
        parts = {
            "Verdicts": verdicts(ours, oracles),
            "Images that an oracle breaks and `standard` does not": differences(ours, oracles),
            "Linear models": linear_models(linear),
            "Least radii": optimalities(ours, radii),
            "Robust accuracy over the radius": curves(ours, curve),
        }
        text = "\n".join(f"## {title}\n\n{table}" for title, table in parts.items())
        write_text(self.out / "tables.md", text)
        print(text)

    def _with_radii(self, count: int) -> None:
        axes = {"model": RADII_OF, "first": [0], "count": [count], "seed": [self.options.seed], "radii": [True]}
        self._cells("verdicts", Standard(**self.folders), cells.expand(**axes))

    def _firsts(self) -> list[int]:
        return list(range(0, self.options.images, self.options.chunk))

    def _of_images(self, **axes: Iterable[cells.Scalar]) -> list[cells.Row]:
        chunk, images = self.options.chunk, self.options.images
        points = cells.expand(**axes, seed=[self.options.seed])
        return [{**point, "count": min(chunk, images - int(str(point["first"])))} for point in points]

    def _cells(self, name: str, work: cells.Work, wanted: Sequence[cells.Row]) -> None:
        cells.run_cells(wanted, work, self.out / name, executor=cells.Inline(), threads=self.options.threads or None)

    def _rows(self, name: str) -> list[cells.Row]:
        folder = self.out / name
        return cells.read_rows(folder) if folder.is_dir() else []


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/evaluation", help="folder of everything that is computed")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--images", type=int, default=1000, help="test images of each model")
    parser.add_argument("--chunk", type=int, default=250, help="images of a cell")
    parser.add_argument("--radii", type=int, default=100, help="test images whose least radii are compared")
    parser.add_argument("--root", default="data", help="folder of Fashion-MNIST; Debian's package is found by itself")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of torch; 0 leaves them as they are")
    options = parser.parse_args(args)
    logging.getLogger(pl.__name__).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    Evaluation(options).run()


if __name__ == "__main__":
    main()

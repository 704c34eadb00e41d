import csv
import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from lightning_robust.attacks import Context
from lightning_robust.cells.errors import StudyArgumentError, StudyError
from lightning_robust.datamodules import Fonts, TensorDataModule
from lightning_robust.manifolds import FontsManifold, project
from lightning_robust_studies.stutz2019 import cells
from lightning_robust_studies.stutz2019 import study as manifold
from lightning_robust_studies.stutz2019.attacks import NORMS, attacked
from lightning_robust_studies.stutz2019.cells import TrainModel, load_model, nearest_on_true
from lightning_robust_studies.stutz2019.cells import threats as threats_of
from lightning_robust_studies.stutz2019.claims import claims
from lightning_robust_studies.stutz2019.data import DATA, ManifoldData
from lightning_robust_studies.stutz2019.settings import PRESETS, ManifoldSettings
from lightning_robust_studies.stutz2019.study import run_manifold_study

TINY = ManifoldSettings(
    sizes=(100, 200),
    schemes=("normal", "on-learned-class"),
    seeds=1,
    epochs=1,
    min_steps=0,
    train_steps=2,
    attack="pgd",
    test_steps=2,
    attempts=2,
    test_size=300,
    attacked=100,
    manifold_size=200,
    manifold_epochs=1,
    manifold_width=1 / 16,
    neighbour_images=120,
    workers=1,
    launcher="inline",
    progress=False,
)


def linear(options):
    """A classifier whose training is convex: rounding does not decide where it ends."""
    size = math.prod(options.source.image_shape)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(size, len(options.source.classes)))


@pytest.fixture(scope="module", autouse=True)
def linear_models():
    """All models of this module are linear."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "_network", linear)
        yield


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A study that was stopped in its third model and then run again; what was computed in all."""
    out, computed = tmp_path_factory.mktemp("study"), []
    options = replace(TINY, out=str(out))
    train = TrainModel.__call__

    def counted(self, cell, folder):
        computed.append((cell["n"], cell["scheme"]))
        if len(computed) == 3:
            raise KeyboardInterrupt
        return train(self, cell, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainModel, "__call__", counted)
        with pytest.raises(KeyboardInterrupt):
            run_manifold_study(options)
        assert not (out / "report.html").exists()
        tables = run_manifold_study(options)
    return options, out, tables, computed


def test_a_stopped_study_continues_and_computes_nothing_twice(interrupted):
    _, _, _, computed = interrupted
    assert len(computed) == 5
    assert computed[2] == computed[3]
    assert len(set(computed)) == 4


def examples_of(options, n, scheme):
    """What the study's attacks did to a model, done again."""
    return cells.examples(load_model(options, n, scheme, 0), options, *cells.test_images(options))


def along_learned(options, n, scheme):
    """The same along learned codes; and the images that count."""
    x, y, _ = cells.test_images(options)
    images, z, kept = cells.reconstructed(options, x, y)
    attack = cells.testing(cells.along_learned(options), options)
    return attacked(load_model(options, n, scheme, 0), attack, images, y, (z,)), kept


def metrics_of(name, found, kept=None, *, latent, classes):
    """The metrics that attacks have by what they did: rates where an image counts, distances where one is hit."""
    counted = found if kept is None else found.take(kept.nonzero()[:, 0])
    read = counted.y[counted.right].unique().tolist()
    ends = {f" in class {classes[label]}" for label in read}
    ends |= {"", ", worst attempt"} if read else set()
    ends |= {", the paper's count"} if read and kept is not None else set()
    if counted.hit.any():
        ends |= {f", {norm} {of}" for norm in NORMS for of in (("distance", "of codes") if latent else ("distance",))}
        ends |= {", first success after steps"}
    return {f"{name}{end}" for end in ends}


@pytest.mark.parametrize("n", TINY.sizes)
@pytest.mark.parametrize("scheme", TINY.schemes)
def test_every_cell_has_the_rows_of_what_its_attacks_did(interrupted, n, scheme):
    options, _, tables, _ = interrupted
    rows = [row for row in tables.models if (row["n"], row["scheme"]) == (n, scheme)]
    found, classes = examples_of(options, n, scheme), options.source.classes
    expected = {"test error", "error on reconstructions"}
    expected |= metrics_of("off-manifold success", found["off"], latent=False, classes=classes)
    expected |= metrics_of("on-manifold success", found["on"], latent=True, classes=classes)
    learned = along_learned(options, n, scheme)
    expected |= metrics_of("learned-manifold success", *learned, latent=True, classes=classes)
    assert {row["metric"] for row in rows} == expected
    shares = [row for row in rows if str(row["metric"]).endswith(("success", "error", "attempt", "count"))]
    assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 1 for row in shares)


def test_later_stages_are_of_the_largest_size(interrupted):
    options, _, tables, _ = interrupted
    assert len(tables.transfer) == 2 * 2 * 2
    assert {row["n"] for row in (*tables.transfer, *tables.distances)} == {200}
    hit = {threat for threat, found in examples_of(options, 200, "normal").items() if found.hit.any()}
    assert {(row["threat"], row["manifold"]) for row in tables.distances} == {
        (threat, manifold) for threat in hit for manifold in ("true", "tangent", "learned", "none")
    }
    assert {row["manifold"] for row in tables.manifolds} == {"class"}


def test_the_results_are_those_of_the_kept_weights(interrupted):
    options, _, tables, _ = interrupted
    model = load_model(options, 200, "normal", 0)
    x, y, code = Fonts("hard", test_size=300).tensors("test")
    with torch.no_grad():
        right = model(x).argmax(1) == y
    rows = {row["metric"]: row for row in tables.models if row["n"] == 200 and row["scheme"] == "normal"}
    assert rows["test error"]["value"] == pytest.approx(1 - right.float().mean().item())
    x, y, code, right = x[:100], y[:100], (code.theta[:100], code.font[:100]), right[:100]
    threats = threats_of(options)
    for name, threat in (("off", threats.pixels), ("on", threats.on_true)):
        fooled = cells.testing(threat, options).run(model, x, y, Context(code=code)).fooled
        found = rows[f"{name}-manifold success"]
        assert found["count"] == int(right.sum())
        assert found["value"] == pytest.approx(fooled[:, right].float().mean().item())
        assert found["value"] <= rows[f"{name}-manifold success, worst attempt"]["value"]


def test_the_learning_rate_falls_by_its_factor_with_each_pass():
    module = TrainModel(replace(TINY, epochs=2, decay=0.5))._train(200, "normal", 0)
    (optimizer,) = module.trainer.optimizers
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 0.5 ** (1 + 2))


def test_distances_agree_with_the_examples_that_are_kept(interrupted):
    _, _, tables, _ = interrupted
    rows = [row for row in tables.distances if row["n"] == 200 and row["metric"] != "size"]
    for row in rows:
        values = tables.examples[f"{row['threat']} {row['manifold']} {row['metric']}"]
        values = values[~values.isnan()]
        assert row["count"] == len(values)
        assert row["value"] == pytest.approx(values.double().mean().item())
    for threat in {row["threat"] for row in rows}:
        assert bool((tables.examples[f"{threat} true distance"] <= tables.examples[f"{threat} size"] + 1e-5).all())


def test_more_starts_find_on_manifold_examples_again():
    _, y, code = Fonts("hard").tensors("test", limit=60)
    true_manifold = FontsManifold("hard")
    low, high = true_manifold.bounds
    delta = 0.3 * torch.sign(torch.randn(code.theta.shape, generator=torch.Generator().manual_seed(1)))
    moved = true_manifold.decode((code.theta + delta).clamp(low, high), y, code.font)
    distances = [(nearest_on_true(moved, y, code, TINY, n) - moved).flatten(1).norm(dim=1) for n in (1, 3)]
    torch.testing.assert_close(
        distances[0], project(true_manifold, moved, y, code, bounds=(low, high)).distance, atol=1e-4, rtol=0
    )
    assert bool((distances[1] <= distances[0] + 1e-6).all())
    assert distances[1].mean() < 0.5 * distances[0].mean()


def test_tables_figures_and_report_are_written(interrupted):
    _, out, tables, _ = interrupted
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value"]) for row in rows] == [row["value"] for row in tables.models]
    names = {"error", "success", "regression", "transfer_off", "transfer_on", "examples"}
    names |= {"distances", "angles"} if tables.distances else set()
    names |= {
        {"surface": "surface", "plane": "embedding"}[key] for key in ("surface", "plane") if key in tables.pictures
    }
    assert {path.stem for path in out.glob("*.png")} == names
    assert all((out / f"{name}.png").stat().st_size > 1000 for name in names)
    page = (out / "report.html").read_text()
    assert page.count("<img") == len(names)
    assert str(out) not in page


def test_the_command_tells_the_claims_and_where_the_report_is(interrupted, capsys, monkeypatch):
    options, out, tables, _ = interrupted
    monkeypatch.setattr(manifold, "run_manifold_study", lambda options: tables)
    manifold._run_and_tell(options)
    said = capsys.readouterr().out
    for claim in claims(tables.models, tables.distances):
        assert f"{claim.title} {claim.verdict.value.capitalize()}.\n  {claim.text}\n" in said
    assert said.endswith(f"Report: {out / 'report.html'}\n")


def test_a_larger_grid_keeps_finished_cells(interrupted):
    options, out, tables, _ = interrupted
    before = {path: path.stat().st_mtime_ns for path in out.glob("models/*/*")}
    more = run_manifold_study(replace(options, sizes=(100, 200, 300), schemes=("normal",)))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(out.glob("models/*/rows.json"))) == 5
    assert [row for row in more.models if row["n"] < 300] == [r for r in tables.models if r["scheme"] == "normal"]


def test_other_settings_in_the_same_folder_are_refused(interrupted):
    options, *_ = interrupted
    with pytest.raises(
        StudyArgumentError, match=r"`eps` was 0\.1 and is 0\.2\. Results of different settings do not mix"
    ):
        run_manifold_study(replace(options, eps=0.2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schemes": ("on-tru",)}, "Did you mean 'on-true'"),
        ({"data": "letters"}, "`data`"),
        ({"data": "mnist", "schemes": ("on-true",)}, "the true manifold, which is not known for mnist"),
        ({"sizes": ()}, "`sizes` to hold"),
        ({"manifold_width": 0}, "`manifold_width` to be positive"),
        ({"manifold_gamma": -1}, "`manifold_gamma`"),
        ({"manifold_precision": "64"}, "`manifold_precision` to be among"),
        ({"learned_seeds": -1}, "`learned_seeds` to be an integer of at least 0"),
        ({"sizes": (500, 0)}, "Expected argument `sizes` to be an integer of at least 1, but got 0"),
        ({"attempts": 0}, "Expected argument `attempts` to be an integer of at least 1, but got 0"),
        ({"attack": "fgsm"}, "Expected argument `attack` to be among"),
        ({"decay": 0.0}, "Expected argument `decay` to be in"),
        ({"eps": 0.0}, "Expected argument `eps` to be positive, but got 0.0"),
        ({"attacked": 301}, "Expected argument `attacked` to be at most `test_size`, 300, but got 301"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    with pytest.raises(StudyArgumentError, match=message):
        replace(TINY, **change)


@pytest.fixture
def patches(monkeypatch):
    """Random images in place of MNIST."""
    x, y = torch.rand(150, 1, 12, 12, generator=torch.Generator().manual_seed(0)), torch.arange(150) % 3
    data = partial(TensorDataModule, train=(x, y), test=(x[:60], y[:60]), val_size=15)

    def module(*, root, val_size=15, **options):
        return data(**{**options, "val_size": min(val_size, 15)})

    source = ManifoldData(module=module, classes=tuple("abc"), image_shape=(1, 12, 12), latent=4)
    monkeypatch.setitem(DATA, "mnist", source)
    return source


def test_data_without_a_known_manifold_is_attacked_along_the_learned_one(patches, tmp_path):
    options = replace(
        TINY,
        out=str(tmp_path),
        data="mnist",
        sizes=(60,),
        schemes=("normal", "on-learned-class", "off-and-transformations"),
        attacked=60,
        test_size=60,
        manifold_size=60,
        neighbour_images=60,
    )
    tables = run_manifold_study(options)
    for scheme in options.schemes:
        found = {row["metric"] for row in tables.models if row["scheme"] == scheme}
        along = metrics_of("on-manifold success", *along_learned(options, 60, scheme), latent=True, classes="abc")
        assert {metric for metric in found if metric.startswith("on-")} == along
    assert not any("learned-manifold" in row["metric"] for row in tables.models)
    hit = {threat for threat, each in examples_of(options, 60, "normal").items() if each.hit.any()}
    assert {(row["threat"], row["manifold"]) for row in tables.distances} == {
        (threat, manifold) for threat in hit for manifold in ("tangent", "learned", "none")
    }
    assert (tmp_path / "report.html").stat().st_size > 1000


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("data", [name for name in DATA if name != "fonts"])
def test_schemes_that_a_data_set_cannot_have_are_left_out(data, preset):
    options = ManifoldSettings(**{**PRESETS[preset], "data": data})
    asked = [name for name in options.schemes if "true" not in name]
    assert list(options.possible) == asked
    assert options.left_out.startswith("Left out: on-true")
    assert options.left_out.endswith(f"since the true manifold of {data} is not known.")
    letters = replace(options, data="fonts")
    assert (letters.possible, letters.left_out) == (letters.schemes, "")


def test_the_command_as_typed_starts_and_says_what_it_leaves_out(patches, tmp_path, monkeypatch, capsys):
    staged = []

    def stop(cells, *args, **kwargs):
        staged.append(cells)
        raise StudyError("stopped")

    monkeypatch.setattr(manifold, "run_stage", stop)
    options = ["--sizes", "60", "--manifold_size", "60", "--neighbour_images", "60", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        manifold.main(["--data", "mnist", *options])
    assert staged == [[{"manifold": "class"}]]
    assert capsys.readouterr().err.startswith("Left out: on-true, since the true manifold of mnist is not known.\n")


def test_more_images_than_there_are_is_said_before_anything_runs(patches, tmp_path):
    options = replace(TINY, out=str(tmp_path), data="mnist", sizes=(300,), schemes=("normal",), manifold_size=60)
    with pytest.raises(StudyArgumentError, match=r"`sizes` to be numbers .* to be at most 135"):
        run_manifold_study(options)
    assert not list(tmp_path.iterdir())


def test_data_that_is_not_there_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [(tmp_path / "nowhere").as_uri() + "/"])
    with pytest.raises(SystemExit) as stopped:
        manifold.main(["--data", "mnist", "--root", str(tmp_path / "mine"), "--out", str(tmp_path / "out")])
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(f"lightning-robust study manifold: MNIST is not in '{tmp_path / 'mine'}' and could not be")
    assert said.count("\n") == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_the_command_line_starts_from_a_preset(preset, monkeypatch):
    given = []
    monkeypatch.setattr(manifold, "_run_and_tell", given.append)
    manifold.main(["--preset", preset, "--seeds", "4", "--schemes", "normal", "on-true", "--out", "here"])
    assert given == [
        ManifoldSettings(**{**PRESETS[preset], "seeds": 4, "schemes": ["normal", "on-true"], "out": "here"})
    ]


def test_the_command_line_takes_several_sizes(monkeypatch):
    given = []
    monkeypatch.setattr(manifold, "_run_and_tell", given.append)
    manifold.main(["--sizes", "500", "1000", "--eta=0.5"])
    assert given[0].sizes == (500, 1000)
    assert given[0].eta == 0.5
    assert given[0].schemes == ManifoldSettings().schemes


def test_the_command_line_says_what_is_wrong_without_a_traceback(capsys):
    with pytest.raises(SystemExit) as stopped:
        manifold.main(["--schemes", "on-tru"])
    assert stopped.value.code == 2
    assert "Did you mean 'on-true'" in capsys.readouterr().err

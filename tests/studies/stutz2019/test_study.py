import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from lightning_robust._command import SettingsError
from lightning_robust.attacks import Context
from lightning_robust.cells import CellsError
from lightning_robust.datamodules import Fonts, TensorDataModule
from lightning_robust.manifolds import FontsManifold, project
from lightning_robust_studies.stutz2019 import command, study, trained
from lightning_robust_studies.stutz2019.attacks import NORMS
from lightning_robust_studies.stutz2019.claims import claims
from lightning_robust_studies.stutz2019.data import DATA, ManifoldData
from lightning_robust_studies.stutz2019.kinds import along
from lightning_robust_studies.stutz2019.learned import load_manifold, reconstructed
from lightning_robust_studies.stutz2019.pictures import picture_figures
from lightning_robust_studies.stutz2019.schemes import SCHEMES
from lightning_robust_studies.stutz2019.settings import PRESETS, EvaluationSettings, ManifoldSettings, ModelSettings
from lightning_robust_studies.stutz2019.study import run_manifold_study
from lightning_robust_studies.stutz2019.works import TrainModel

TINY = ManifoldSettings(
    sizes=(100, 200),
    schemes=("normal", "on-learned-class"),
    seeds=1,
    epochs=1,
    train_steps=2,
    attack="pgd",
    test_steps=2,
    restarts=2,
    test_size=100,
    attacked=40,
    manifold_size=200,
    manifold_epochs=1,
    manifold_width=1 / 16,
    neighbor_images=120,
    along=("class",),
    judged=0,
    launcher="inline",
    progress=False,
)


def linear(settings, scheme):
    """A classifier whose training is convex: rounding does not decide where it ends."""
    size = math.prod(settings.source.image_shape)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(size, len(settings.source.classes)))


@pytest.fixture(scope="module", autouse=True)
def linear_models():
    """All models of this module are linear."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained, "network", linear)
        yield


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A study that was stopped in its third model and then run again; what was computed in all."""
    out, computed = tmp_path_factory.mktemp("study"), []
    settings = replace(TINY, out=str(out))
    train = TrainModel.__call__

    def counted(self, cell, folder):
        computed.append((cell["n"], cell["scheme"]))
        if len(computed) == 3:
            raise KeyboardInterrupt
        return train(self, cell, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainModel, "__call__", counted)
        with pytest.raises(KeyboardInterrupt):
            run_manifold_study(settings)
        assert not (out / "report.html").exists()
        tables = run_manifold_study(settings)
    return settings, out, tables, computed


def test_a_stopped_study_continues_and_computes_nothing_twice(interrupted):
    _, _, _, computed = interrupted
    assert len(computed) == 5
    assert computed[2] == computed[3]
    assert len(set(computed)) == 4


def model_of(settings, n, scheme):
    return trained.load_model(settings, {"n": n, "scheme": scheme, "seed": 0})


def metrics_of(name, images, classes):
    """The metrics that attacks have by what they did: rates where an image counts, distances where one is hit."""
    name = f"{name} success"
    counted, latent = images.counted(), images.delta.shape != images.x.shape
    read = counted.y[counted.right].unique().tolist()
    ends = {f" in class {classes[label]}" for label in read}
    ends |= {"", ", worst restart"} if read else set()
    ends |= {", the paper's count"} if read and images.valid is not None else set()
    if counted.hit.any():
        ends |= {f", {norm} {of}" for norm in NORMS for of in (("distance", "of codes") if latent else ("distance",))}
        ends |= {", first success after steps"}
    return {f"{name}{end}" for end in ends}


@pytest.mark.parametrize("n", TINY.sizes)
@pytest.mark.parametrize("scheme", TINY.schemes)
def test_every_cell_has_the_rows_of_what_its_attacks_did(interrupted, n, scheme):
    settings, _, tables, _ = interrupted
    rows = tables.models[(tables.models["n"] == n) & (tables.models["scheme"] == scheme)]
    model, classes = model_of(settings, n, scheme), settings.source.classes
    expected = {"test error", "on-learned-class error on reconstructions"}
    for threat, images in trained.examples(model, settings).items():
        expected |= metrics_of(f"{threat}-manifold", images, classes)
    expected |= metrics_of("on-learned-class", trained.examples_along(model, "class", settings), classes)
    assert sorted(rows["metric"]) == sorted(expected)
    shares = rows[rows["metric"].str.endswith(("success", "error", "reconstructions", "restart", "count"))]
    assert (shares[["low", "value", "high"]].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    assert shares[["low", "high"]].stack().between(0, 1).all()


def test_later_stages_are_of_the_largest_size(interrupted):
    settings, _, tables, _ = interrupted
    assert len(tables.transfer) == 2 * 2 * 2
    assert {*tables.transfer["n"], *tables.distances["n"]} == {200}
    hit = {t for t, each in trained.examples(model_of(settings, 200, "normal"), settings).items() if each.hit.any()}
    assert set(zip(tables.distances["threat"], tables.distances["manifold"], strict=True)) == {
        (threat, manifold) for threat in hit for manifold in ("true", "tangent", "learned", "none")
    }
    assert set(zip(tables.manifolds["manifold"], tables.manifolds["seed"], strict=True)) == {("class", 0), ("class", 1)}


def test_the_results_are_those_of_the_kept_weights(interrupted):
    settings, _, tables, _ = interrupted
    model = model_of(settings, 200, "normal")
    x, y, code = Fonts("hard", test_size=100).tensors("test")
    with torch.no_grad():
        right = model(x).argmax(1) == y
    rows = tables.models[(tables.models["n"] == 200) & (tables.models["scheme"] == "normal")].set_index("metric")
    assert rows.loc["test error", "value"] == pytest.approx(1 - right.float().mean().item())
    x, y, code, right = x[:40], y[:40], (code.theta[:40], code.font[:40]), right[:40]
    threats = trained.threats(settings)
    for name, threat in (("off", threats.pixels), ("on", threats.on_true)):
        fooled = trained.attack_of(threat, settings).run(model, x, y, Context(code=code)).fooled
        row = rows.loc[f"{name}-manifold success"]
        assert row["count"] == int(right.sum())
        assert row["value"] == pytest.approx(fooled[:, right].float().mean().item())
        assert row["value"] <= rows.loc[f"{name}-manifold success, worst restart", "value"]


@pytest.mark.parametrize(("scheme", "factor"), [("normal", 0.5 ** (1 + 2)), ("normal-resnet", 0.95 ** (1 + 4 * 2))])
def test_the_learning_rate_falls_by_its_factor_with_each_pass(scheme, factor):
    module = TrainModel(replace(TINY, epochs=2, decay=0.5, resnet_width=4)).train(100, scheme, 0)
    (optimizer,) = module.trainer.optimizers
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * factor)


def test_distances_agree_with_the_examples_that_are_kept(interrupted):
    _, _, tables, _ = interrupted
    rows = tables.distances[tables.distances["metric"] != "size"]
    for row in rows.to_dict("records"):
        values = tables.examples[f"{row['threat']} {row['manifold']} {row['metric']}"]
        values = values[~values.isnan()]
        assert row["count"] == len(values)
        assert row["value"] == pytest.approx(values.double().mean().item())
    for threat in set(rows["threat"]):
        assert bool((tables.examples[f"{threat} true distance"] <= tables.examples[f"{threat} size"] + 1e-5).all())


def test_more_starts_find_on_manifold_examples_again():
    _, y, code = Fonts("hard").tensors("test", limit=20)
    true_manifold = FontsManifold("hard")
    low, high = true_manifold.bounds
    delta = 0.3 * torch.sign(torch.randn(code.theta.shape, generator=torch.Generator().manual_seed(1)))
    moved = true_manifold.decode((code.theta + delta).clamp(low, high), y, code.font)
    distances = [(trained.nearest_on_true(moved, y, code, TINY, n) - moved).flatten(1).norm(dim=1) for n in (1, 3)]
    torch.testing.assert_close(
        distances[0], project(true_manifold, moved, y, code, bounds=(low, high)).distance, atol=1e-4, rtol=0
    )
    assert bool((distances[1] <= distances[0] + 1e-6).all())
    assert distances[1].mean() < 0.5 * distances[0].mean()


def test_tables_figures_and_report_are_written(interrupted):
    _, out, tables, _ = interrupted
    pd.testing.assert_frame_equal(pd.read_csv(out / "results.csv"), tables.models.reset_index(drop=True))
    names = {"error", "success", "regression", "transfer_off", "transfer_on", "examples"}
    names |= {"leak_class", "decoders_class"}
    names |= {"distances", "angles"} if len(tables.distances) else set()
    names |= {
        {"surface": "surface", "plane": "embedding"}[key] for key in ("surface", "plane") if key in tables.pictures
    }
    assert {path.stem for path in out.glob("*.png")} == names
    assert all((out / f"{name}.png").stat().st_size > 1000 for name in names)
    page = (out / "report.html").read_text()
    assert page.count("<img") == len(names)
    assert str(out) not in page


def test_attacks_along_a_learned_manifold_are_shown_from_where_they_start(interrupted):
    settings, _, tables, _ = interrupted
    kept, (x, y, _) = tables.pictures, trained.test_images(settings)
    images, _ = reconstructed(load_manifold(settings, "class"), x[:8], y[:8])
    assert torch.equal(kept["class x"], images)
    assert torch.equal(kept["off x"], x[:8])
    assert [name for name in kept if name.endswith(" decoded")] == ["class decoded"]
    sheet = picture_figures(kept, settings)["examples"][0]
    headings = [part.axes[0].get_title() for part in sheet.subfigs]
    assert headings == ["clean", "clean", "reconstruction", "clean"]  # pixels, true, learned, affine maps


def test_the_command_tells_the_claims_and_where_the_report_is(interrupted, capsys, monkeypatch):
    settings, out, tables, _ = interrupted
    monkeypatch.setattr(study, "run_manifold_study", lambda settings: tables)
    study.run_and_print(settings)
    said = capsys.readouterr().out
    for claim in claims(tables.models, tables.distances, tables.leaks):
        assert f"{claim.title} {claim.verdict.value.capitalize()}.\n  {claim.text}\n" in said
    assert said.endswith(f"Report: {out / 'report.html'}\n")


@pytest.mark.usefixtures("undrawn")
def test_a_larger_grid_keeps_finished_cells(interrupted):
    settings, out, tables, _ = interrupted
    before = {path: path.stat().st_mtime_ns for path in out.glob("models/*/*")}
    more = run_manifold_study(replace(settings, sizes=(100, 200, 300), schemes=("normal",)))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(out.glob("models/*/rows.json"))) == 5
    # Without a scheme that needs it, the learned manifold is left alone.
    first, again = (t.models[(t.models["n"] < 300) & (t.models["scheme"] == "normal")] for t in (tables, more))
    first = first[~first["metric"].str.startswith("on-learned")]
    pd.testing.assert_frame_equal(again.reset_index(drop=True), first.reset_index(drop=True))


@pytest.mark.parametrize(
    ("change", "stage", "message"),
    [
        ({"eps": 0.2}, "models", r"`settings\.eps` was 0\.1 and is 0\.2"),
        ({"restarts": 3}, "evaluation-pgd", r"`settings\.restarts` was 2 and is 3"),
        ({"neighbor_images": 100}, "distances-pgd", r"`settings\.neighbor_images` was 120 and is 100"),
    ],
)
def test_the_first_stage_that_other_settings_change_refuses_them(interrupted, change, stage, message):
    settings, out, *_ = interrupted
    with pytest.raises(CellsError, match=f"in {out / stage} were made otherwise: {message}\\. Results of different"):
        run_manifold_study(replace(settings, **change))


def test_a_stage_is_given_its_settings_and_those_before_it():
    names = set(vars(TINY.only(ModelSettings)))
    assert {"out", "data", "manifold_size", "eps", "epochs"} <= names
    assert not {"test_steps", "neighbor_images", "sizes", "seeds", "workers"} & names
    assert names < set(vars(TINY.only(EvaluationSettings))) < set(vars(TINY))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schemes": ("on-tru",)}, "Expected argument `schemes` to be one of "),
        ({"schemes": ("normal", "normal")}, "`schemes` to hold at least one value and none twice"),
        ({"data": "letters"}, "Expected argument `data` to be one of"),
        ({"data": "mnist", "schemes": ("on-true",)}, "the true manifold, which is not known for mnist"),
        ({"schemes": ("normal-resnet",), "resnet_from": 201}, "`resnet_from` to be at most the largest of `sizes`"),
        ({"sizes": ()}, "`sizes` to hold at least one"),
        ({"sizes": (500, 0)}, r"Expected argument `sizes\[1\]` to be an integer of at least 1, but got 0"),
        ({"manifold_width": 0}, "`manifold_width` to be a number greater than 0"),
        ({"manifold_gamma": -1}, "`manifold_gamma` to be a number of at least 0"),
        ({"manifold_precision": "64"}, "`manifold_precision` to be one of"),
        ({"along": ("classes",)}, "Expected argument `along` to be one of "),
        ({"eta_flow": 0}, "`eta_flow` to be a number greater than 0"),
        ({"judged": -1}, "`judged` to be an integer of at least 0"),
        ({"learned_seeds": -1}, "`learned_seeds` to be an integer of at least 0"),
        ({"restarts": 0}, "Expected argument `restarts` to be an integer of at least 1, but got 0"),
        ({"attack": "fgsm"}, "Expected argument `attack` to be one of"),
        ({"decay": 0.0}, r"Expected argument `decay` to be a number in \(0, 1\]"),
        ({"eps": 0.0}, "Expected argument `eps` to be a number greater than 0, but got 0.0"),
        ({"attacked": 101}, "Expected argument `attacked` to be at most `test_size`, 100, but got 101"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
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


@pytest.mark.usefixtures("undrawn")
def test_data_without_a_known_manifold_is_attacked_along_the_learned_one(patches, tmp_path):
    settings = replace(
        TINY,
        out=str(tmp_path),
        data="mnist",
        sizes=(60,),
        schemes=("normal", "on-pca-class-both", "off-and-transformations"),
        along=("class", "residual-data"),
        attacked=60,
        test_size=60,
        manifold_size=60,
        neighbor_images=60,
    )
    tables = run_manifold_study(settings)
    for scheme in settings.schemes:
        metrics = tables.models.loc[tables.models["scheme"] == scheme, "metric"]
        expected = set()
        for name in settings.along:
            images = trained.examples_along(model_of(settings, 60, scheme), name, settings)
            expected |= {*metrics_of(along(name), images, "abc"), f"{along(name)} error on reconstructions"}
        assert set(metrics[metrics.str.startswith("on-")]) == expected
    assert not tables.models["metric"].str.contains("on-manifold").any()
    assert set(tables.leaks["manifold"]) == set(settings.along)
    assert {*tables.manifolds["manifold"]} == {"class", "data", "pca-class"}
    hit = {
        threat
        for threat, images in trained.examples(model_of(settings, 60, "normal"), settings, "class").items()
        if images.counted().hit.any()
    }
    assert set(zip(tables.distances["threat"], tables.distances["manifold"], strict=True)) == {
        (threat, manifold) for threat in hit for manifold in ("tangent", "learned", "none")
    }
    assert (tmp_path / "report.html").stat().st_size > 1000


@pytest.mark.usefixtures("undrawn")
def test_distances_do_not_take_the_judge_for_the_manifold_of_the_classes(patches, tmp_path):
    sizes = dict.fromkeys(("attacked", "test_size", "manifold_size", "neighbor_images"), 60)
    options = {"data": "mnist", "sizes": (60,), "schemes": ("normal",), "along": ("pca",), **sizes}
    tables = run_manifold_study(replace(TINY, out=str(tmp_path), judged=1, **options))
    assert set(zip(tables.manifolds["manifold"], tables.manifolds["seed"], strict=True)) == {("pca", 0), ("class", 1)}
    assert "off" in set(tables.distances["threat"])
    assert set(tables.distances["manifold"]) == {"tangent", "none"}


def test_some_models_are_of_large_sizes_alone_and_others_of_one_seed():
    settings = replace(TINY, sizes=(100, 200, 300), schemes=("normal", "normal-resnet"), seeds=3, one_seed_from=300)
    cells = [tuple(cell.values()) for cell in settings.cells()]
    plain = [(100, s) for s in range(3)] + [(200, s) for s in range(3)] + [(300, 0)]
    assert [(n, seed) for n, scheme, seed in cells if scheme == "normal"] == plain
    assert [cell for cell in cells if cell[1] == "normal-resnet"] == [(300, "normal-resnet", 0)]
    earlier = replace(settings, resnet_from=200, resnet_seeds=2).cells()
    assert [tuple(cell.values())[::2] for cell in earlier if cell["scheme"] == "normal-resnet"] == [
        *((200, 0), (200, 1), (300, 0))
    ]


def test_the_manifolds_that_are_learned_are_those_that_something_needs():
    settings = replace(TINY, data="mnist", schemes=("normal", "on-residual-data"), along=("pca", "residual-class"))
    cells = [(cell["manifold"], cell["seed"]) for cell in settings.manifolds]
    assert cells == [("class", 0), ("data", 0), ("pca", 0), ("class", 1)]
    assert settings.on == "pca"
    letters = replace(settings, data="fonts", schemes=("normal",))
    assert (letters.manifolds, letters.measured, letters.on) == ([], [], None)
    assert replace(settings, leak_seeds=0).manifolds == settings.manifolds[:-1]
    few = replace(settings, schemes=("normal",), along=("pca",))
    assert [replace(few, judged=judged).manifolds for judged in (0, 1)] == [
        [{"manifold": "pca", "seed": 0}],
        [{"manifold": "pca", "seed": 0}, {"manifold": "class", "seed": 1}],
    ]


def preset_of(name):
    return yaml.safe_load(Path(PRESETS[name]).read_text())


def test_presets_hold_the_defaults_and_the_full_grid():
    assert ManifoldSettings(**preset_of("quick")) == ManifoldSettings()
    paper = ManifoldSettings(**preset_of("paper"))
    assert {name for name in SCHEMES if "on-" not in name and not name.endswith(("-100", "-resnet"))} <= {
        *paper.schemes
    }
    assert set(preset_of("paper")) == set(preset_of("quick"))
    assert set(preset_of("fashion")) == {*preset_of("quick"), "data"}
    assert ManifoldSettings(**preset_of("fashion")).left_out == ""


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("data", [name for name in DATA if name != "fonts"])
def test_schemes_that_a_data_set_cannot_have_are_left_out(data, preset):
    settings = ManifoldSettings(**{**preset_of(preset), "data": data})
    assert list(settings.possible) == [name for name in settings.schemes if "true" not in name]
    if preset != "fashion":
        assert settings.left_out.startswith("Left out: on-true")
        assert settings.left_out.endswith(f"since the true manifold of {data} is not known.")
    letters = replace(settings, data="fonts")
    assert (letters.possible, letters.left_out) == (letters.schemes, "")


def test_the_command_as_typed_starts_and_says_what_it_leaves_out(patches, tmp_path, monkeypatch, capsys):
    staged = []

    def stop(cells, *args, **kwargs):
        staged.append(cells)
        raise CellsError("stopped")

    monkeypatch.setattr(study, "run_stage", stop)
    options = ["--sizes", "60", "--manifold_size", "60", "--neighbor_images", "60", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        command.main(["--data", "mnist", *options])
    assert [(cell["manifold"], cell["seed"]) for cell in staged[0]] == [("class", 0), ("pca-class", 0), ("class", 1)]
    assert capsys.readouterr().err.startswith("Left out: on-true, since the true manifold of mnist is not known.\n")


def test_more_images_than_there_are_is_said_before_anything_runs(patches, tmp_path):
    settings = replace(TINY, out=str(tmp_path), data="mnist", sizes=(300,), schemes=("normal",), manifold_size=60)
    with pytest.raises(SettingsError, match=r"`sizes` to be numbers .* to be at most 135"):
        run_manifold_study(settings)
    assert not list(tmp_path.iterdir())


def test_data_that_is_not_there_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [(tmp_path / "nowhere").as_uri() + "/"])
    with pytest.raises(SystemExit) as stopped:
        command.main(["--data", "mnist", "--root", str(tmp_path / "root"), "--out", str(tmp_path / "out")])
    assert stopped.value.code == 1
    text = capsys.readouterr().err
    assert text.startswith(f"lightning-robust study manifold: MNIST is not in '{tmp_path / 'root'}' and could not be")
    assert text.count("\n") == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_the_command_line_starts_from_a_preset(preset, monkeypatch):
    given = []
    monkeypatch.setattr(study, "run_and_print", given.append)
    command.main(["--preset", preset, "--seeds", "4", "--schemes", "normal", "on-true", "--out", "here"])
    changed = {"seeds": 4, "schemes": ["normal", "on-true"], "out": "here"}
    assert given == [ManifoldSettings(**{**preset_of(preset), **changed})]


def test_the_command_line_takes_several_sizes(monkeypatch):
    given = []
    monkeypatch.setattr(study, "run_and_print", given.append)
    command.main(["--sizes", "500", "1000", "--eta=0.5"])
    assert given == [ManifoldSettings(sizes=(500, 1000), eta=0.5)]


def test_the_command_line_says_what_is_wrong_without_a_traceback(capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["--schemes", "on-tru"])
    assert stopped.value.code == 2
    assert "Expected argument `schemes` to be one of" in capsys.readouterr().err

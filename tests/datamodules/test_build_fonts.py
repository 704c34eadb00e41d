"""The maintainers' script that made the data, and the tables it was made from."""

import gzip
import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "build_fonts.py"
DATA = Path(__file__).parents[2] / "lightning_robust" / "datamodules" / "data"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="tests run without the source repository")


@pytest.fixture(scope="module")
def build():
    pytest.importorskip("fontTools")
    spec = importlib.util.spec_from_file_location("build_fonts", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_fonts"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["build_fonts"]


@pytest.fixture(scope="module")
def data():
    with np.load(DATA / "fonts.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def test_every_face_is_legible_and_its_package_is_pinned(build, data):
    legible = dict(build.legible())
    assert all(legible[path] >= build.LEAST_LEGIBLE for path in data["font_path"].tolist())
    pinned = dict(line.split("=") for line in (SCRIPT.parent / "fonts_packages.txt").read_text().split())
    assert set(data["font_package"].tolist()) == set(pinned)
    rows = [line.split("\t") for line in (DATA / "fonts_notice.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    for row, family, package in zip(rows, data["font_family"].tolist(), data["font_package"].tolist(), strict=True):
        assert row[1] == family
        assert row[4].split("/")[0] == package
        assert row[5] == pinned[package]
        assert row[7], "a copyright notice"


def test_faces_are_distinct(build, data):
    images = data["images"].astype(np.float64) / 255
    # The script measures A to Z; on A to J alone a pair may be a little nearer. Neighbours are of one family.
    for a, b in itertools.pairwise(images):
        assert np.mean([distance(a[k], b[k]) for k in range(10)]) > 0.5 * build.LEAST_DISTANCE
    letters = np.arange(26) % 10
    measured = build.distances(data["images"][:20, letters], list(range(20)))
    few = images[:20, letters]
    expected = [[np.mean([distance(a[k], b[k]) for k in range(26)]) for b in few] for a in few]
    np.testing.assert_allclose(measured, expected, atol=1e-5)


def distance(a, b):
    return ((a - b) ** 2).sum() / ((a**2).sum() + (b**2).sum())


def test_greedy_choice(build, monkeypatch):
    """Faces on a line: near ones go, then the later of the nearest, until so many are left."""
    images = np.zeros((5, 26, 28, 28), np.uint8)
    for i, width in enumerate((4, 8, 8, 16, 18)):
        images[i, :, :, :width] = 255
    monkeypatch.setattr(build, "NUMBER", 2)
    distinct = build.keep_distinct(images, [0, 1, 2, 3, 4])
    assert distinct == [0, 1, 3, 4]
    assert build.thin_out(images, distinct) == [0, 3]
    assert build.keep_distinct(images, [4, 2, 1, 0]) == [4, 2, 0]


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("This Font Software is licensed under the SIL Open Font License, Version 1.1.", "OFL"),
        ("Licensed under the Apache License, Version 2.0", "Apache"),
        ("GPL-2+ with font exception", "GPL+FE"),
        ("GPL-3+", "unknown"),
        ("Expat", "MIT"),
        ("BSD-3-clause", "BSD"),
        ("", "unknown"),
    ],
)
def test_licences_are_recognised(build, text, licence):
    assert build.classify(text) == licence


def face(build, **kwargs):
    fields = dict.fromkeys(("path", "package", "tex_package", "family", "style", "copyright", "licence"), "")
    return build.Face(**{**fields, "weight": 400, "italic": False, **kwargs})


def test_families_and_weights(build):
    names = ("Source Sans Pro", "Source Sans Pro Black", "Source Sans-ExtraLight", "Source Sans 12pt")
    assert {face(build, family=name).family_key for name in names} == {"sourcesans"}
    assert face(build, family="Bold").family_key == "bold"
    weights = [
        build.round_weight(face(build, weight=w, style=s)) for w, s in ((275, ""), (5, "Black"), (950, ""), (0, ""))
    ]
    assert weights == [300, 900, 900, 400]
    faces = [
        face(build, family=f, weight=w, italic=i) for f, w, i in (("a", 700, False), ("a", 400, True), ("b", 100, True))
    ]
    assert build.primaries(faces).tolist() == [True, False, True]


def test_renders_what_the_data_hold(build, data):
    """A face that matplotlib ships in the same version. Another FreeType may differ by a few grey values."""
    matplotlib = pytest.importorskip("matplotlib")
    shipped = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    compared = 0
    for index, path in enumerate(data["font_path"].tolist()):
        font = shipped / Path(path).name
        if "/dejavu/" in path and font.exists():
            rendered = build.render(font)[:10].astype(float)
            assert np.abs(rendered - data["images"][index]).mean() < 0.5
            fields = build.sfnt_fields(font)
            assert fields["family"] == data["font_family"][index]
            assert build.classify(fields["licence"] + fields["copyright"]) in ("Vera", "unknown")
            compared += 1
    assert compared >= 1


def test_the_legibility_table_is_reproducible():
    """No name and no time in the gzip header."""
    raw = (SCRIPT.parent / "fonts_legible.tsv.gz").read_bytes()
    assert raw[3:8] == b"\0" * 5
    assert gzip.decompress(raw).count(b"\n") == len(list(gzip.decompress(raw).splitlines()))

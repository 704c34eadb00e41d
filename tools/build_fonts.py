"""Build the glyphs of the Fonts data set from font files packaged in Debian 12. For maintainers, not for users.

    python tools/build_fonts.py fetch  --work WORK             # download and unpack the packages (Debian 12, 670 MB)
    python tools/build_fonts.py scan   --work WORK             # render every legible face   -> WORK/faces.npz
    python tools/build_fonts.py select --work WORK --out DIR   # choose distinct, free faces -> DIR/*.npz, DIR/*.tsv
    python tools/build_fonts.py sheet  --npz DIR/fonts.npz --out sheet.png

DIR is lightning_robust/datamodules/data. The result is reproducible, bit for bit under one version of FreeType.
`fonts_packages.txt` pins the packages. `fonts_legible.tsv.gz` says of each font file how many of its letters A to J a
small network read right that had never seen the family of the face; below 7 a face is left out: dingbats, runes, boxed
letters, and also some swash and blackletter. Needs numpy, Pillow and fontTools; `fetch` needs apt-get and dpkg.
"""

import argparse
import collections
import csv
import gzip
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont, __version__ as pillow_version, features

HERE = Path(__file__).parent
UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CHARACTERS = UPPER + UPPER.lower() + "0123456789"
LETTERS = UPPER[:10]

SIZE = 28  # of an image
OVERSAMPLING = 4
CAP_HEIGHT = 15  # pixels: the median of A to J
WIDEST = 20  # pixels: none of A to J is wider or higher

LEAST_LEGIBLE = 7  # letters of 10
LEAST_DISTANCE = 0.05  # between two faces, see `distances`
NUMBER = 1000

# What a licence is called in a font's name table, in debian/copyright or in TeX Live's catalogue; the first counts.
LICENCES = {
    "OFL": r"\bofl\b|open[ _-]?font[ _-]?licen[sc]e|scripts\.sil\.org|\bsil[-_]",
    "Apache": r"apache",
    "GFL": r"gust[ -]?font|\bgfl\b|\bgfsl\b",
    "UFL": r"ubuntu[ -]font",
    "Vera": r"bitstream[ -]?vera|dejavu-lic",
    "CC0": r"\bcc-?0|creative ?commons ?zero",
    "GPL+FE": r"gpl.{0,80}(font|embed).{0,20}exception|font[ -]exception|gpl.*fe\b",
    "LPPL": r"lppl|latex project public",
    "MIT": r"\bmit\b|expat|\bx11\b|unlicense|wtfpl",
    "BSD": r"0?bsd",
    "CC-BY-SA": r"cc-by-sa",
    "CC-BY": r"cc-by",
    "PD": r"public[ -]?domain|\bpd\b",
}
TRUSTED_IN_FONT = ("OFL", "Apache", "GFL", "UFL", "Vera", "GPL+FE")

# The licences that are taken, best first, and the name of their text in data/LICENSES.
FREE = {
    "OFL": "OFL-1.1",
    "Apache": "Apache-2.0",
    "CC0": "CC0-1.0",
    "PD": "Public-Domain",
    "MIT": "MIT",
    "BSD": "BSD-3-Clause",
    "Vera": "Bitstream-Vera",
}

# Read by eye in debian/copyright, where the match above is too coarse.
EXACT_LICENCE = {
    "fonts-breip": "OFL-1.0",
    "fonts-century-catalogue": "OFL-1.0",
    "fonts-levien-museum": "OFL-1.0",
    "fonts-oldstandard": "OFL-1.0",
    "fonts-glasstty": "Unlicense",
    "fonts-ocr-b": "Public-Domain",
    "fonts-spleen": "BSD-2-Clause",
}
# Where a font file itself names no holder: from debian/copyright.
COPYRIGHT_IF_SILENT = {
    "fonts-amiga": "Copyright 2019 The Homecomputer Fonts Project Authors, Jens Kutilek",
    "fonts-arkpandora": "Copyright Gavin Graham",
    "fonts-fantasma": "Copyright 2022 Froyo Tam",
    "fonts-georgewilliams": "Copyright 1990-2001 George Williams",
    "fonts-havana": "Copyright 2016 Stowarzyszenie Kulturotwórcze Miastodwa, Joanna Angulska",
    "fonts-mononoki": "Copyright 2013 Matthias Tellen",
    "fonts-national-park": "Copyright 2018 Jeremy Shellhorn",
}

# Symbols and near-copies by name; and newpx, whose fonts say GUST and whose catalogue entry says OFL.
EXCLUDED = re.compile(r"drmdoz|fonts-lyx|fonts-cegui|fonts-isabella|symbol|newpx")


@dataclass
class Face:
    """One font file."""

    path: str
    package: str
    tex_package: str
    family: str
    style: str
    copyright: str
    licence: str
    weight: int
    italic: bool

    @property
    def family_key(self) -> str:
        """The family without optical sizes, widths and weights that are spelled in its name."""
        name = re.sub(r"[-_]", " ", self.family.lower())
        name = re.sub(
            r"\b(thin|hairline|extra ?light|ultra ?light|light|book|regular|medium|semi ?bold|demi ?bold|demi|"
            r"extra ?bold|ultra ?bold|bold|black|heavy|italic|oblique|condensed|cond|semi ?condensed|extra ?condensed|"
            r"narrow|wide|caption|display|subhead|small ?caps|sc|caps|roman|ttf|otf|[0-9]+ ?(pt)?|lf|osf|tf|nf|bk|std|"
            r"pro)\b",
            " ",
            name,
        )
        return re.sub(r"[^a-z0-9]+", "", name) or self.family.lower()


def fetch(args: argparse.Namespace) -> None:
    """Download the pinned packages and unpack each into the folder root/<package> of WORK."""
    debs, root = args.work / "debs", args.work / "root"
    debs.mkdir(parents=True, exist_ok=True)
    pinned = [line for line in (HERE / "fonts_packages.txt").read_text().split() if line]
    subprocess.run(["apt-get", "download", *pinned], cwd=debs, check=True)
    for line in pinned:
        package = line.split("=")[0]
        (file,) = debs.glob(f"{package}_*.deb")
        (root / package).mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg", "-x", str(file), str(root / package)], check=True)


def scan(args: argparse.Namespace) -> None:
    """Render the 62 characters of every face that is legible, and read what it says of itself."""
    root = args.work / "root"
    catalogue = tex_catalogue(root)
    images, faces, failures = [], [], collections.Counter()
    for path, letters in legible():
        if letters < LEAST_LEGIBLE:
            continue
        try:
            face = describe(root, path, catalogue)
            images.append(render(root / path))
            faces.append(asdict(face))
        except (OSError, ValueError, KeyError, AssertionError) as error:
            failures[f"{type(error).__name__}: {error}"[:80]] += 1
    print(f"{len(faces)} faces, failures: {dict(failures)}")
    np.savez_compressed(args.work / "faces.npz", images=np.stack(images), faces=json.dumps(faces))


def legible() -> Iterator[tuple[str, int]]:
    """The committed table: file, letters of A to J that were read."""
    with gzip.open(HERE / "fonts_legible.tsv.gz", "rt", encoding="utf-8") as file:
        for path, letters in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield path, int(letters)


def describe(root: Path, path: str, catalogue: dict[str, tuple[str, str]]) -> Face:
    """Name, weight and licence of a font file."""
    package = Path(path).parts[0]
    fields = type1_fields(root / path) if path.lower().endswith(".pfb") else sfnt_fields(root / path)
    own = classify(fields.pop("licence"))
    tex_package, stated = "", ""
    if "texmf-dist/" in path:
        folder = Path("texmf-dist/" + path.split("texmf-dist/")[-1]).parent
        while len(folder.parts) > 3 and not stated:  # the nearest folder that the catalogue names
            tex_package, stated = catalogue.get(str(folder), ("", ""))
            folder = folder.parent
    else:
        stated = debian_licence(root / package / "usr/share/doc" / package)
    packaged = classify(stated)
    licence = own if own in TRUSTED_IN_FONT else (packaged if packaged != "unknown" else own)
    style, weight, name = fields["style"], fields.pop("weight"), f"{fields['style']} {Path(path).name}"
    if not weight or weight == 400:
        weight = weight_by_name(name)
    italic = fields.pop("italic") or bool(re.search(r"ital|obliq|slant", style, re.IGNORECASE))
    return Face(path, package, tex_package, licence=licence, weight=weight, italic=italic, **fields)


def classify(text: str) -> str:
    """The first licence that a text names, or "unknown"."""
    return next((name for name, rule in LICENCES.items() if re.search(rule, text.lower(), re.DOTALL)), "unknown")


def tex_catalogue(root: Path) -> dict[str, tuple[str, str]]:
    """Folder below texmf-dist -> (TeX package, its licence), from the Licenses.gz of the texlive packages."""
    table = {}
    for path in sorted(root.glob("*/usr/share/doc/*/Licenses.gz")):
        package = licence = ""
        for line in gzip.decompress(path.read_bytes()).decode("utf-8", "replace").splitlines():
            if line.startswith("texmf-dist/fonts/") and package:
                table[line.rstrip("*").rstrip("/")] = (package, licence)
            elif re.match(r"^[\w.+-]+: ", line) and not line.startswith("texmf"):
                package, licence = line.split(": ", 1)
    return table


def debian_licence(folder: Path) -> str:
    """The licences of a package but for its packaging; the whole of debian/copyright if it has no such fields."""
    files = sorted(folder.glob("copyright*"))
    if not files:
        return ""
    raw = files[0].read_bytes()
    text = (gzip.decompress(raw) if files[0].suffix == ".gz" else raw).decode("utf-8", "replace")
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        about = re.search(r"^Files:\s*(.*)", paragraph, re.MULTILINE)
        licence = re.search(r"^License:\s*(.*)", paragraph, re.MULTILINE)
        if about and licence and not about[1].strip().startswith("debian") and licence[1].strip() not in found:
            found.append(licence[1].strip())
    return ", ".join(found) or text


def sfnt_fields(path: Path) -> dict:
    """What the tables of an OpenType or TrueType font say."""
    from fontTools.ttLib import TTFont

    with TTFont(path, fontNumber=0, lazy=True) as font:
        names, metrics = font["name"], font.get("OS/2")
        text = {i: (names.getDebugName(i) or "").strip() for i in (0, 1, 2, 13, 14, 16, 17)}
        return {
            "family": text[16] or text[1],
            "style": text[17] or text[2],
            "copyright": text[0],
            "licence": f"{text[13]} {text[14]}"[:400],
            "weight": 0 if metrics is None else int(metrics.usWeightClass),
            "italic": metrics is not None and bool(metrics.fsSelection & 1),
        }


def type1_fields(path: Path) -> dict:
    """What the clear text at the beginning of a Type 1 font says."""
    head = path.read_bytes()[:6000].decode("latin1")

    def field(key: str) -> str:
        found = re.search(rf"/{key}\s*\((.*?)\)\s*(?:readonly)?\s*def", head, re.DOTALL)
        return found[1] if found else ""

    full, family, notice = field("FullName"), field("FamilyName"), field("Notice")
    style = full[len(family) :].strip(" -") if full.startswith(family) else field("Weight")
    return {
        "family": family or full,
        "style": style,
        "copyright": notice,
        "licence": notice[:400],
        "weight": 0,
        "italic": bool(re.search(r"ital|obliq|slant", full, re.IGNORECASE)),
    }


def weight_by_name(name: str) -> int:
    """The weight that a style's name means."""
    rules = {
        r"thin|hairline": 100,
        r"extra-?light|ultra-?light": 200,
        r"light": 300,
        r"semi-?bold|demi": 600,
        r"extra-?bold|ultra-?bold|heavy": 800,
        r"black|ultra": 900,
        r"bold": 700,
        r"medium": 500,
    }
    return next((weight for rule, weight in rules.items() if re.search(rule, name, re.IGNORECASE)), 400)


def render(path: Path) -> np.ndarray:
    """The 62 characters, uint8 (62, 28, 28), ink 255: one scale for the font, each glyph centred, none cropped."""
    basic = ImageFont.Layout.BASIC
    big = ImageFont.truetype(path, 128, layout_engine=basic)
    boxes = np.array([big.getbbox(c, mode="L") for c in CHARACTERS], dtype=float)
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    if (widths[:10] <= 2).any() or (heights[:10] <= 2).any():
        raise ValueError(f"Expected {path.name} to have ink in A to J, but a letter is empty.")
    scale = OVERSAMPLING * min(
        CAP_HEIGHT / np.median(heights[:10]),
        WIDEST / heights[:10].max(),
        WIDEST / widths[:10].max(),
        (SIZE - 1) / max(widths.max(), heights.max()),
    )
    font = ImageFont.truetype(path, 128 * scale, layout_engine=basic)
    return np.stack([glyph(font, c) for c in CHARACTERS])


def glyph(font: ImageFont.FreeTypeFont, character: str) -> np.ndarray:
    """One character, drawn large, centred on its ink and averaged down to uint8 (28, 28)."""
    large = SIZE * OVERSAMPLING
    canvas = np.zeros((large, large), np.uint8)
    mask, _ = font.getmask2(character, mode="L")
    ink = np.asarray(mask, dtype=np.uint8).reshape(mask.size[1], mask.size[0])
    rows, columns = np.flatnonzero((ink > 8).any(1)), np.flatnonzero((ink > 8).any(0))
    if len(rows):
        ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        top, left = (large - ink.shape[0]) // 2, (large - ink.shape[1]) // 2
        canvas[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    blocks = canvas.reshape(SIZE, OVERSAMPLING, SIZE, OVERSAMPLING)
    return np.rint(blocks.mean((1, 3))).astype(np.uint8)


def select(args: argparse.Namespace) -> None:
    """Choose distinct faces under free licences and write the data file and the notice."""
    with np.load(args.work / "faces.npz", allow_pickle=False) as arrays:
        images, faces = arrays["images"], [Face(**face) for face in json.loads(str(arrays["faces"]))]
    eligible = [i for i in range(len(faces)) if faces[i].licence in FREE and not EXCLUDED.search(faces[i].path)]
    eligible.sort(key=lambda i: preference(faces[i]))
    distinct = keep_distinct(images, eligible)
    chosen = thin_out(images, distinct)
    print(f"{len(eligible)} eligible, {len(distinct)} distinct, {len(chosen)} chosen")
    chosen.sort(key=lambda i: (faces[i].family_key, faces[i].italic, faces[i].weight, faces[i].path))
    write(args, images[chosen][:, : len(LETTERS)], [faces[i] for i in chosen])


def preference(face: Face) -> tuple:
    """Best first: the licence, upright, regular, OpenType, a short name."""
    path = Path(face.path)
    type1 = path.suffix.lower() == ".pfb"
    return list(FREE).index(face.licence), face.italic, abs(face.weight - 400), type1, len(path.name), face.path


def distances(images: np.ndarray, chosen: list[int]) -> np.ndarray:
    """Between faces: the mean over A to Z of |a - b|^2 / (|a|^2 + |b|^2), 0 for equal and 1 for disjoint ink."""
    x = images[chosen][:, :26].reshape(len(chosen), 26, -1).astype(np.float32) / 255
    total = np.zeros((len(chosen), len(chosen)), np.float32)
    for letter in range(26):
        v = x[:, letter]
        energy = (v * v).sum(1)
        both = energy[:, None] + energy[None, :]
        total += (both - 2 * (v @ v.T)) / np.maximum(both, 1e-6)
    return total / 26


def keep_distinct(images: np.ndarray, chosen: list[int]) -> list[int]:
    """Take the faces in order; leave out one that is nearer than `LEAST_DISTANCE` to one that was taken."""
    between, kept = distances(images, chosen), []
    for i in range(len(chosen)):
        if not kept or between[i, kept].min() >= LEAST_DISTANCE:
            kept.append(i)
    return [chosen[i] for i in kept]


def thin_out(images: np.ndarray, chosen: list[int]) -> list[int]:
    """Drop the later of the two nearest faces until `NUMBER` are left."""
    between = distances(images, chosen)
    np.fill_diagonal(between, np.inf)
    live = np.ones(len(chosen), bool)
    while live.sum() > NUMBER:
        pair = np.unravel_index(np.where(live[:, None] & live[None, :], between, np.inf).argmin(), between.shape)
        live[max(pair)] = False
    return [i for i, keep in zip(chosen, live, strict=True) if keep]


def round_weight(face: Face) -> int:
    """100 to 900. What is no weight, as some files have it, is read from the name."""
    sane = 100 <= face.weight <= 950 and face.weight % 25 == 0
    weight = face.weight if sane else weight_by_name(f"{face.style} {Path(face.path).name}")
    return min(900, max(100, round(weight / 100) * 100))


def primaries(faces: list[Face]) -> np.ndarray:
    """One face of each family: upright before italic, then the nearest to regular."""
    best = {}
    for i, face in enumerate(faces):
        rank = (face.italic, abs(face.weight - 400), i)
        best[face.family_key] = min(best.get(face.family_key, rank), rank)
    marks = np.zeros(len(faces), bool)
    marks[[rank[2] for rank in best.values()]] = True
    return marks


def write(args: argparse.Namespace, images: np.ndarray, faces: list[Face]) -> None:
    """Write fonts.npz and fonts_notice.tsv."""
    families = sorted({face.family_key for face in faces})
    licences = [EXACT_LICENCE.get(face.package, FREE[face.licence]) for face in faces]
    about = {
        "reference": "prototype glyphs, own rendering",
        "pillow": pillow_version,
        "freetype": features.version("freetype2"),
        "tau": LEAST_DISTANCE,
        "levels": 256,
    }
    columns = ("family", "style", "package", "tex_package", "path")
    np.savez_compressed(
        args.out / "fonts.npz",
        images=images,
        about=json.dumps(about),
        chars=np.array(list(LETTERS)),
        family_id=np.array([families.index(face.family_key) for face in faces], np.int16),
        weight=np.array([round_weight(face) for face in faces], np.int16),
        italic=np.array([face.italic for face in faces]),
        primary=primaries(faces),
        font_licence=np.array(licences),
        **{f"font_{column}": np.array([getattr(face, column) for face in faces]) for column in columns},
    )
    versions = dict(line.split("=") for line in (HERE / "fonts_packages.txt").read_text().split())
    with (args.out / "fonts_notice.tsv").open("w", encoding="utf-8") as file:
        file.write("index\tfamily\tstyle\tlicence\tpackage\tversion\tsource file\tcopyright\n")
        for i, (face, licence) in enumerate(zip(faces, licences, strict=True)):
            package = f"{face.package}/{face.tex_package}" if face.tex_package else face.package
            notice = " ".join(face.copyright.split()) or COPYRIGHT_IF_SILENT.get(face.package, "")
            source = (package, versions[face.package], Path(face.path).name)
            file.write("\t".join((str(i), face.family, face.style, licence, *source, notice)) + "\n")
    print(f"{len(faces)} faces of {len(families)} families, licences: {collections.Counter(licences).most_common()}")
    print(f"SHA-256 of the images, for lightning_robust/_fonts.py: {hashlib.sha256(images.tobytes()).hexdigest()}")


def sheet(args: argparse.Namespace) -> None:
    """Draw some faces, to be looked at."""
    with np.load(args.npz, allow_pickle=False) as arrays:
        images = arrays["images"]
    picked = np.sort(np.random.default_rng(args.seed).choice(len(images), min(args.rows, len(images)), replace=False))
    lines = [np.pad(np.concatenate(list(255 - images[k]), axis=1), 1, constant_values=90) for k in picked]
    picture = Image.fromarray(np.concatenate(lines, axis=0))
    picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.NEAREST).save(args.out)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("fetch", help="download and unpack the packages")
    command.add_argument("--work", type=Path, required=True)
    command.set_defaults(run=fetch)
    command = commands.add_parser("scan", help="render every legible face")
    command.add_argument("--work", type=Path, required=True)
    command.set_defaults(run=scan)
    command = commands.add_parser("select", help="choose faces, write the data file and the notice")
    command.add_argument("--work", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=select)
    command = commands.add_parser("sheet", help="draw some faces of a data file")
    command.add_argument("--npz", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--rows", type=int, default=40)
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(run=sheet)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()

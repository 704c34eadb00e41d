import hashlib
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from lightning_robust.datamodules import celeba
from lightning_robust.datamodules.celeba import CelebA, shrink

NUMBER = 21
NAMES = [f"{i:06d}.jpg" for i in range(1, NUMBER + 1)]
ATTRIBUTES = ["5_o_Clock_Shadow", "Male", "Young"]
PARTITION = [0] * 13 + [1] * 4 + [2] * 4
VALUES = [[1, 1 if i % 2 else -1, -1] for i in range(NUMBER)]


def table(header, rows):
    lines = [
        *header,
        *(" ".join([name, *(f"{v:2d}" for v in values)]) for name, values in zip(NAMES, rows, strict=True)),
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The files of the set in their original formats, images in the archive."""
    folder = tmp_path / "celeba"
    folder.mkdir()
    texts = {
        "list_attr_celeba.txt": table([str(NUMBER), " ".join(ATTRIBUTES) + " "], VALUES),
        "identity_CelebA.txt": table([], [[i // 2] for i in range(NUMBER)]),
        "list_bbox_celeba.txt": table([str(NUMBER), "image_id x_1 y_1 width height"], [[1, 2, 3, 4]] * NUMBER),
        "list_landmarks_align_celeba.txt": table([str(NUMBER), "lefteye_x lefteye_y"], [[69, 109]] * NUMBER),
        "list_eval_partition.txt": table([], [[part] for part in PARTITION]),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        for i, name in enumerate(NAMES):
            coarse = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
            coarse[0] = 10 * i
            Image.fromarray(coarse).resize((178, 218), Image.Resampling.BICUBIC).save(tmp_path / name, quality=95)
            archive.write(tmp_path / name, f"img_align_celeba/{name}")
    listed = []
    for key, _, name in datasets.CelebA.file_list:
        listed.append((key, hashlib.md5((folder / name).read_bytes()).hexdigest(), name))
    monkeypatch.setattr(datasets.CelebA, "file_list", listed)
    return tmp_path


def fetched(root, **kwargs):
    with zipfile.ZipFile(root / "celeba" / "img_align_celeba.zip") as archive:
        archive.extractall(root / "celeba")
    return CelebA(root, **{"val_size": 4, **kwargs})


def test_the_download_of_torchvision_is_called(root, monkeypatch):
    """What is fetched are the five lists and the archive, which is unpacked; then everything is read."""
    wanted = []
    monkeypatch.setattr(
        "torchvision.datasets.celeba.download_file_from_google_drive",
        lambda key, folder, name, md5: wanted.append(name),
    )
    module = CelebA(root, val_size=4)
    with pytest.raises(FileNotFoundError, match=r"prepare_data\(\)"):
        module.setup("fit")
    module.prepare_data()
    assert sorted(wanted) == sorted(name for _, _, name in datasets.CelebA.file_list)
    module.setup("fit")
    wanted.clear()
    module.prepare_data()
    assert not wanted, "what is there is not fetched again"


def test_images_and_labels(root):
    module = fetched(root)
    train, (x, y) = module.dataset("train"), module.tensors("test")
    assert train.images.shape == (18, 3, 56, 48)
    assert x.shape == (3, 3, 56, 48)
    assert torch.equal(train.labels, torch.arange(18) % 2)
    assert torch.equal(y, torch.arange(18, 21) % 2)
    assert len(module.dataset("val")) == 4
    for image, name in zip(torch.cat([train.images, (255 * x).round().byte()]), NAMES, strict=True):
        # An independent way: the mean of the pixels that fall on a small one, each about 3.3 x 3.3 large.
        large = torch.from_numpy(np.array(Image.open(root / "celeba" / "img_align_celeba" / name))).movedim(2, 0)
        small = torch.nn.functional.interpolate(large[None].float(), (66, 54), mode="area")[0, :, 5:-5, 3:-3]
        assert (image.float() - small).abs().mean() < 2
        assert (image.float() - small).abs().max() < 12


def test_shrinking_keeps_the_middle():
    image = np.zeros((218, 178, 3), np.uint8)
    image[:12], image[:, :6], image[100:118, 80:98, 1] = 255, 255, 200
    small = shrink(Image.fromarray(image))
    assert small.shape == (3, 56, 48)
    assert small.dtype == np.uint8
    assert small[:, 2:20].max() == 0, "the border is cut away"
    rows, columns = np.nonzero(small[1] > 150)
    assert abs(rows.mean() - 27.5) < 0.6
    assert abs(columns.mean() - 23.5) < 0.6
    assert small[0].max() < 60


def test_the_official_partition(root):
    module = fetched(root, split="official")
    assert len(module.dataset("train")) + len(module.dataset("val")) == 17
    assert len(module.dataset("test")) == 4
    everything = fetched(root).dataset("train").images
    assert torch.equal(module.dataset("train").images[:17], everything[:17])
    assert torch.equal(module.dataset("test").labels, torch.arange(17, 21) % 2)


def test_the_sizes_of_the_paper():
    module = CelebA()
    names = [""] * 202_599
    assert [len(module._rows(names, source)) for source in ("train", "test")] == [182_339, 20_260]


def test_images_are_shrunk_once(root, monkeypatch):
    first = fetched(root).dataset("train").images
    folder = root / "celeba"
    assert sorted(path.name for path in folder.glob("*.npy*")) == ["img_align_celeba_56x48.npy"]
    monkeypatch.setattr(celeba, "shrink", lambda image: pytest.fail("shrunk again"))
    assert torch.equal(fetched(root).dataset("train").images, first)


def test_a_file_of_another_size_is_made_again(root):
    np.save(root / "celeba" / "img_align_celeba_56x48.npy", np.zeros((3, 3, 56, 48), np.uint8))
    assert fetched(root).dataset("train").images.float().std() > 10


def test_nothing_is_left_of_a_failure(root):
    module = fetched(root)
    (root / "celeba" / "img_align_celeba" / NAMES[5]).write_bytes(b"no image")
    with pytest.raises(OSError, match="cannot identify image"):
        module.setup("fit")
    assert not list((root / "celeba").glob("*.npy*"))


def test_other_attributes_and_wrong_arguments(root):
    assert fetched(root, attribute="5_o_Clock_Shadow").dataset("test").labels.tolist() == [1, 1, 1]
    assert fetched(root, attribute="Young").dataset("test").labels.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r"`attribute` to be one of .*'Male', 'Young'\], but got 'Hat'"):
        fetched(root, attribute="Hat").setup("fit")
    with pytest.raises(ValueError, match=r'`split` to be one of "stutz", "official", but got \'paper\''):
        CelebA(split="paper")

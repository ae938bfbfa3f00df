"""Own data that is kept: arrays and zips of images, added, listed among the datasets, loaded and removed; none is trusted."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models import datasets, my_data, noise, zoo
from quantizers.errors import BadData, UnknownName
from quantizers.signature import Input, Signature

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUANTSCOPE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def picture(size: tuple[int, int] = (20, 16), mode: str = "RGB", kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    Image.fromarray(RANDOM.integers(0, 256, shape, np.uint8), mode).save(buffer, kind)
    return buffer.getvalue()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def saved(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def test_arrays_are_kept_listed_and_removed(own_home: Path) -> None:
    x = RANDOM.integers(0, 256, (20, 28, 28), np.uint8)
    added = my_data.add(saved(x=x, y=np.arange(20) % 10), "My Digits.npz")
    assert added.id.startswith(my_data.PREFIX)
    assert added in datasets.catalogue()
    assert added.id in zoo.catalogue()[0].datasets or added.id in datasets.fitting((28, 28, 1))
    loaded = datasets.load(added.id)
    assert loaded.info.title == "My Digits.npz"
    assert (loaded.info.splits, loaded.info.digest) == (added.splits, added.digest)
    np.testing.assert_array_equal(loaded.x[..., 0], x)
    assert my_data.add(saved(x=x, y=np.arange(20) % 10), "My Digits.npz") == added
    my_data.remove(added.id)
    assert added not in datasets.catalogue()
    assert not list((own_home / "data").iterdir())
    with pytest.raises(UnknownName):
        my_data.remove(added.id)


def test_folders_of_images_become_classes() -> None:
    members = {f"set/{kind}/{index}.png": picture() for kind in ("dog", "cat") for index in range(3)}
    added = my_data.add(zipped(**members, **{"__MACOSX/set/cat/._0.png": b"x", "set/read.me": b"x"}), "pets.zip")
    assert added.labels == ("cat", "dog")
    loaded = datasets.load(added.id)
    assert loaded.x.shape == (6, 16, 20, 3)
    assert loaded.y is not None
    assert loaded.y.tolist() == [0, 0, 0, 1, 1, 1]
    first = np.asarray(Image.open(io.BytesIO(members["set/cat/0.png"])))
    np.testing.assert_array_equal(loaded.x[0], first)


def test_labels_may_come_in_a_file_and_images_be_brought_to_one_size() -> None:
    members = {f"{index}.jpg": picture((20 + index, 30), kind="jpeg") for index in range(4)}
    with pytest.raises(BadData, match="4 sizes") as caught:
        my_data.add(zipped(**members), "mixed.zip")
    assert "to which size" in caught.value.hint
    added = my_data.add(zipped(**members, **{"y.txt": b"3\n1\n0\n2\n"}), "mixed.zip", size=(8, 12))
    loaded = datasets.load(added.id)
    assert loaded.x.shape == (4, 8, 12, 3)
    assert loaded.y is not None
    assert loaded.y.tolist() == [3, 1, 0, 2]


def test_grey_images_have_one_channel_and_one_folder_no_labels() -> None:
    added = my_data.add(zipped(**{f"a/{index}.png": picture(mode="L") for index in range(3)}), "grey.zip")
    loaded = datasets.load(added.id)
    assert loaded.x.shape == (3, 16, 20, 1)
    assert loaded.y is None


def bomb() -> bytes:
    """A picture of a few kilobytes that unpacks to nine gigapixels."""
    head = bytearray(picture((8, 8)))
    head[16:24] = (95000).to_bytes(4, "big") * 2  # the size that the PNG's header claims
    return bytes(head)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(**{"a.txt": b"x"}), "holds 0 images"),
        (zipped(**{"a.png": picture()}), "holds 1 images"),
        (zipped(**{"a.png": picture(), "b.png": b"not a picture"}), "cannot be read"),
        (zipped(**{"a.png": picture(), "b.png": picture()[:60]}), "cannot be read"),
        (zipped(**{"a.png": bomb(), "b.png": bomb()}), "cannot be read|too many|ended"),
        (zipped(**{"a.png": picture(), "b.png": picture(), "y.txt": b"1\n2\n3\n"}), "2 images"),
        (zipped(**{"../a.png": picture(), "b.png": picture()}), "leads out of its folder"),
        (b"PK\x03\x04 and nothing more", "cannot be read"),
        (b"neither", "cannot be read"),
        (saved(), "bad.zip holds nothing"),
    ],
)
def test_what_cannot_be_used_is_refused_and_leaves_nothing_behind(own_home: Path, content: bytes, message: str) -> None:
    with pytest.raises(BadData, match=message) as caught:
        my_data.add(content, "bad.zip")
    assert caught.value.hint
    assert not list((own_home / "data").iterdir())


def test_arrays_named_like_inputs_are_packed_for_the_model() -> None:
    info = zoo.catalogue()[0]
    taken = Signature((Input("ids", "int64", (1, 3)), Input("mask", "bool", (1, 3))))
    fields = {name: getattr(info, name) for name in info.__slots__}
    model = type(info)(**{**fields, "signature": taken, "input_shape": taken.sample_shape})
    ids, mask = RANDOM.integers(0, 999, (10, 3)), RANDOM.random((10, 3)) > 0.5
    added = my_data.add(saved(ids=ids, mask=mask), "text.npz")
    assert added.shape is None
    loaded = datasets.load(added.id, model)
    np.testing.assert_array_equal(loaded.x, np.concatenate([ids, mask], axis=1))
    with pytest.raises(BadData, match="no array called x"):
        datasets.load(added.id)


def test_noise_fits_every_model_and_says_what_it_is() -> None:
    for info in zoo.catalogue():
        data = datasets.load(noise.ID, info)
        datasets.check_fits(data.split("test"), info)
        assert data.info.digest == datasets.load(noise.ID, info).info.digest
    assert "random" in noise.describe().summary
    with pytest.raises(BadData, match="shape of a model"):
        datasets.load(noise.ID)

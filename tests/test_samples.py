"""The stored samples are what the code draws: every file of data_samples/ is drawn again and compared pixel by pixel."""
import io
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cdfss.data.driving import driving_files, read_wide_ids
from cdfss.data.samples import DRAWN_BY_READERS, SAMPLE_SETS, drawn_files, sample_set, save_picture
from cdfss.data.slices import slice_files

STORED = Path(__file__).resolve().parents[1]/"data_samples"
DOMAINS = {**{name: partial(driving_files, name) for name in ("gta5", "synthia", "cityscapes")}, "slices": slice_files}
LARGEST = 15_000_000    # bytes of data_samples/


@pytest.mark.parametrize("name", SAMPLE_SETS)
def test_redraws_to_the_same_pixels(name):
    drawn = set()
    for path, picture in sample_set(name).files(seed=0):
        drawn.add(path)
        stored = np.asarray(Image.open(STORED/name/path))
        if path.endswith(".jpg"):       # lossy: compare with what the same encoder makes of it here
            buffer = io.BytesIO()
            save_picture(picture, buffer, ".jpg")
            picture = np.asarray(Image.open(buffer))
        assert stored.shape == picture.shape and stored.dtype == picture.dtype, path
        assert (stored == picture).all(), f"{path}: {(stored != picture).mean():.1%} of the values differ"
    assert drawn == {str(file.relative_to(STORED/name).as_posix()) for file in (STORED/name).rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", DOMAINS)
def test_domains_redraw_to_the_same_pixels(name, tmp_path):
    drawn = set()
    for path, content in DOMAINS[name]():
        drawn.add(path)
        if isinstance(content, bytes): (tmp_path/"file.png").write_bytes(content)
        else: save_picture(content, tmp_path/"file.png")
        read = read_wide_ids if path.startswith("GT/") else lambda file: np.asarray(Image.open(file))
        assert (read(STORED/name/path) == read(tmp_path/"file.png")).all(), path
    assert drawn == {file.relative_to(STORED/name).as_posix() for file in (STORED/name).rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", DRAWN_BY_READERS)
def test_scenes_redraw_to_the_same_pixels(name, tmp_path):
    for path, content in islice(drawn_files(name), 16):      # a scene costs a quarter of a second: the first ones stand for all
        stored = STORED/name/path
        if isinstance(content, bytes): assert stored.read_bytes() == content, path
        else:
            save_picture(content, tmp_path/f"file{stored.suffix}", stored.suffix)
            assert (np.asarray(Image.open(stored)) == np.asarray(Image.open(tmp_path/f"file{stored.suffix}"))).all(), path


def test_stays_small():
    assert sum(file.stat().st_size for file in STORED.rglob("*") if file.is_file()) <= LARGEST


@pytest.mark.parametrize("name", SAMPLE_SETS)
def test_every_mask_has_foreground_and_ground(name):
    masks = [file for file in (STORED/name).rglob("*.png") if file.parent.name not in ("CXR_png", "Images")]
    assert len(masks) >= 12
    for file in masks:
        share = (np.asarray(Image.open(file)) >= 10).mean()
        assert 0.005 < share < 0.95, f"{file}: {share:.1%} foreground"

"""Properties that hold for any input: arrays, names of files, settings, parts of label maps. Images, manifests and readers: test_data.py."""
import json
import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cdfss.app.own_images import find_corrections, image_files, output_names, segment_images
from cdfss.core import CdfssError
from cdfss.data.episodes import Support
from cdfss.data.images import image_to_tensor, mask_to_tensor, read_labels, read_mask_values
from cdfss.methods.base import METHODS, build_method, method_class

QUIET = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


DTYPES = st.sampled_from([np.uint8, np.int8, np.uint16, np.int64, np.float32, np.float64, np.bool_, np.complex64, np.dtype("U3"), object])
SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@given(shape=SHAPES, dtype=DTYPES, value=st.sampled_from([0, 1, 2, -1]), size=st.one_of(st.integers(-2, 9), st.sampled_from([None, 2.5, "9", 10**9, True])))
@QUIET
def test_any_array_is_an_image_a_mask_or_a_clear_error(shape, dtype, value, size):
    array = np.full(shape, value).astype(dtype)
    for make, want in ((image_to_tensor, lambda x: (3, size, size)), (mask_to_tensor, lambda x: (size, size))):
        try: made = make(array, size)
        except CdfssError as error: assert str(error)
        else: assert tuple(made.shape) == want(made) and made.isfinite().all()


@given(images=SHAPES, masks=SHAPES, dtype=st.sampled_from([torch.uint8, torch.bool, torch.float16, torch.float64, torch.int32]))
@QUIET
def test_any_tensors_are_a_support_or_a_clear_error(images, masks, dtype):
    masks = torch.zeros(masks, dtype=dtype)
    if masks.numel() > 1: masks.view(-1)[0] = 1
    try: support = Support(torch.zeros(images, dtype=dtype), masks)
    except CdfssError: return
    assert support.images.shape[0] == support.masks.shape[0] == support.shots and support.images.dtype == torch.float32


NAME = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda name: len(name.encode()) < 120 and name not in (".", ".."))


@given(names=st.lists(NAME, min_size=2, max_size=4, unique=True), long=st.booleans())
@settings(QUIET, max_examples=25)
def test_any_names_get_a_mask_each_beside_nobody_elses(tmp_path_factory, names, long):
    home = tmp_path_factory.mktemp("names")
    names = [name + "x"*(255 - len(name.encode()) if long and i == 0 else 0) for i, name in enumerate(names)]
    for name in names: Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)).save(home/name, format="PNG")
    images = image_files([home/name for name in names])
    assert images == [home/name for name in names] and len({name.lower() for name in output_names(images)}) == len(images)
    method = build_method("raw", backbone=TINY, device="cpu").adapt(Support(torch.randn(1, 3, 16, 16), (torch.arange(256) < 99).view(1, 16, 16)))
    rows = segment_images(method, images, home/"out"/"made")
    masks = sorted((home/"out"/"made"/"masks").iterdir())
    assert len(masks) == len(rows) == len(images) and all(read_mask_values(mask).shape == (16, 16) for mask in masks)
    assert len(list((home/"out"/"made").iterdir())) == 2 and len(list((home/"out").iterdir())) == 1
    assert set(find_corrections(images, home/"out"/"made"/"masks")) <= set(images)


def test_a_name_that_is_no_text_gets_a_mask_and_a_row(tmp_path):
    (tmp_path/"in").mkdir()
    try: Image.new("RGB", (16, 16), "red").save(path := tmp_path/"in"/os.fsdecode(b"caf\xe9.png"), format="PNG")
    except (OSError, UnicodeEncodeError): pytest.skip("this file system has no such names")
    method = build_method("raw", backbone=TINY, device="cpu").adapt(Support(torch.randn(1, 3, 16, 16), (torch.arange(256) < 99).view(1, 16, 16)))
    segment_images(method, [path], tmp_path/"out")
    assert (tmp_path/"out"/"masks"/"caf.png").is_file()
    assert "caf\\udce9.png" in (tmp_path/"out"/"areas.csv").read_text(encoding="utf-8")


class Tiny(torch.nn.Module):
    "A backbone that costs nothing."
    def forward(self, images): return [torch.nn.functional.avg_pool2d(images, 4)]


TINY = Tiny()


@given(data=st.data(), name=st.sampled_from(sorted(METHODS)),
       value=st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.lists(st.integers(), max_size=3), st.just({})))
@QUIET
def test_any_setting_is_taken_or_refused_in_words(data, name, value):
    option = data.draw(st.sampled_from(sorted(method_class(name).Config.__dataclass_fields__)))
    options = {} if method_class(name).kind == "domains" else {"backbone": TINY}
    try: method = build_method(name, device="cpu", **options, **{option: value})
    except CdfssError as error: assert str(error)
    else: assert json.dumps(method.describe()["config"][option]) == json.dumps(value)


@given(values=st.lists(st.integers(0, 255), min_size=1, max_size=9), part=st.one_of(st.integers(-3, 300), st.text("0123456789,-p", max_size=12)))
@QUIET
def test_any_part_of_a_label_map_is_its_pixels_or_a_clear_error(tmp_path, values, part):
    Image.fromarray(np.array([values], np.uint8)).save(tmp_path/"x.png")
    try: found = read_mask_values(f"{tmp_path/'x.png'}#{part}")
    except CdfssError as error: assert "x.png" in str(error); return
    if str(part).isdecimal(): assert (found == 255).tolist() == (read_labels(tmp_path/"x.png") == int(part)).tolist()

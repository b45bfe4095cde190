"The backbone as a user of the installed package meets it: light to import, offline, whatever the image size."
import json
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cdfss.core import CdfssError, file_sha256
from cdfss.model.backbone import EMBEDDED_WEIGHTS, TORCHVISION, backbone


@pytest.fixture(scope="module")
def embedded(): return backbone()


def test_importing_it_does_not_import_torchvision():
    code = "import sys, cdfss.model.backbone; print('torchvision' in sys.modules, 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["False", "False"]


def test_the_embedded_weights_come_with_a_card_and_are_small():
    assert EMBEDDED_WEIGHTS.stat().st_size <= 6_000_000
    card = json.loads(EMBEDDED_WEIGHTS.with_suffix(".json").read_text())
    assert card["sha256"] == file_sha256(EMBEDDED_WEIGHTS) and card["runs"]


@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), batch=st.integers(1, 2))
def test_any_image_size_gives_levels_of_stride_8_and_16(embedded, height, width, batch):
    levels = embedded(torch.zeros(batch, 3, height, width))
    sizes = [(-(-height // stride), -(-width // stride)) for stride in (8, 8, 8, 16, 16, 16, 16)]
    assert [tuple(level.shape) for level in levels] == [(batch, c, *s) for c, s in zip((80,)*3 + (160,)*4, sizes)]
    assert all(level.isfinite().all() for level in levels)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_1"])
def test_keeping_fewer_stages_keeps_the_same_levels(name):
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="random weights"): whole, first = backbone(name, None)(image), backbone(name, None, stages=1)(image)
    kept = len(next(iter(TORCHVISION[name][1].values())))
    assert len(first) == kept and all(torch.equal(a, b) for a, b in zip(first, whole))


def test_the_same_image_gives_the_same_features_alone_and_in_a_batch(embedded):
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for together, alone in zip(embedded(images), embedded(images[1:2])): torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("arguments, says", [(("resnet50", "embedded"), "do not fit"), (("embeded",), "Did you mean embedded"),
                                             (("embedded", "nowhere.safetensors"), "no such weights file"), (("embedded", "auto", 0), "from 1 to 2"),
                                             (("nowhere.py:net",), "no such file")])
def test_a_wish_that_cannot_be_granted_is_one_clear_error(arguments, says):
    with pytest.raises(CdfssError, match=says): backbone(*arguments)

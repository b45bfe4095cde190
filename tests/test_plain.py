"""MTMNet against benchmarks/plain.py, which computes the same head by head with every matrix in memory."""
from pathlib import Path

import pytest
import torch

from cdfss.core import torch_rng
from cdfss.data.episodes import Support
from cdfss.methods.base import build_method
from test_methods import TinyBackbone


@pytest.mark.parametrize("shots", [1, 3])
def test_mtmnet_scores_as_the_plain_program_does(shots, monkeypatch):
    "Stacked heads and blockwise losses change the order of additions, and nothing else."
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1]/"benchmarks")
    import plain
    rng, net = torch_rng("plain", shots), TinyBackbone()
    masks = torch.zeros(shots, 48, 48)
    masks[:, 12:36, 8:40] = 1
    support = Support(torch.randn(shots, 3, 48, 48, generator=rng), masks)
    query = torch.randn(1, 3, 48, 48, generator=rng)
    method = build_method("mtmnet", backbone=net, preset="reference", postprocess="off").adapt(support, query)
    expected = plain.score(net, plain.fit(net, support, query), support, query)
    torch.testing.assert_close(method.predict(query).score[0], expected, atol=1e-5, rtol=0)
    assert expected.std() > 1e-3    # a flat map would agree with anything

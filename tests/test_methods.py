"""The contract of few-shot methods, for every registered one: any shots, sizes, batches and types, the same answer in the right shape."""
import dataclasses
import functools
import importlib
import json
import math
import tempfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from cdfss.core import CdfssError, torch_rng
from cdfss.data.domain_sets import open_reader
from cdfss.data.episodes import Support
from cdfss.methods.base import METHODS, build_method, load_method, method_class, methods
from cdfss.methods.several import SeveralClasses

QUICK = {"steps": 2, "postprocess": "off"}  # options that make a method quick, where it has them


def importable(name):
    try: importlib.import_module(METHODS[name][0].partition(":")[0])
    except ModuleNotFoundError: return False
    return True


NAMES = [name for name in methods() if importable(name) and method_class(name).kind == "few-shot"]


class TinyBackbone(nn.Module):
    "Two levels of fixed random features, at strides 4 and 8."
    def __init__(self):
        super().__init__()
        self.shallow, self.deep = nn.Conv2d(3, 8, 5, 4, 2), nn.Conv2d(8, 12, 3, 2, 1)
        generator = torch_rng("tiny backbone")
        with torch.no_grad():
            for parameter in self.parameters(): parameter.copy_(torch.randn(parameter.shape, generator=generator)/4)

    def forward(self, images):
        shallow = self.shallow(images)
        return [shallow, self.deep(shallow.relu())]


@functools.cache
def practised(name):
    "The folder of a method that has practised a little; it lives as long as the tests."
    folder = tempfile.mkdtemp()
    small = dict(preset="small", size=32, width=8, area=4., steps=2, batch=2)
    build_method(name, device="cpu", **small).fit_source(open_reader("fss1000:root=samples")).save(folder)
    return folder


def build(name, device="cpu", **options):
    kind = method_class(name)
    if not kind.source_free: return build_method(name, device=device, trained=practised(name), **options)
    known = {field.name for field in dataclasses.fields(kind.Config)}
    quick = {option: value for option, value in QUICK.items() if option in known}
    return build_method(name, backbone=TinyBackbone(), device=device, **{**quick, **options})


def task(shots, height, width, batch, seed):
    "A support of rectangles in another colour than their ground, and queries."
    generator = torch_rng("task", seed)
    count = shots + batch
    masks = torch.zeros(count, height, width)
    for mask in masks:
        top, left = (int(torch.randint(0, side//2, (), generator=generator)) for side in (height, width))
        mask[top:top + height//2, left:left + width//2] = 1
    images = .3*torch.randn(count, 3, height, width, generator=generator) + masks[:, None] - .4
    return Support(images[:shots], masks[:shots], class_id=seed % 7), images[shots:]


sides = st.integers(16, 48)
tasks = st.builds(task, shots=st.integers(1, 4), height=sides, width=sides, batch=st.integers(1, 3), seed=st.integers(0, 999))
properties = settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
each_method = pytest.mark.parametrize("name", NAMES)


@each_method
@properties
@given(task=tasks)
def test_prediction_has_the_images_shape_and_its_mask_is_the_cut_score(name, task):
    support, queries = task
    batch, (height, width) = len(queries), queries.shape[2:]
    prediction = build(name).adapt(support, queries=queries[:1]).predict(queries)
    assert prediction.mask.shape == prediction.score.shape == (batch, height, width)
    assert prediction.threshold.shape == prediction.postprocessed.shape == (batch,)
    assert prediction.mask.dtype == prediction.postprocessed.dtype == torch.bool and prediction.score.dtype == torch.float32
    assert len(prediction) == batch and len(prediction[batch - 1]) == 1
    assert -1e-5 <= prediction.score.min() and prediction.score.max() <= 1 + 1e-5
    assert not prediction.postprocessed.any()
    assert torch.equal(prediction.mask, prediction.score > prediction.threshold[:, None, None])


@each_method
@properties
@given(task=tasks)
def test_together_is_alone(name, task):
    support, queries = task
    method = build(name).adapt(support)
    together = method.predict(queries)
    for i, query in enumerate(queries):
        alone = method.predict(query)
        torch.testing.assert_close(alone.score[0], together.score[i], atol=1e-4, rtol=0)
        torch.testing.assert_close(alone.threshold[0], together.threshold[i], atol=1e-2, rtol=0)   # Otsu's bins can tip by one


@each_method
@properties
@given(task=tasks)
def test_the_same_task_gives_the_same_answer(name, task):
    support, queries = task
    method = build(name)
    first = method.adapt(support, queries=queries[:1]).predict(queries)
    torch.manual_seed(1)   # global generators have no say
    again = method.fresh().adapt(support, queries=queries[:1]).predict(queries)
    assert torch.equal(first.score, again.score) and torch.equal(first.mask, again.mask)
    assert torch.equal(method.use_support(support).predict(queries).score, first.score)


@each_method
@properties
@given(task=tasks)
def test_a_description_builds_the_method_again(name, task):
    support, queries = task
    method = build(name, seed=3)
    told = json.loads(json.dumps(method.describe()))
    again = build_method(told["name"], backbone=method.backbone, preset=told["preset"], seed=told["seed"], device="cpu", **told["config"])
    assert again.describe() == told
    assert torch.equal(again.adapt(support).predict(queries).score, method.adapt(support).predict(queries).score)


@each_method
@properties
@given(task=tasks)
def test_a_saved_method_says_the_same(name, task):
    support, queries = task
    method = build(name).adapt(support, queries=queries[:1])
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_method(method.save(folder), device="cpu", backbone=method.backbone)
    assert loaded.support.names == support.names and loaded.seed == method.seed
    for given in (None, support):                                                      # as it was kept, and with a support given anew
        if given is not None: loaded.use_support(given)
        said, says = method.predict(queries), loaded.predict(queries)
        assert torch.equal(said.score, says.score) and torch.equal(said.mask, says.mask)


@each_method
@properties
@given(task=tasks, dtype=st.sampled_from([torch.float64, torch.float16, torch.bfloat16]))
def test_other_float_types_are_taken(name, task, dtype):
    support, queries = task
    method = build(name).adapt(support)
    assert torch.equal(method.predict(queries.to(dtype)).score, method.predict(queries.to(dtype).float()).score)


@pytest.mark.parametrize("name", NAMES)
@properties
@given(task=tasks, height=st.integers(16, 40), width=st.integers(16, 40))
def test_a_query_may_have_another_size(name, task, height, width):
    support, _ = task
    assert build(name).adapt(support).predict(torch.randn(3, height, width, generator=torch_rng("query"))).mask.shape == (1, height, width)


@each_method
def test_what_cannot_be_segmented_is_refused(name):
    support, queries = task(1, 24, 24, 1, seed=0)
    with pytest.raises(CdfssError, match="before adapt"): build(name).predict(queries)
    with pytest.raises(CdfssError, match="before adapt"): build(name).use_support(support)
    with pytest.raises(CdfssError, match="there is no option"): build(name, colour="red")
    method = build(name).adapt(support)
    for wrong in (queries.to(torch.uint8), queries[:, :2], queries[:0], queries*math.nan, "query.png"):
        with pytest.raises(CdfssError): method.predict(wrong)
    with pytest.raises(CdfssError): build(name).adapt("support.png")
    broken = TinyBackbone()
    with torch.no_grad(): broken.deep.weight[0, 0, 0, 0] = math.nan
    with pytest.raises(CdfssError): build_method(name, backbone=broken, device="cpu").adapt(support).predict(queries)


def two_classes(support):
    "The label map of a support whose masks are cut in two: left 1, right 2; the second image, where there is one, shows class 1 only."
    labels = support.masks.long()
    for k, label in enumerate(labels):
        columns = label.any(0).nonzero()[:, 0]
        if k != 1: label[:, columns[len(columns)//2:]] *= 2
    return labels


@each_method
@properties
@given(task=tasks)
def test_one_class_of_several_is_the_binary_case(name, task):
    support, queries = task
    binary = build(name).adapt(dataclasses.replace(support, class_id=0), queries=queries[:1]).predict(queries)
    several = SeveralClasses(build(name)).adapt(support.images, 3*support.masks.long(), {3: "thing"}, queries=queries[:1]).predict(queries)
    assert torch.equal(several.label, 3*binary.mask.long())
    assert torch.equal(several.by_class[3].score, binary.score) and torch.equal(several.by_class[3].threshold, binary.threshold)


@each_method
@properties
@given(task=tasks)
def test_labels_are_only_numbers(name, task):
    support, queries = task
    labels, others = two_classes(support), torch.tensor([0, 9, 4])
    one = SeveralClasses(build(name)).adapt(support.images, labels, queries=queries[:1]).predict(queries)
    two = SeveralClasses(build(name)).adapt(support.images, others[labels], queries=queries[:1]).predict(queries)
    assert torch.equal(one.label > 0, one.claims > 0)
    for label, own in one.by_class.items():
        assert own.mask[one.label == label].all()
        assert torch.equal(own.mask, two.by_class[int(others[label])].mask)
    tie = one.margins[:, 0] == one.margins[:, 1]
    assert torch.equal(others[one.label][~tie], two.label[~tie])
    assert torch.equal(two.label[tie & (one.claims > 0)], torch.full_like(two.label[tie & (one.claims > 0)], 4))    # ties: the lowest label


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each_method
def test_a_gpu_gives_the_same_masks(name):
    support, queries = task(2, 48, 48, 2, seed=0)
    here, there = (build(name, device=device).adapt(support).predict(queries) for device in ("cpu", "cuda"))
    torch.testing.assert_close(here.score, there.score.cpu(), atol=1e-2, rtol=0)
    assert (here.mask == there.mask.cpu()).float().mean() > .99


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each_method
def test_a_saved_method_says_the_same_on_a_gpu(name):
    "Fitted and saved on the CPU. A card's convolutions have ten bits of fraction unless they are told otherwise."
    support, queries = task(2, 48, 48, 2, seed=0)
    method = build(name).adapt(support, queries=queries[:1])
    here = method.predict(queries)
    with tempfile.TemporaryDirectory() as folder, torch.backends.cudnn.flags(allow_tf32=False):
        there = load_method(method.save(folder), device="cuda", backbone=method.backbone).predict(queries)
    torch.testing.assert_close(there.score.cpu(), here.score, atol=1e-4, rtol=0)
    assert (there.mask.cpu() == here.mask).float().mean() >= .999

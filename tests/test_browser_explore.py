"""The explorer in JupyterLab: what a person moves with keys and clicks with a mouse. Skipped where there is no browser (`make browser`)."""
import pytest

START = """
import tempfile
from pathlib import Path
from cdfss.app.explore import explore
from cdfss.data.episodes import Episodes, sample_manifest
from cdfss.data.readers import open_dataset
from cdfss.data.samples import sample_root
from cdfss.evaluate.benchmark import run_benchmark
from cdfss.methods.base import build_method
run, reader = Path(tempfile.mkdtemp())/"run", open_dataset("wbc", sample_root("wbc"))
episodes = Episodes(sample_manifest(reader, episodes=4, image_size=96), reader.root)
run_benchmark(lambda seed: build_method("mtmnet", preset="instant", seed=seed), episodes, run, progress=False, info=dict(drawn_samples=True))
both = explore(reader, results=run, image_size=96)
app, results = both.children
attention = app.views[1]
both
"""


@pytest.fixture(scope="module")
def lab(open_notebook):
    notebook = open_notebook([START], name="explore")
    notebook.run()
    assert not notebook.errors()
    notebook.page.get_by_role("tab", name="mask").first.wait_for()
    return notebook


def shown(lab, place=0):
    "A picture that the page shows now, as the browser has decoded it."
    image = lab.page.locator("img.widget-image:visible").nth(place)
    image.wait_for()
    return image.evaluate("""async image => {
        await image.decode()
        const canvas = Object.assign(document.createElement("canvas"), { width: image.naturalWidth, height: image.naturalHeight })
        canvas.getContext("2d").drawImage(image, 0, 0)
        return canvas.toDataURL()
    }""")


def reads(lab, text):
    "Wait until the page says something."
    lab.page.wait_for_function("text => document.body.innerText.includes(text)", arg=text)


def until(lab, code, wanted):
    "What the kernel prints, as soon as it is wanted: a widget holds a message back while the one before is answered."
    for _ in range(300):
        if wanted(said := lab.kernel(code)): return said
        lab.page.wait_for_timeout(200)
    raise AssertionError(said)


def slider(lab, name):
    "The handle of a slider, by its description."
    return lab.page.locator(".jupyter-widgets.widget-slider", has_text=name).locator(".noUi-handle").first


def test_a_key_on_a_slider_redraws(lab):
    before = shown(lab)
    slider(lab, "episode").press("ArrowRight")
    until(lab, "print(app.controls.choice.number, app.error)", "1 None".__eq__)
    reads(lab, lab.kernel("print(app.said)"))
    assert shown(lab) != before


def test_the_threshold_is_moved_by_keys_and_fits_nothing(lab):
    fits = lab.kernel("print(app.bench.done['fitted'], app.bench.done['predicted'])")
    before = shown(lab)
    lab.page.get_by_label("threshold by hand").check()
    until(lab, "print(app.controls.choice.threshold)", "0.5".__eq__)
    slider(lab, "threshold").press("PageUp")
    threshold = float(until(lab, "print(app.controls.choice.threshold)", lambda said: float(said) > 0.5))
    reads(lab, f"threshold {threshold:.3g} by hand")
    assert shown(lab) != before
    assert lab.kernel("print(app.bench.done['fitted'], app.bench.done['predicted'])") == fits
    lab.page.get_by_label("threshold by hand").uncheck()
    until(lab, "print(app.controls.choice.threshold)", "None".__eq__)         # nothing is under way any more when the next test clicks


def test_a_click_in_the_query_shows_what_the_pixel_attends_to(lab):
    lab.page.get_by_role("tab", name="attention").first.click()
    query = lab.page.locator("img.cdfss-pixel-picker:visible")
    reads(lab, "Pixel 48, 48 (raw)")
    before, box = shown(lab), query.bounding_box()
    query.click(position=dict(x=24.5/96*box["width"], y=72.5/96*box["height"]))    # the middle of a pixel
    reads(lab, "Pixel 72, 24 (raw)")
    assert lab.kernel("print(attention.query.pixel, app.error)") == "[72, 24] None"
    clicked = shown(lab)
    assert clicked != before
    slider(lab, "column").press("ArrowLeft")
    reads(lab, "Pixel 72, 23 (raw)")
    assert lab.kernel("print(attention.query.pixel)") == "[72, 23]"
    expected = lab.kernel("""
from cdfss.app.explore import attention as attend
found = attend(app.bench.fitted(app.controls.choice), app.bench.episode(app.controls.choice).image, (72, 23))
print(f"{sum(level.says for level in found)/len(found):.2f}")""")
    assert f"the levels say {expected} on average" in lab.page.locator("body").inner_text()


def test_a_mistake_is_a_line_and_no_traceback(lab):
    lab.page.locator(".widget-dropdown", has_text="method").locator("select").first.select_option("prototype")
    reads(lab, "prototype does not compare a query pixel with support pixels")
    assert not lab.errors()
    assert lab.page.locator("img.cdfss-pixel-picker:visible").count() == 0


def test_the_worst_result_is_open_and_the_next_is_a_key_away(lab):
    rows = "sorted(results.results.rows, key=lambda row: row['iou'])"
    assert lab.kernel(f"print(results.results.rows[results.list.value] == {rows}[0], results.error)") == "True None"
    lab.page.get_by_role("tab", name="results").first.click()
    before = shown(lab, 1)                                        # the first is the reliability
    slider(lab, "place").press("ArrowRight")
    until(lab, "print(results.list.index)", "1".__eq__)
    reads(lab, lab.kernel(f"row = {rows}[1]; print(f\"{{row['query']}}: IoU {{row['iou']:.2f}} %\")"))
    assert lab.kernel(f"print(results.results.rows[results.list.value] == {rows}[1])") == "True"
    assert shown(lab, 1) != before
    lab.page.locator(".widget-select select").select_option(index=3)
    reads(lab, lab.kernel(f"row = {rows}[3]; print(f\"{{row['query']}}: IoU {{row['iou']:.2f}} %\")"))

"""The explorer in JupyterLab: what a person moves with keys and clicks with a mouse. Skipped where there is no browser (`make browser`)."""
import pytest

START = """
from cdfss.app.explore import explore
app = explore("wbc", image_size=96)
attention = app.views[1]
app
"""


@pytest.fixture(scope="module")
def lab(open_notebook):
    notebook = open_notebook([START], name="explore")
    notebook.run()
    assert not notebook.errors()
    notebook.page.get_by_role("tab", name="mask").first.wait_for()
    return notebook


def shown(lab, place=0):
    "The bytes of the picture that the page shows now, as a browser has decoded it."
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


def slider(lab, name):
    "The handle of a slider, by its description."
    return lab.page.locator(".jupyter-widgets.widget-slider", has_text=name).locator(".noUi-handle").first


def test_a_key_on_a_slider_redraws(lab):
    before = shown(lab)
    slider(lab, "episode").press("ArrowRight")
    assert lab.kernel("print(app.controls.choice.number, app.error)") == "1 None"
    reads(lab, lab.kernel("print(app.said)"))
    assert shown(lab) != before


def test_the_threshold_is_moved_by_keys_and_fits_nothing(lab):
    fits = lab.kernel("print(app.bench.done['fitted'], app.bench.done['predicted'])")
    before = shown(lab)
    lab.page.get_by_label("threshold by hand").check()
    handle = slider(lab, "threshold")
    for _ in range(3): handle.press("PageUp")
    threshold = float(lab.kernel("print(app.controls.choice.threshold)"))
    assert threshold > 0.5
    reads(lab, f"threshold {threshold:.3g} by hand")
    assert shown(lab) != before
    assert lab.kernel("print(app.bench.done['fitted'], app.bench.done['predicted'])") == fits
    lab.page.get_by_label("threshold by hand").uncheck()


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

"""JupyterLab in a browser: what a person clicks, draws and reads. Skipped where there is no browser (`make browser`)."""
import json
from pathlib import Path

import numpy as np
import pytest

from cdfss.app.paint import _RULE, MaskCanvas, draw_stroke

ROOT = Path(__file__).resolve().parents[1]


def test_quickstart_runs_to_its_end(open_notebook):
    notebook = open_notebook(ROOT/"nbs/tutorials/quickstart.ipynb")
    cells = notebook.run()
    assert not notebook.errors()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))


def test_browser_and_kernel_draw_the_same_pixels(browser):
    "The strokes' rule in JavaScript and in Python, on strokes of all kinds."
    rng, page = np.random.default_rng(0), browser.new_page()
    page.add_script_tag(content=_RULE)
    for case in range(60):
        height, width, step = (int(number) for number in rng.integers((20, 20, 1), (90, 90, 5)))
        points = rng.integers(-20, 100*step, (1 + int(rng.integers(12)), 2)).tolist()
        stroke = dict(points=points, size=1 + int(rng.integers(40)), value=1 + case % 9, fill=case % 2 == 0)
        drawn = np.zeros((height, width), np.uint8)
        draw_stroke(drawn, **stroke, step=step)
        values = page.evaluate("""([stroke, width, height, step]) => {
            const labels = {values: new Uint8Array(width*height), width, height, step}
            drawStroke(labels, stroke)
            return Array.from(labels.values)
        }""", [stroke, width, height, step])
        assert values == drawn.ravel().tolist(), (case, stroke)
    page.close()


PAINTER = """
import numpy as np
from cdfss.app.paint import Painter
image = np.full((200, 300, 3), 90, np.uint8)
image[:, 150:] = 200
painter = Painter(image, {1: "plasma", 2: "nucleus"})
painter
"""


class Hand:
    "A hand on a painter's mouse and keys, and what the kernel and the screen have of what it does."
    def __init__(self, notebook):
        self.notebook, self.page, self.canvas = notebook, notebook.page, notebook.page.locator(".cdfss-paint-canvas")
        self.canvas.scroll_into_view_if_needed()
        self.page.wait_for_function("() => document.querySelector('.cdfss-paint-canvas').width != 300")     # 300 is a canvas not drawn on yet

    def drag(self, *points):
        "From pixel to pixel of the image, with the left button down."
        box = self.canvas.bounding_box()
        scale = min(box["width"]/300, box["height"]/200)
        left, top = box["x"] + (box["width"] - 300*scale)/2, box["y"] + (box["height"] - 200*scale)/2
        places = [(left + (x + 0.5)*scale, top + (y + 0.5)*scale) for x, y in points]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]: self.page.mouse.move(*place, steps=10)
        self.page.mouse.up()
        self.page.mouse.move(left, top - 20)

    def press(self, *keys):
        for key in keys: self.page.keyboard.press(key)

    def click(self, button): self.page.locator(".cdfss-paint button", has_text=button).click()

    def labels(self, in_force):
        "The kernel's labels, when so many strokes are in force."
        self.notebook.until("print(painter.in_force)", str(in_force))
        return np.array(json.loads(self.notebook.kernel("print(painter.labels.tolist())")))

    def screen(self):
        "What the canvas shows, after the next time it was drawn."
        self.notebook.wait("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return self.page.evaluate("() => document.querySelector('.cdfss-paint-canvas').toDataURL()")


def iou(a, b): return (a & b).sum()/(a | b).sum()


def test_paint_with_mouse_and_keys(open_notebook):
    notebook = open_notebook([PAINTER])
    notebook.run()
    assert not notebook.errors()
    hand, expected = Hand(notebook), MaskCanvas(np.zeros((200, 300)), {1: "plasma", 2: "nucleus"})
    size = int(hand.page.locator(".cdfss-paint input").input_value())
    blank = hand.screen()

    hand.drag((60, 60), (200, 120))                                             # the brush
    expected.stroke([(60, 60), (200, 120)], size)
    brushed = hand.labels(1)
    assert iou(brushed == 1, expected.mask_of(1)) > 0.95
    assert (painted := hand.screen()) != blank

    hand.press("2", "o")                                                        # an outline, of the second class
    hand.drag((220, 20), (280, 20), (280, 80), (220, 80))
    expected.fill([(220, 20), (280, 20), (280, 80), (220, 80)], 2)
    both = hand.labels(2)
    assert iou(both == 2, expected.mask_of(2)) > 0.95 and (both[brushed > 0] == 1).all()
    outlined = hand.screen()

    hand.press("e", "]", "]")                                                   # the eraser, wider
    hand.drag((130, 20), (130, 180))
    erased = hand.labels(3)
    assert not erased[20:180, 130].any() and erased[60, 60] == 1 and erased[50, 250] == 2
    assert 1.3*size < (brushed[90] > 0).sum() - (erased[90] > 0).sum() < 1.8*size     # two times a quarter wider, cut from the brush's row
    cut = hand.screen()
    assert cut not in (blank, painted, outlined)

    hand.press("z")                                                             # undo and redo, by key and by button
    assert (hand.labels(2) == both).all() and hand.screen() == outlined
    hand.click("Undo")
    assert (hand.labels(1) == brushed).all() and hand.screen() == painted
    hand.press("Control+z")
    assert not hand.labels(0).any() and hand.screen() == blank
    hand.press("z", "Shift+Z", "Shift+Z")                                       # nothing is left to take back
    hand.click("Redo")
    assert (hand.labels(3) == erased).all() and hand.screen() == cut

    hand.press("h")
    assert hand.screen() == blank
    hand.press("h", "+", "+")
    assert hand.screen() != cut
    hand.press("0")
    assert hand.screen() == cut

    notebook.kernel("painter.undo()")                                           # the other way: what is done by calls is seen
    hand.page.locator(".cdfss-paint button:enabled", has_text="Redo").wait_for()
    assert hand.screen() == outlined
    notebook.kernel("painter.load(np.zeros((200, 300), bool))")
    hand.page.locator(".cdfss-paint button:disabled", has_text="Undo").wait_for()
    assert hand.screen() == blank
    assert [cell["source"] for cell in notebook.cells()] == [PAINTER]           # none of the keys was meant for the notebook

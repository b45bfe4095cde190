"""JupyterLab in a browser: what a person clicks, draws and reads. Skipped where there is no browser (`make browser`)."""
import base64
import zlib
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
    rng, sheets, strokes, expected = np.random.default_rng(0), [], [], []
    for case in range(80):
        height, width, step = (int(number) for number in rng.integers((20, 20, 1), (90, 90, 5)))
        points = rng.integers(-20, 100*step, (1 + int(rng.integers(12)), 2)).tolist()
        sheets.append(dict(height=height, width=width, step=step))
        strokes.append(dict(points=points, size=1 + int(rng.integers(40)), value=1 + case % 9, fill=case % 2 == 0))
        drawn = np.zeros((height, width), np.uint8)
        draw_stroke(drawn, **strokes[-1], step=step)
        expected.append(drawn.ravel().tolist())
    page = browser.new_page()
    page.add_script_tag(content=_RULE)
    found = page.evaluate("""([sheets, strokes]) => sheets.map((sheet, i) => {
        const values = new Uint8Array(sheet.width*sheet.height)
        drawStroke({...sheet, values}, strokes[i])
        return Array.from(values)
    })""", [sheets, strokes])
    page.close()
    differing = [(sheet, stroke) for sheet, stroke, here, there in zip(sheets, strokes, expected, found) if here != there]
    assert len(found) == 80 and not differing, differing


PAINTERS = """
import numpy as np
from cdfss.app.paint import Painter
image = np.full((200, 300, 3), 90, np.uint8)
image[:, 150:] = 200
painter = Painter(image, {1: "plasma", 2: "nucleus"})
painter
""", """
large = Painter(np.full((2000, 3600), 128, np.uint8), {7: "road"})
large
"""


@pytest.fixture(scope="module")
def painters(open_notebook):
    "A notebook with two painters: `painter`, 300×200 pixels, and `large`, 3600×2000, which is shown reduced."
    notebook = open_notebook(PAINTERS)
    notebook.run()
    assert not notebook.errors()
    return notebook


class Hand:
    "A hand on a painter's mouse and keys, and what the kernel and the screen have of what it does."
    def __init__(self, notebook, name, width, height):
        self.notebook, self.page, self.name, self.width, self.height = notebook, notebook.page, name, width, height
        self.root = self.page.locator(".cdfss-paint", has_text=f"{width}×{height} px")
        self.canvas = self.root.locator("canvas")
        self.canvas.scroll_into_view_if_needed()
        self.notebook.wait("new Promise(done => setInterval(() => document.querySelectorAll('.cdfss-paint').length == 2 && done(), 50))")
        self.screen()

    def places(self, points, zoom=1):
        "Where pixels of the image are in the window: it fits the canvas, or was zoomed with the keys, which leaves its middle in its place."
        box = self.canvas.bounding_box()
        scale = zoom*min(box["width"]/self.width, box["height"]/self.height)
        x, y = box["x"] + box["width"]/2, box["y"] + box["height"]/2
        return [(x + (column + 0.5 - self.width/2)*scale, y + (row + 0.5 - self.height/2)*scale) for column, row in points]

    def drag(self, *points, zoom=1):
        "From pixel to pixel of the image with the left button down, and then out of the way."
        first, *rest = self.places(points, zoom)
        self.page.mouse.move(*first)
        self.page.mouse.down()
        for place in rest: self.page.mouse.move(*place, steps=10)
        self.page.mouse.up()
        self.page.mouse.move(2, 2)

    def press(self, *keys):
        for key in keys: self.page.keyboard.press(key)

    def button(self, name, state=""): return self.root.locator(f"button{state}", has_text=name)

    def labels(self, in_force):
        "The kernel's labels, when so many strokes are in force."
        self.notebook.until(f"print({self.name}.in_force)", str(in_force))
        sent = self.notebook.kernel(f"import base64, zlib; print(base64.b64encode(zlib.compress({self.name}.labels.tobytes())).decode())")
        return np.frombuffer(zlib.decompress(base64.b64decode(sent)), np.uint8).reshape(self.height, self.width)

    def screen(self):
        "What the canvas shows, after the next time it was drawn."
        self.notebook.wait("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return self.canvas.evaluate("canvas => canvas.toDataURL()")


def iou(a, b): return (a & b).sum()/(a | b).sum()


def test_paint_with_mouse_and_keys(painters):
    hand, expected = Hand(painters, "painter", 300, 200), MaskCanvas(np.zeros((200, 300)), {1: "plasma", 2: "nucleus"})
    size = int(hand.root.locator("input").input_value())
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
    hand.button("Undo").click()
    assert (hand.labels(1) == brushed).all() and hand.screen() == painted
    hand.press("Control+z")
    assert not hand.labels(0).any() and hand.screen() == blank
    hand.press("z", "Shift+Z", "Shift+Z")                                       # nothing is left to take back
    hand.button("Redo").click()
    assert (hand.labels(3) == erased).all() and hand.screen() == cut

    hand.press("h")
    assert hand.screen() == blank
    hand.press("h", "+", "+")
    assert hand.screen() != cut
    hand.press("0")
    assert hand.screen() == cut

    painters.kernel("painter.undo()")                                           # the other way: what is done by calls is seen
    hand.button("Redo", ":enabled").wait_for()
    assert hand.screen() == outlined
    painters.kernel("painter.load(np.zeros((200, 300), bool))")
    hand.button("Undo", ":disabled").wait_for()
    assert hand.screen() == blank
    assert [cell["source"] for cell in painters.cells()] == list(PAINTERS)     # none of the keys was meant for the notebook


def test_paint_a_large_image_zoomed_and_moved(painters):
    hand = Hand(painters, "large", 3600, 2000)
    assert "shown at 1/3" in hand.root.inner_text()
    size = int(hand.root.locator("input").input_value())
    line = [(1500, 900), (2000, 1150)]
    hand.drag(*line)
    drawn = hand.labels(1)
    expected = MaskCanvas(np.zeros((2000, 3600))).stroke(line, size).mask
    assert drawn.max() == 7 and iou(drawn > 0, expected) > 0.95

    hand.press("+", "+", "+", "+", "o")                                         # close up
    square = [(1600, 1200), (1900, 1200), (1900, 1300), (1600, 1300)]
    hand.drag(*square, zoom=1.25**4)
    added = (hand.labels(2) > 0) & (drawn == 0)
    assert iou(added, MaskCanvas(np.zeros((2000, 3600))).fill(square).mask & ~expected) > 0.95

    before = hand.screen()
    hand.page.keyboard.down("Space")                                            # moved by the hand: nothing is painted
    hand.drag((1800, 1000), (1700, 950), zoom=1.25**4)
    hand.page.keyboard.up("Space")
    assert hand.screen() != before
    hand.page.mouse.move(*hand.places([(1800, 1000)])[0])
    hand.page.keyboard.down("Control")
    hand.page.mouse.wheel(0, 5000)                                              # as far away as it goes
    hand.page.keyboard.up("Control")
    hand.root.get_by_text("2 %", exact=True).wait_for()
    hand.button("Fit").click()
    hand.drag((100, 100), (300, 100), (300, 300), (100, 300))
    assert hand.labels(3)[200, 200] == 7 and (hand.labels(3) > 0).sum() > (drawn > 0).sum() + added.sum()

"""The docs: built once from the notebooks into a temporary folder, read as HTML, and used in a browser where there is one."""
import functools
import json
import re
import subprocess
import sys
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from fastcore.test import test_eq, test_fail

from cdfss._modidx import d as index

test_eq.__test__ = test_fail.__test__ = False
root = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root/"docs"))
from convert import Linker, find_symbols, read_page  # noqa: E402
from mathml import mathml  # noqa: E402

LOADED = dict(img=["src"], script=["src"], link=["href"], iframe=["src"], source=["src", "srcset"], video=["src"], object=["data"])


class PageParser(HTMLParser):
    "Anchors, links, what a browser would load, and the text outside of code of one page."
    def __init__(self, file):
        super().__init__()
        self.ids, self.links, self.loads, self.text, self.inside = [], [], [], [], []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if tag == "a" and "href" in attributes else []
        relation = attributes.get("rel") or ""
        if not (tag == "link" and relation in ("index", "search", "next", "prev", "author", "copyright")):
            self.loads += [attributes[name] for name in LOADED.get(tag, []) if name in attributes]
        if tag in ("code", "pre", "script", "style"): self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag: self.inside.pop()

    def handle_data(self, data):
        if not self.inside: self.text.append(data)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    "The folder of the built pages, and what building said."
    out = tmp_path_factory.mktemp("docs")
    run = subprocess.run([sys.executable, str(root/"docs/build.py"), "--out", str(out)], capture_output=True, text=True)
    return out/"html", run


@pytest.fixture(scope="session")
def pages(built):
    html, run = built
    return {file.relative_to(html).as_posix(): PageParser(file) for file in sorted(html.rglob("*.html"))}


def test_builds_without_a_warning(built):
    html, run = built
    assert run.returncode == 0 and "WARNING" not in run.stderr, run.stderr
    assert run.stdout.strip() == str(html/"index.html")


def test_every_notebook_is_a_page(pages):
    notebooks = {file.relative_to(root/"nbs").with_suffix(".html").as_posix() for file in (root/"nbs").rglob("*.ipynb")
                 if ".ipynb_checkpoints" not in file.parts} - {"index.html"}
    assert not notebooks - set(pages), notebooks - set(pages)


def test_every_public_symbol_has_one_anchor_and_is_listed(pages):
    public = [name for names in index["syms"].values() for name in names if not re.search(r"\._", name)]
    assert len(public) > 300
    anchors = defaultdict(list)
    for name, page in pages.items():
        for anchor in page.ids: anchors[anchor].append(name)
    assert not [name for name in public if len(anchors[name]) != 1]
    listed = {link.partition("#")[2] for link in pages["api.html"].links}
    assert not set(public) - listed, set(public) - listed
    assert not [module for module in index["syms"] if not anchors[f"module-{module}"]]


def test_names_are_linked_across_pages(pages):
    assert "44_model.affinity.html#cdfss.model.affinity.dense_affinity" in pages["61_methods.mtmnet.html"].links
    assert "../61_methods.mtmnet.html#cdfss.methods.mtmnet.MTMNet" in pages["tutorials/quickstart.html"].links


def test_search_index_has_the_terms(built):
    text = (built[0]/"searchindex.js").read_text(encoding="utf-8")
    found = json.loads(re.fullmatch(r"Search\.setIndex\((.*)\)", text, re.S)[1])
    assert "otsu" in found["terms"]
    assert any(entry[-1] == "dense_affinity" or "dense_affinity" in str(entry) for entry in found["objects"]["cdfss.model.affinity"])


def test_links_resolve(built, pages):
    html, broken, checked = built[0], [], 0
    for name, page in pages.items():
        for link in page.links + page.loads:
            parts = urlsplit(link)
            checked += 1
            if parts.scheme in ("http", "https"):     # not visited: tests run without a network
                if "." not in parts.netloc: broken.append((name, link))
                continue
            if parts.scheme: broken.append((name, link)); continue
            file = (html/name).parent/unquote(parts.path) if parts.path else html/name
            if not file.resolve().is_file(): broken.append((name, link))
            elif parts.fragment:
                target = pages.get(file.resolve().relative_to(html.resolve()).as_posix())
                if target and unquote(parts.fragment) not in target.ids: broken.append((name, link))
    assert checked > 5000 and not broken, broken


def test_nothing_is_loaded_from_elsewhere(built, pages):
    assert not [(name, load) for name, page in pages.items() for load in page.loads if re.match(r"[a-z]+:(?<!data:)|//", load)]
    for file in built[0].rglob("*.css"):
        assert not re.search(r"(url\(\s*[\"']?|@import\s+[\"'])(https?:|//)", file.read_text(encoding="utf-8")), file


def test_formulas_are_mathml(built, pages):
    assert sum(file.read_text(encoding="utf-8").count("<math") for file in built[0].glob("*.html")) > 200
    tex = re.compile(r"\$\$|\\(frac|sum|operatorname|mathrm|text)\b")
    left = [(name, text) for name, page in pages.items() for text in page.text if tex.search(text)]
    assert not left, left


def test_formula_details():
    assert "&#x0211D;" in mathml(r"\mathbb R^n", "inline")              # a letter of its own, for browsers ignore mathvariant
    assert "<munder>" in mathml(r"\operatorname*{mean}_{n,i} x", "block")
    assert "<munder>" not in mathml(r"\operatorname*{mean}_i x", "inline")
    assert 'form="prefix">&#x02212;' in mathml("x=-1", "inline") and "prefix" not in mathml("f(x)-1", "inline")
    assert "mspace" in mathml(r"\log P", "inline") and "mspace" not in mathml(r"\log(P)", "inline")
    test_fail(lambda: mathml(r"\unheard x", "inline"), contains="unheard")


SOURCE = '''
@dataclass
class Cell(Thing):
    "A cell."
    size: int = 3    # in pixels

    def grow(self, by: float = 1.0):
        return self

@patch
def shrink(self: Cell,
    by: float,        # how much
    *,
    fast=False,
) -> Cell:            # the same
    "Smaller."

def _hidden(): pass
STAIN = "blue"        # of the nucleus
'''


def test_symbols_are_read_from_source():
    cell, grow, shrink, stain = find_symbols(SOURCE, "cdfss.lab")
    test_eq((cell.kind, cell.rows, cell.bases), ("class", [("size", "int", "3", "in pixels")], ["Thing"]))
    test_eq((grow.name, grow.rows), ("Cell.grow", [("by", "float", "1.0", "")]))
    test_eq(shrink.rows, [("by", "float", "", "how much"), ("*", "", "", ""), ("fast", "", "False", "")])
    test_eq((shrink.full, shrink.doc, shrink.returns), ("cdfss.lab.Cell.shrink", "Smaller.", ("Cell", "the same")))
    test_eq((stain.name, stain.kind, stain.doc), ("STAIN", "data", "of the nucleus"))


def test_only_names_with_one_meaning_become_links():
    pages = [read_page(file, file.name) for file in sorted((root/"nbs").glob("*.ipynb"))]
    page = next(page for page in pages if page.module == "cdfss.model.affinity")
    linker = Linker(pages, root)
    text = functools.partial(linker.text, page=page)
    test_eq(text("`MTMNet.predict`"), "{py:obj}`MTMNet.predict <cdfss.methods.mtmnet.MTMNet.predict>`")
    test_eq(text("`MTMNet.use_support`"), "{py:obj}`MTMNet.use_support <cdfss.methods.base.FewShotSegmenter.use_support>`")       # inherited
    test_eq(text("`cdfss.model.affinity` `model.affinity`").count("{py:mod}"), 2)
    test_eq(text("`cdfss.Support`, `methods.base.methods()`").count("{py:obj}"), 2)
    for same in ("`methods`", "`adapt`", "`PRESETS`", "`nobody`", "`cdfss`", "# `MTMNet`", "```\n`MTMNet`\n```", "[`MTMNet`](x:y)"):
        test_eq(text(same), same)
    test_eq(text("[here](41_model.hierarchical_mask.ipynb#How-it-fails)"), "[here](41_model.hierarchical_mask.ipynb#how-it-fails)")
    test_eq(text("[file](../LICENSE), [text](../CHANGELOG.md)"), "[file](files/LICENSE), [text](files/CHANGELOG.md.txt)")
    test_eq(text("[folder](../nbs), [below](#How-it-fails)"), "folder, [below](#how-it-fails)")
    test_eq(linker.files, {"files/LICENSE": root/"LICENSE", "files/CHANGELOG.md.txt": root/"CHANGELOG.md"})


@pytest.fixture
def page(browser, built):
    "A tab that must stay without errors and load nothing but the files of the docs, as when they are opened from a disk."
    tab, troubles = browser.new_page(color_scheme="light"), []
    tab.set_default_timeout(120_000)    # a page of a busy machine
    tab.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("requestfailed", lambda request: None if request.failure == "net::ERR_ABORTED" else troubles.append(request.url))   # left early
    tab.on("request", lambda request: None if request.url.startswith((built[0].as_uri(), "data:")) else troubles.append(request.url))
    yield tab
    tab.close()
    assert not troubles, troubles


@pytest.fixture(scope="module")
def site(built): return f"{built[0].as_uri()}/"


SHOWN = ["index", "tutorials/index", "tutorials/quickstart", "42_model.triplet_alignment", "61_methods.mtmnet", "71_evaluate.report", "api"]


@pytest.mark.parametrize("width", [1400, 900, 390])
def test_pages_fit_the_screen(page, site, width):
    page.set_viewport_size(dict(width=width, height=900))
    for name in SHOWN:
        page.goto(f"{site}{name}.html")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)"), name


def test_search_finds(page, site):
    for term, target in (("dense_affinity", "cdfss.model.affinity.dense_affinity"), ("Otsu", "45_model.decide.html")):
        page.goto(f"{site}search.html?q={term}")
        page.wait_for_selector("#search-results ul.search li a")
        page.wait_for_function("!/Searching/.test(document.querySelector('#search-results h2').textContent)")
        links = page.eval_on_selector_all("#search-results ul.search li a", "links => links.map(link => link.getAttribute('href'))")
        assert any(target in link for link in links), links


def test_dark_mode(page, site):
    page.goto(f"{site}index.html")
    ground = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = ground()
    for _ in range(3):
        page.locator(".theme-toggle:visible").first.click()
        if page.evaluate("document.body.dataset.theme") == "dark": break
    assert page.evaluate("document.body.dataset.theme") == "dark" and ground() != light


def test_solutions_fold(page, site):
    page.goto(f"{site}42_model.triplet_alignment.html")
    details = page.locator("details", has_text="Solution").first
    hidden = details.locator("p").first
    assert not hidden.is_visible()
    details.locator("summary").click()
    assert hidden.is_visible()

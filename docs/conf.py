"""Sphinx' settings for what docs/build.py puts together. No font, script or picture comes from outside of the docs."""
import sys
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from sphinx.util.logging import getLogger

docs = Path(__file__).resolve().parent
sys.path.insert(0, str(docs))
from mathml import mathml  # noqa: E402

config = ConfigParser(delimiters=["="])
config.read(docs.parent/"settings.ini", encoding="utf-8")
project, author, release = (config["DEFAULT"][key] for key in ("lib_name", "author", "version"))
copyright = config["DEFAULT"]["copyright"]

extensions = ["myst_nb", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 4
myst_update_mathjax = False
nb_execution_mode = "off"              # outputs are shown as they are stored
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_ipywidgets_js = {}                  # myst-nb would load them from the network
html_math_renderer = "mathml"

html_theme = "furo"
html_title = project
# ziamath brings STIX Two Math along (SIL Open Font License): without a font for formulas, brackets do not grow
html_static_path = [str(docs/"_static"), str(Path(find_spec("ziamath").origin).parent/"fonts/STIXTwoMath-Regular.ttf")]
html_css_files = ["cdfss.css"]
html_favicon = str(docs/"_static/favicon.svg")
html_theme_options = {"top_of_page_buttons": []}
html_show_sourcelink = html_copy_source = False
html_show_search_summary = False       # would have to fetch pages, which browsers refuse where the docs are opened as files
pygments_style, pygments_dark_style = "friendly", "github-dark"
add_module_names = False
toc_object_entries_show_parents = "hide"
copybutton_exclude = ".linenos, .gp, .go"


def formula(display):
    "How Sphinx writes an inline formula or a block of one."
    def visit(translator, node):
        try: translator.body.append(f'<span class="formula {display}">{mathml(node.astext(), display)}</span>')
        except ValueError as error: getLogger(__name__).warning(str(error), location=node)
        raise nodes.SkipNode
    return visit, None


def setup(app):
    app.add_html_math_renderer("mathml", inline_renderers=formula("inline"), block_renderers=formula("block"))

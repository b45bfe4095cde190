"""Write README.md from nbs/index.ipynb, without outputs: pictures are files under docs/images, linked by the notebook."""
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

root = Path(__file__).resolve().parents[1]


def readme(notebook: Path) -> str:
    "The notebook as Markdown: hidden cells and outputs dropped, directives stripped, links seen from the top folder."
    nb = nbformat.read(notebook, as_version=4)
    kept = []
    for cell in nb.cells:
        lines = cell.source.splitlines()
        directives = [line for line in lines if line.startswith("#|")]
        if any("hide" in line for line in directives): continue
        if cell.cell_type == "code":
            cell.source = "\n".join(line for line in lines if not line.startswith("#|")).strip()
            cell.outputs = []
        kept.append(cell)
    nb.cells = kept
    text, _ = MarkdownExporter().from_notebook_node(nb)
    text = "\n".join(line.rstrip() for line in text.replace("](../", "](").replace('src="../', 'src="').splitlines())
    while "\n\n\n" in text: text = text.replace("\n\n\n", "\n\n")
    return text.strip() + "\n"


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else root/"README.md"
    target.write_text(readme(root/"nbs/index.ipynb"), encoding="utf-8")

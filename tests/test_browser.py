"""JupyterLab in a browser: what a person clicks, draws and reads. Skipped where there is no browser (`make browser`)."""
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_quickstart_runs_to_its_end(open_notebook):
    notebook = open_notebook(ROOT/"nbs/tutorials/quickstart.ipynb")
    cells = notebook.run()
    assert not notebook.errors()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))

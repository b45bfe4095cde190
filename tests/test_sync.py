"""Modules, notebooks and README say the same: exporting, cleaning and converting a copy changes nothing."""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def remade(tmp_path_factory):
    "A copy of the repository in which everything generated has been generated anew."
    copy = tmp_path_factory.mktemp("sync")/"repo"
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "_docs", "_proc", "_build")
    for name in ("nbs", "cdfss", "docs"): shutil.copytree(ROOT/name, copy/name, ignore=ignore)
    for name in ("settings.ini", "setup.py", "pyproject.toml", "README.md"): shutil.copy(ROOT/name, copy/name)
    for command in ("nbdev_export", "nbdev_clean"):
        subprocess.run([Path(sys.executable).parent/command], cwd=copy, check=True, capture_output=True)
    subprocess.run([sys.executable, "docs/make_readme.py"], cwd=copy, check=True, capture_output=True)
    return copy


def differing(remade, *patterns):
    "Files that differ between the repository and its remade copy, or exist in one of them only."
    names = {p.relative_to(base) for base in (ROOT, remade) for pattern in patterns for p in base.glob(pattern)
             if ".ipynb_checkpoints" not in p.parts and "__pycache__" not in p.parts}
    read = lambda path: path.read_bytes() if path.exists() else None
    return sorted(str(name) for name in names if read(ROOT/name) != read(remade/name))


def test_modules_are_exported(remade): assert differing(remade, "cdfss/**/*.py") == [], "run nbdev_export"
def test_notebooks_are_clean(remade): assert differing(remade, "nbs/**/*.ipynb") == [], "run nbdev_clean"
def test_readme_is_current(remade): assert differing(remade, "README.md") == [], "run make readme"


def test_notebooks_are_small():
    "Stored outputs are what a reader downloads."
    assert [str(p) for p in (ROOT/"nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts and p.stat().st_size > 1_000_000] == []


def test_imports_point_one_way():
    "core, metrics, show <- data <- model <- train <- methods <- evaluate <- app"
    import re
    order = ["data", "model", "train", "methods", "evaluate", "app"]
    wrong = []
    for path in (ROOT/"cdfss").rglob("*.py"):
        room = path.parent.name if path.parent != ROOT/"cdfss" else None
        if path.name in ("__init__.py", "__main__.py", "_modidx.py"): continue      # `__main__` is the command itself, above all rooms
        up = r"\.\." if room else r"\."
        for other in re.findall(rf"^\s*(?:from|import) (?:cdfss\.|{up})(\w+)", path.read_text(encoding="utf-8"), flags=re.M):
            if other in order and (room is None or order.index(other) > order.index(room)): wrong.append(f"{path.name} imports cdfss.{other}")
    assert wrong == []

"""What files may not do: run code, reach a shell or the network, or write outside their folder."""
import ast
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdfss.core import CdfssError, load_plain
from cdfss.data.prepare import prepare
from cdfss.methods.base import build_method

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT/"cdfss").rglob("*.py"))
QUIET = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


# ---------------------------------------------------------------- the package's own source

def calls(path: Path) -> list[ast.Call]: return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_module_unpickles_unpacks_at_will_or_starts_a_shell(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"^\s*(?:import|from) (?:pickle|marshal|shelve|dill|subprocess)\b", text, re.M)
    assert not re.search(r"os\.(?:system|popen|exec|spawn)|shell=True|extractall|unpack_archive", text)
    for call in calls(path):
        name = ast.unparse(call.func)
        if name.split(".")[-1] == "load" and name.split(".")[0] in ("torch", "np", "numpy", "joblib"):
            assert name == "torch.load" and path.stem == "core" and "weights_only=True" in ast.unparse(call), ast.unparse(call)
        assert name not in ("eval", "exec", "compile", "__import__"), f"{path.name}: {ast.unparse(call)[:80]}"


# ---------------------------------------------------------------- notebooks

REMOTE = re.compile(r"""(?:src|srcset|data-src|poster)\s*=\s*["']?\s*(?:https?:)?//|@import|url\(\s*["']?(?:https?:)?//|<script|<iframe|<link"""
                    r"""|import\(|require\(|fetch\(|XMLHttpRequest|!\[[^\]]*\]\((?:https?:)?//""", re.I)


@pytest.mark.parametrize("path", sorted((ROOT/"nbs").rglob("*.ipynb")), ids=lambda path: path.stem)
def test_opening_a_notebook_fetches_nothing_and_runs_nothing(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        texts = [] if cell["cell_type"] == "code" else [re.sub(r"(?s)```.*?```|`[^`]*`", "", "".join(cell["source"]))]
        for output in cell.get("outputs", ()):
            kinds = output.get("data", {})
            assert "application/javascript" not in kinds, path
            texts += ["".join(kinds[kind]) for kind in ("text/html", "text/markdown", "image/svg+xml") if kind in kinds]
        for text in texts: assert not (found := REMOTE.search(text)), f"{path.name}: {text[max(found.start() - 60, 0):found.end() + 60]!r}"


@pytest.mark.parametrize("text", ["<img src='https://a.b/c.png'>", "![x](http://a.b/c.png)", "<script>1</script>", "<style>@import 'x'</style>"])
def test_what_fetches_is_recognised(text): assert REMOTE.search(text)


def test_importing_and_adapting_need_no_network():
    code = ("import socket\n"
            "def refuse(*_, **__): raise AssertionError('the network was asked')\n"
            "socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse\n"
            "import torch, cdfss\n"
            "from cdfss.methods.base import build_method\nfrom cdfss.data.episodes import Support\n"
            "masks = torch.zeros(1, 64, 64); masks[:, 20:40, 20:40] = 1\n"
            "print(build_method('raw', device='cpu').adapt(Support(torch.randn(1, 3, 64, 64), masks)).predict(torch.randn(3, 64, 64)).mask.shape)\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "[1, 64, 64]" in done.stdout, done.stderr[-500:]


# ---------------------------------------------------------------- pickles and archives

class Touch:
    "A pickle that makes a file where it is read."
    def __init__(self, path): self.path = path
    def __reduce__(self): return Path.touch, (self.path,)


@pytest.mark.parametrize("hide", [lambda x: x, lambda x: {"a": x}, lambda x: [torch.zeros(1), (x,)], lambda x: {"state_dict": {"w": x}}])
@pytest.mark.parametrize("zipped", [True, False])
def test_no_pickle_is_run(tmp_path, hide, zipped):
    torch.save(hide(Touch(tmp_path/"run")), tmp_path/"x.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(Exception): load_plain(tmp_path/"x.pth")
    with pytest.raises(CdfssError, match="x.pth"): build_method("raw", backbone="embedded", weights=tmp_path/"x.pth")
    assert not (tmp_path/"run").exists()


@given(parts=st.lists(st.sampled_from(["..", ".", "", "a", "/", "\\", "C:", "..\\..", "~"]), min_size=1, max_size=5), sign=st.sampled_from("/\\"))
@QUIET
def test_archives_write_nothing_outside(tmp_path_factory, parts, sign):
    home = tmp_path_factory.mktemp("archive")
    (home/"raw").mkdir()
    with zipfile.ZipFile(home/"raw"/"x.zip", "w") as archive: archive.writestr(sign.join([*parts, "acorn", "1.jpg"]), b"x")
    try: prepare("fss1000", home/"raw", home/"out", shots=())
    except CdfssError: pass
    assert sorted(path.name for path in home.iterdir()) in (["out", "raw"], ["raw"])
    assert [path.name for path in (home/"raw").iterdir()] == ["x.zip"]

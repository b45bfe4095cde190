"""A small share of the fuzzed files on every change; `python tests/fuzz.py` tries thousands."""
import warnings

import pytest
from fuzz import KINDS, fuzz, try_case

CASES = {"methods": 6, "runs": 6, "own": 6, "weights": 8, "images": 40, "masks": 40}   # by what a case costs; else 10


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_give_a_result_or_a_clear_error(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(CASES.get(name, 10)):
            case = try_case(0, name, number)
            assert case["outcome"] in ("result", "refused"), f"python tests/fuzz.py --kinds {name} --case {number}\n{case}"
            assert case["outcome"] == "result" or case["told"], case


def test_findings_are_found(monkeypatch, capsys):
    def crash(): raise KeyError("x")
    def write(folder): (folder.parent/"elsewhere").touch()
    for call, found in ((lambda folder: crash, "KeyError"), (lambda folder: lambda: write(folder), "written elsewhere")):
        monkeypatch.setitem(KINDS, "images", lambda rng, folder: ("whole", call(folder)))
        counts = fuzz(0, 2, ["images"])
        assert counts["images"]["findings"] == 2 and found in capsys.readouterr().out

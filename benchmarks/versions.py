"""The tests under the Python and the libraries that run this.

    python benchmarks/versions.py            pytest but for docs and browser, then all notebooks; about ten minutes
    python benchmarks/versions.py --store    … and put the counts into benchmarks/versions.json, an entry for each set of versions

Run it once in each environment that is to be in the table.
"""
import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STORE = Path(__file__).with_suffix(".json")
LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "scipy", "pandas", "matplotlib", "click", "safetensors", "fastcore")
NOT_HERE = ("test_docs.py", "test_sync.py", "test_browser.py", "test_browser_explore.py")   # about files that are the same everywhere, and about JupyterLab


def run_pytest() -> dict:
    "Counts, and the names of tests that fail."
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder)/"report.xml"
        left_out = [f"--ignore=tests/{name}" for name in NOT_HERE]
        subprocess.run([sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "tests", *left_out, f"--junitxml={report}"], cwd=ROOT)
        cases = list(ET.parse(report).iter("testcase"))
    failed = [f"{case.get('classname')}.{case.get('name')}" for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return dict(passed=len(cases) - len(failed) - skipped, skipped=skipped, failed=failed)


def run_notebooks() -> dict:
    "Counts, and the names of notebooks that fail."
    said = subprocess.run([sys.executable, "tests/notebooks.py"], cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    print(said, flush=True)
    lines = re.findall(r"^(\S+) .* s of a processor(, FAILED)?$", said, re.M)
    failed = [name for name, bad in lines if bad]
    return dict(passed=len(lines) - len(failed), failed=failed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", action="store_true")
    asked = parser.parse_args()
    versions = dict(python=platform.python_version(), **{name: version(name) for name in LIBRARIES})
    found = dict(versions=versions, on=f"{platform.system()}, {platform.machine()}", pytest=run_pytest(), notebooks=run_notebooks())
    print(json.dumps(found, indent=1))
    if not asked.store: return
    stored = json.loads(STORE.read_text()) if STORE.exists() else {}
    STORE.write_text(json.dumps(stored | {f"Python {versions['python']}, PyTorch {versions['torch']}": found}, indent=1) + "\n")


if __name__ == "__main__": main()

"""How long each notebook computes when it is tested, for the course page.

    python benchmarks/notebook_seconds.py                 print CPU seconds of every notebook of nbs/
    python benchmarks/notebook_seconds.py --store         … and store them in benchmarks/notebook_seconds.json
    python benchmarks/notebook_seconds.py 01_metrics      only some, by name; the others keep what is stored

CPU seconds of one thread, start and imports included: unlike the clock on the wall they hardly depend on what else the machine is doing.
Needs a system that accounts for finished processes (Linux, macOS).
"""
import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STORE = ROOT/"benchmarks"/"notebook_seconds.json"
LEFT_OUT = ("course", "index")     # the first reads what is stored here, the second computes nothing


def notebooks() -> dict[str, Path]:
    "The notebooks of nbs/ by their path below it, without suffix."
    found = (path for path in sorted((ROOT/"nbs").rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts)
    return {name: path for path in found if (name := path.relative_to(ROOT/"nbs").with_suffix("").as_posix()) not in LEFT_OUT}


def measure(path: Path) -> float:
    "CPU seconds of testing one notebook in a process of its own."
    spent = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])     # user and system time
    before = spent()
    one_thread = dict(os.environ, OMP_NUM_THREADS="1", GOMP_SPINCOUNT="10000")
    tested = subprocess.run([Path(sys.executable).parent/"nbdev_test", "--path", path], cwd=ROOT, env=one_thread, capture_output=True, text=True)
    if tested.returncode: raise SystemExit(f"{path.name} fails its tests; nothing is stored\n{tested.stderr[-2000:]}")
    return spent() - before


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="notebooks below nbs/, without suffix")
    parser.add_argument("--store", action="store_true")
    arguments = parser.parse_args()
    known = notebooks()
    if unknown := set(arguments.names) - set(known): parser.error(f"there is no notebook {min(unknown)}")
    measured = {}
    for name in arguments.names or known:
        measured[name] = round(measure(known[name]), 1)
        print(f"{name:32s} {measured[name]:6.1f} s", flush=True)
    before = json.loads(STORE.read_text()) if STORE.exists() else {}      # read only now: another process may have stored its own
    seconds = {name: value for name, value in sorted((before | measured).items()) if name in known}
    print(f"{'all':32s} {sum(seconds.values()):6.1f} s")
    if arguments.store: STORE.write_text(json.dumps(seconds, indent=1) + "\n")


if __name__ == "__main__": main()

"""Run every notebook's tests as nbdev_test does, two at a time, the longest first: at the end nobody waits for a long one.

    python tests/notebooks.py              all of nbs/
    python tests/notebooks.py wbc suim     only these
"""
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STORED = ROOT/"benchmarks"/"notebook_seconds.json"     # CPU seconds by name; a notebook that is not in it may be long


def in_order(names: list[str]) -> list[Path]:
    "The notebooks of nbs/, or those of these names, the longest first."
    seconds = json.loads(STORED.read_text())
    below = lambda path: path.relative_to(ROOT/"nbs").with_suffix("").as_posix()
    found = [path for path in (ROOT/"nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]
    if unknown := set(names) - {path.stem for path in found}: raise SystemExit(f"there is no notebook {min(unknown)}")
    chosen = [path for path in found if not names or path.stem in names]
    return sorted(chosen, key=lambda path: (-seconds.get(below(path), 1000), path))


def tested(path: Path) -> tuple[bool, float, float]:
    "Whether a notebook's tests pass, its seconds, and its CPU seconds without those of programs that it starts."
    import torch
    from nbdev.config import get_config
    from nbdev.test import test_nb
    threads, cpu = torch.get_num_threads(), time.process_time()
    passed, seconds = test_nb(path, skip_flags=get_config(path=ROOT).tst_flags.split(), basepath=ROOT)
    torch.set_num_threads(threads)                     # the next notebook of this process shall not pay for what this one set
    return passed, seconds, time.process_time() - cpu


def main():
    from notebooks import tested as by_name             # a notebook takes the place of __main__, where this one would be looked for
    paths, failed = in_order(sys.argv[1:]), []
    with ProcessPoolExecutor(2) as pool:
        for path, (passed, seconds, cpu) in zip(paths, pool.map(by_name, paths)):
            print(f"{path.stem:32s} {seconds:4.0f} s, {cpu:4.0f} s of a processor{'' if passed else ', FAILED'}", flush=True)
            if not passed: failed.append(path.stem)
    if failed: raise SystemExit("failed: " + ", ".join(failed))


if __name__ == "__main__": main()

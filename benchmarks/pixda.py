"""PixDA and its baselines: the paper's ladder on drawn streets, and from drawn streets to photographs.

    python benchmarks/pixda.py                    both parts: run what is missing, then print the tables
    python benchmarks/pixda.py drawn --store      only the ladder, stored in benchmarks/pixda.json
    python benchmarks/pixda.py streets --store    only the photographs; needs shared/data/streets (CDFSS_SHARED)
    python benchmarks/pixda.py --seeds 10         a seed to try things on: not one of those that are reported

Seeds run side by side, one thread each (--workers). It can be killed at any time and goes on where it was.
"""
import argparse
import functools
import json
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from cdfss.core import atomic_path, set_threads, shared
from cdfss.data.domains import Domain
from cdfss.data.driving import STREETS_CLASSES, Streets, drawn_streets
from cdfss.evaluate.benchmark import versions
from cdfss.evaluate.domains import score_domain, seed_table
from cdfss.methods.pixda import LADDER, PUBLISHED, PUBLISHED_SOURCE, PixDA, resized
from cdfss.show import text_table

HERE = Path(__file__).parent
DRAWN = dict(size=(64, 128), classes=19, strength=1.)                  # both looks
SOURCES, CITIES, TESTS = 400, 5, 60                                    # source streets; cities, one labelled image each; streets to score on
PHOTOS = dict(size=(72, 96), classes=STREETS_CLASSES)                  # photographs are 3:4
SHOTS = (1, 5)                                                         # labelled photographs
BASELINES = ("source only", "target statistics", "fine-tuning", "joint training", "joint training, styled", "PixDA")
LAST = ("+ fine-tuning", "PixDA")                                      # these only go on from "+ selection"


@functools.cache
def draw(look: str, count: int, seed: int, cities: int = 0, photos: bool = False) -> Domain:
    "Streets drawn once in a process: all training seeds have the same game."
    options = dict(DRAWN, **PHOTOS) if photos else DRAWN
    return drawn_streets(look, count, seed=seed, cities=cities, **options).in_memory()


def drawn(seed: int) -> dict[str, tuple]:
    "The game, and the same game's rules seen by a camera: task → source, labelled target, test."
    town = drawn_streets("cityscapes", 20*CITIES, seed=1, cities=CITIES, **DRAWN)
    return {"drawn": (draw("gta5", SOURCES, 0), town.few(1, seed).in_memory(), draw("cityscapes", TESTS, 2, CITIES))}


def streets(seed: int) -> dict[str, tuple]:
    "The game and photographs. Half of the drives are for scoring; which, depends on the seed."
    root = shared("data", "streets")
    if root is None: raise SystemExit("the photographs are not here: set CDFSS_SHARED to a folder that holds data/streets")
    labelled, test = Streets(root).domain(**PHOTOS).split(.5, seed)
    source, test = draw("gta5", SOURCES, 0, photos=True), test.in_memory()
    return {f"{shots} labelled": (source, replace(labelled, groups=None).few(shots, seed).in_memory(), test) for shots in SHOTS}


PARTS = {"drawn": (drawn, tuple(LADDER)), "streets": (streets, BASELINES)}


def run(part: str, seed: int, out: Path) -> list[dict]:
    "All rungs of a part from one source model; rungs that are done are read."
    set_threads(1)
    warnings.filterwarnings("ignore", message="no target image shows")        # it is in the rows
    tasks, rungs = PARTS[part]
    folder, rows, start = out/part/f"seed {seed}", [], None
    for task, (source, few, test) in tasks(seed).items():
        for rung in rungs:
            file = folder/task/rung/"row.json"
            if not file.exists():
                if start is None: start = PixDA(preset="small", device="cpu", seed=seed, folder=folder).fit_source(source)
                began = time.process_time()
                method = climb(start, rung, few, source, folder/task, rungs)
                seconds = time.process_time() - began
                scores = score_domain(method, test, at_once=10)
                row = dict(task=task, variant=rung, seed=seed, miou=scores.miou, by_class=scores.by_class, fitted=score_domain(method, few).miou,
                           unseen=method.unseen, kept=[len(names) for names in method.kept], seconds=seconds)
                with atomic_path(file) as partial: partial.write_text(json.dumps(row))
            rows.append(json.loads(file.read_text()))
            print("{task:12s} seed {seed} {variant:24s} {miou:5.1f}".format(**rows[-1]), flush=True)
    return rows


def climb(start: PixDA, rung: str, few: Domain, source: Domain, folder: Path, rungs: tuple) -> PixDA:
    "One rung. The last two differ from the one below them in the third phase alone, and take its first two over."
    if rung not in LAST or "+ selection" not in rungs: return start.variant(folder/rung, **LADDER[rung]).adapt(few, source=source)
    below = start.variant(folder/"+ selection", **LADDER["+ selection"]).adapt(few, source=source)           # read from its checkpoints
    options = {name: getattr(start.config, name) for name in LADDER["+ selection"]} | LADDER[rung]
    return below.variant(folder/rung, **options).tune(resized(few, start.config.size).in_memory())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; default both")
    parser.add_argument("--out", type=Path, default=Path("out")/"pixda")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--workers", type=int, default=2, help="processes, one seed each at a time")
    parser.add_argument("--store", action="store_true")
    arguments = parser.parse_args()
    seeds, stored = [int(seed) for seed in arguments.seeds.split(",")], HERE/"pixda.json"
    about = json.loads(stored.read_text()) if stored.exists() else {}
    for part in arguments.parts:
        if part not in PARTS: raise SystemExit(f"there is no part {part!r}: choose of {', '.join(PARTS)}")
        with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
            rows = sum(pool.map(run, *zip(*((part, seed, arguments.out) for seed in seeds))), [])
        for base in ("source only", "joint training"):
            table = seed_table(rows, base)
            print(f"\n{part}, gain over {base}\n" + text_table(table, digits=1))
        about[part] = dict(command=f"python benchmarks/pixda.py {part} --store --seeds {arguments.seeds}", preset="small",
                           config=PixDA(preset="small").describe()["config"], seeds=seeds, sources=SOURCES,
                           **(dict(DRAWN, cities=CITIES, tests=TESTS) if part == "drawn" else dict(PHOTOS, shots=SHOTS)), versions=versions(),
                           rows=[short(row) for row in rows])
    if not arguments.store: return
    about |= dict(published=PUBLISHED, published_source=PUBLISHED_SOURCE)
    stored.write_text(lines(about))


def short(row: dict) -> dict:
    "A row with as many digits as mean something."
    def cut(value):
        if isinstance(value, dict): return {key: cut(entry) for key, entry in value.items()}
        return (None if value != value else round(value, 2)) if isinstance(value, float) else value
    return cut(row)


def lines(about: dict) -> str:
    "JSON with one row a line, so that changes can be read."
    marks, text = {}, about
    def mark(value):
        key = f"@{len(marks)}@"
        marks[f'"{key}"'] = json.dumps(value)
        return key
    text = {part: dict(entry, rows=[mark(row) for row in entry["rows"]]) if isinstance(entry, dict) and "rows" in entry else entry
            for part, entry in about.items()}
    text = json.dumps(text, indent=1)
    for key, value in marks.items(): text = text.replace(key, value)
    return text + "\n"


if __name__ == "__main__": main()

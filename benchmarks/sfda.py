"""Source-free adaptation on drawn scans and from drawn lungs to real X-rays, three seeds, beside what each part of it does alone.

    python benchmarks/sfda.py                    prints a table a task; about a quarter of an hour a part on one core
    python benchmarks/sfda.py drawn              only the drawn scans, which need no data
    python benchmarks/sfda.py --store            … and stores the rows in benchmarks/sfda.json

drawn   slices of ten drawn patients by one scanner → four others by the other scanner, scored on four more; no label of the target, only tags
lungs   drawn chest X-rays → half of the real ones (shared data), scored on the other half; every picture shows lungs, so the tags say nothing,
        and the sizes come from the drawn lungs, or from five labelled images of the target

Training is kept in --out: killed and called again, it goes on. Settings were chosen on seed 10.
"""
import argparse
from pathlib import Path

import cdfss
from cdfss.core import numpy_rng, set_threads, shared
from cdfss.data.domains import Domain
from cdfss.data.samples import draw_chest_xray
from cdfss.data.slices import drawn_slices, masks_as_domain, mean_sizes, slice_tensors
from cdfss.evaluate.benchmark import versions, write_json
from cdfss.evaluate.domains import score_domain, seed_table, volume_distances
from cdfss.methods.sfda import SFDA

STORE = Path(__file__).with_suffix(".json")
VARIANTS = {"batch norm alone": dict(rate=0.), "AdaMI": {}, "AdaEnt's direction": dict(direction="adaent"), "sizes alone": dict(entropy=0.),
            "entropy alone": dict(sizes=0.), "one prior for all": dict(prior="constant")}


def scans(seed, source="mr", target="ct"):
    "Source, target and test of the drawn shift: no patient is in two of them."
    parts = ((source, 10), (target, 4), (target, 4))
    return [drawn_slices(look, patients, 8, seed=10*seed + part, size=40, centre=.4).in_memory() for part, (look, patients) in enumerate(parts)]


def lungs(seed):
    "Drawn X-rays, and two halves of the real ones."
    def read(i):
        picture, mask = draw_chest_xray(100 + seed, 0, i)
        return slice_tensors(picture, mask//255, 64)
    source = Domain("drawn X-rays", ("background", "lung"), tuple(f"drawn {seed}-{i}" for i in range(100)), read).in_memory()
    real = masks_as_domain(cdfss.open_dataset("chest_xray", shared("data")/"chest_xray"), size=64)
    return [source, *real.in_memory().split(.5, seed)]


TASKS = {"MR → CT": scans, "CT → MR": lambda seed: scans(seed, "ct", "mr"), "drawn → real lungs": lungs}
PARTS = {"drawn": ("MR → CT", "CT → MR"), "lungs": ("drawn → real lungs",)}


def measure(task, seed, home) -> list[dict]:
    "A row for each variant, all from the same trained network."
    source, target, test = TASKS[task](seed)
    place = home/task.replace(" ", "_").replace("→", "to")/f"seed{seed}"
    trained = SFDA(preset="small", seed=seed, folder=place).fit_source(source)
    told = SFDA(preset="small", seed=seed, folder=place/"told", direction="adaent", prior="regressor").fit_source(source)   # AdaEnt as published
    rows = []
    methods = {"source only": trained} | {name: trained.variant(place/name.replace(" ", "_"), **options) for name, options in VARIANTS.items()}
    methods["AdaEnt with a regressor"] = told
    if task == "drawn → real lungs":                                       # drawn lungs are half as large as real ones: ask five images of the target
        five = target.subset(numpy_rng(seed, "five").permutation(len(target))[:5].tolist())
        methods["AdaMI, sizes of five X-rays"] = trained.variant(place/"five")
        methods["AdaMI, sizes of five X-rays"].sizes = mean_sizes(five)
    for name, method in methods.items():
        if method is not trained: method.adapt(target)
        found = score_domain(method, test, at_once=8)
        row = {"task": task, "variant": name, "seed": seed, "miou": found.miou, "by_class": found.by_class, "dice": {key: mean for key, (mean, _) in found.dice().items()}}
        if task != "drawn → real lungs" and name in ("source only", "batch norm alone", "AdaMI"): row["distances"] = volume_distances(method, test)
        rows.append(row)
        print(f"{task}, {name}, seed {seed}: {found.miou:.1f}", flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default all")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out/sfda"))
    parser.add_argument("--store", action="store_true")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS): parser.error(f"there is no part {min(unknown)}")
    set_threads(arguments.threads)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    rows = [row for part in arguments.parts or PARTS for task in PARTS[part] for seed in seeds for row in measure(task, seed, arguments.out)]
    print(cdfss.show.text_table(seed_table(rows, "source only"), digits=1))
    if arguments.store: write_json(STORE, {"preset": "small", "seeds": seeds, "threads": arguments.threads, "versions": versions(), "rows": rows})


if __name__ == "__main__": main()

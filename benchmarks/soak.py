"""A long benchmark in one process: does its memory grow, does a file or a thread stay open?

    python benchmarks/soak.py                                   5,000 one-shot episodes with the default method, printed
    python benchmarks/soak.py --preset reference --store        … with that preset, and stored in benchmarks/soak.json beside the others
    python benchmarks/soak.py --adapt every-episode --store     … fitting anew for every episode

Fifty seeds of a hundred episodes: every seed builds its method anew and fits it to each of the three classes of drawn skin lesions. There are
more images than `Episodes` keeps, so files are read to the end. Asks /proc about the process (Linux).
"""
import argparse
import json
import os
import statistics
import tempfile
import threading
from pathlib import Path

from cdfss.data.episodes import Episodes, sample_manifest
from cdfss.data.readers import open_dataset
from cdfss.data.samples import sample_root
from cdfss.evaluate.benchmark import run_benchmark, versions
from cdfss.methods.base import build_method

STORE = Path(__file__).with_suffix(".json")
SEEDS, EVERY = 50, 25          # a look at the process every so many episodes


def look() -> dict:
    "What the process holds: resident memory in MB, open files, threads."
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return dict(memory=round(pages*os.sysconf("SC_PAGE_SIZE")/1e6, 1), files=len(os.listdir("/proc/self/fd")), threads=threading.active_count())


def growth(memory: list[float]) -> float:
    "Percent from the second fifth of a run to its last, medians both; the first fifth warms up."
    fifth = len(memory)//5
    return 100*(statistics.median(memory[-fifth:])/statistics.median(memory[fifth:2*fifth]) - 1)


def soak(preset: str | None, adapt: str, episodes: int, image_size: int) -> dict:
    "One run, looked at while it goes."
    reader, seen, looks = open_dataset("isic2018", sample_root("isic2018")), 0, []
    def drawn(seed): return Episodes(sample_manifest(reader, episodes=episodes//SEEDS, seed=seed, image_size=image_size), reader.root, reader.is_foreground)
    def build(seed): return build_method("mtmnet", backbone="embedded", preset=preset, seed=seed, device="cpu")
    def each(episode, prediction, row):
        nonlocal seen
        seen += 1
        if seen % EVERY == 0: looks.append(look())
    with tempfile.TemporaryDirectory() as folder:
        summary = run_benchmark(build, drawn, Path(folder)/"run", seeds=range(SEEDS), adapt=adapt, threads=1, each=each)
    columns = {name: [each[name] for each in looks] for name in looks[0]}
    return dict(preset=preset or "default", adapt=adapt, episodes=summary["episodes"], image_size=image_size, every=EVERY,
                growth=round(growth(columns["memory"]), 2), **columns, versions=versions())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", help="of MTMNet; default: the package's")
    parser.add_argument("--adapt", default="first-episode", help="or every-episode")
    parser.add_argument("--episodes", type=int, default=5000, help=f"a multiple of {SEEDS}")
    parser.add_argument("--image-size", type=int, default=48)
    parser.add_argument("--store", action="store_true")
    asked = parser.parse_args()
    found = soak(asked.preset, asked.adapt, asked.episodes, asked.image_size)
    name = f"{found['preset']}, {found['adapt']}"
    print(f"{name}: {found['episodes']} episodes, memory {found['memory'][0]} MB at the {EVERY}th, {found['memory'][-1]} MB at the last, "
          f"{found['growth']:+.2f} % after warm-up; files {found['files'][0]} to {found['files'][-1]}, threads {found['threads'][0]} to {found['threads'][-1]}")
    if asked.store:
        stored = json.loads(STORE.read_text()) if STORE.exists() else {}
        STORE.write_text(json.dumps(dict(sorted((stored | {name: found}).items()))) + "\n")


if __name__ == "__main__": main()

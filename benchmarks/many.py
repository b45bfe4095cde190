"""Several processes on one benchmark or one training: how much faster, and what becomes of it when some of them are killed.

    python benchmarks/many.py                        both parts, printed
    python benchmarks/many.py ranks --store          1, 2 and 4 ranks of an every-episode benchmark: rows, speed; some minutes on a quiet machine
    python benchmarks/many.py kills --store          20 kills of a benchmark and 20 of a training, each resumed; some minutes

Stored in benchmarks/many.json. Ranks are forks of this process with the environment variables that torchrun sets, and compute on the CPU with one
thread each. A kill is signal 9, at a random moment, to one rank or to both. No launcher looks after these ranks: who is left must notice by itself. Here
that takes five seconds without a sign of life, and twenty where the other one was killed before it could be reached (a minute and ten minutes otherwise).
"""
import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

from cdfss.core import CdfssError, file_sha256, set_threads
from cdfss.data.episodes import Episodes, sample_manifest
from cdfss.data.readers import open_dataset
from cdfss.data.samples import sample_root
from cdfss.data.slices import drawn_slices
from cdfss.evaluate.benchmark import ADAPT_MODES, read_rows, run_benchmark, versions, write_json
from cdfss.evaluate.transfer import train_transfer
from cdfss.methods.base import build_method
from cdfss.show import text_table
from cdfss.train import distributed
from cdfss.train.distributed import fork_ranks, join

STORE = Path(__file__).with_suffix(".json")


def wait(processes) -> list[int]:
    "Until all have ended, with which codes; who hangs for two minutes is ended, with a signal's negative number for its code."
    for process in processes:
        process.join(120)
        if process.exitcode is None: process.kill(); process.join()
    return [process.exitcode for process in processes]


def without_seconds(folder) -> list[dict]:
    return [{name: value for name, value in row.items() if not name.startswith("seconds")} for row in read_rows(folder)]


def skin(episodes: int, image_size: int, seed: int = 0) -> Episodes:
    reader = open_dataset("isic2018", sample_root("isic2018"))
    return Episodes(sample_manifest(reader, episodes=episodes, seed=seed, image_size=image_size), reader.root, reader.is_foreground)


# ---------------------------------------------------------------- how much faster

def timed_run(net, episodes, adapt, out):
    "A benchmark of MTMNet whose ranks write down when their first episode began and their last one ended."
    times = []
    def each(episode, prediction, row): times.append((time.time() - row["seconds_adapt"] - row["seconds_predict"], time.time()))
    run_benchmark(lambda seed: build_method("mtmnet", backbone=net, device="cpu", seed=seed), episodes, out, adapt=adapt, threads=1, progress=False, each=each)
    out.with_name(f"{out.name} {join().rank}.json").write_text(json.dumps([times[0][0], times[-1][1], len(times)] if times else None))


def measure_ranks(home: Path, rounds: int) -> dict:
    net, episodes, rows = build_method("mtmnet", device="cpu").backbone, skin(60, 200), []
    build_method("mtmnet", backbone=net, device="cpu").adapt(episodes[0].support).predict(episodes[0].image)   # the first one of a process costs a second: start-up
    for _ in range(rounds):
        for size in (1, 2, 4):                                    # in turn, so that a disturbance meets all
            out = home/"run"
            assert wait(fork_ranks(size, timed_run, net, episodes, "every-episode", out)) == [0]*size
            spans = [span for rank in range(size) if (span := json.loads((home/f"run {rank}.json").read_text()))]
            rows.append(dict(ranks=size, seconds=max(end for _, end, _ in spans) - min(start for start, _, _ in spans), episodes=len(episodes)))
            found = without_seconds(out)
            if size == 1: alone = found
            rows[-1]["rows equal"] = found == alone
            shutil.rmtree(out)
    fastest = {size: min(row["seconds"] for row in rows if row["ranks"] == size) for size in (1, 2, 4)}
    table = [{"ranks": size, "seconds": fastest[size], "times as fast": fastest[1]/fastest[size],
              "rows equal to one rank's": all(row["rows equal"] for row in rows if row["ranks"] == size)} for size in fastest]
    return dict(what=f"MTMNet on the embedded network, {len(episodes)} episodes at 200² pixels, each adapted to anew; the fastest of {rounds} rounds",
                rows=table, all=rows)


# ---------------------------------------------------------------- kills

def score(net, episodes, adapt, out):
    run_benchmark(lambda seed: build_method("linear", backbone=net, device="cpu", seed=seed, steps=5), episodes, out, seeds=(0, 1), adapt=adapt, threads=1,
                  progress=False, resume=out.exists())


def train(domains, out):
    def build(seed, folder): return build_method("sfda", preset="small", width=2, source_epochs=6, epochs=6, every=2, device="cpu", seed=seed, folder=folder)
    train_transfer(build, *domains, out, threads=1)


def ends_well(function):
    "Exit code 7 where the package said in words that a rank was lost or never came, 8 for other words; a traceback where there were none."
    def run(*args):
        try: function(*args)
        except CdfssError as error: os._exit(7 if any(words in str(error) for words in ("another rank was lost", "did not find each other")) else 8)
    return run


def kill_and_resume(function, args, out, duration, rng) -> dict:
    "Start two ranks, kill, see how the others end, and go on with one to three ranks (a training: with two)."
    while True:
        ranks = fork_ranks(2, ends_well(function), *args, out)
        victims = rng.choice([[0], [1], [0, 1]])
        moment = rng.uniform(0, duration)
        time.sleep(moment)
        alive = all(process.is_alive() for process in ranks)
        for victim in victims: os.kill(ranks[victim].pid, signal.SIGKILL) if alive else None
        codes = wait(ranks)
        if alive: break
        shutil.rmtree(out)                                        # it was done before: another moment
    rows = sum(path.read_bytes().count(b"\n") - 1 for path in out.glob("rows.*")) if out.exists() else 0
    size = 2 if function is train else rng.choice([1, 2, 3])
    resumed = wait(fork_ranks(size, function, *args, out))
    return dict(moment=moment, killed=victims, others=[code for rank, code in enumerate(codes) if rank not in victims], rows=rows, ranks=size, resumed=resumed)


def measure_kills(home: Path, count: int) -> dict:
    distributed.COME, distributed.DEAD = 20., 5.
    net, rng, result = build_method("linear", device="cpu").backbone, random.Random(0), {}
    domains = [drawn_slices(look, 2, 5, seed=seed, size=24).in_memory() for seed, look in enumerate(("mr", "ct"))]
    score(net, skin(2, 32), ADAPT_MODES[0], home/"warm")                       # what is imported here need not be by every fork
    for what in ("benchmark", "training"):
        kinds = [(score, (net, skin(12, 64), adapt)) for adapt in ADAPT_MODES] if what == "benchmark" else [(train, (domains,))]
        trials = []
        for number in range(count):
            kind = number % len(kinds)
            function, args = kinds[kind]
            whole = home/f"{what} {kind}"
            if not whole.exists():
                start = time.monotonic()
                assert wait(fork_ranks(2, function, *args, whole)) == [0, 0]
                duration = time.monotonic() - start
            trial = kill_and_resume(function, args, home/"killed", duration, rng)
            same = ((lambda folder: file_sha256(folder/"network.safetensors")) if what == "training" else without_seconds)
            trial["undisturbed result"] = set(trial["resumed"]) == {0} and same(home/"killed") == same(whole)
            trial["told"] = all(code == 7 for code in trial["others"])
            trials.append(trial)
            print(what, number, trial, flush=True)
            shutil.rmtree(home/"killed")
        result[what] = dict(kills=len(trials), undisturbed=sum(trial["undisturbed result"] for trial in trials),
                            told=sum(trial["told"] for trial in trials), trials=trials)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=("ranks", "kills"), default=("ranks", "kills"), metavar="ranks kills")
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    set_threads(1)
    found = json.loads(STORE.read_text()) if STORE.exists() else {}
    for part in options.parts:
        with tempfile.TemporaryDirectory() as folder:
            result = measure_ranks(Path(folder), options.rounds) if part == "ranks" else measure_kills(Path(folder), options.kills)
        found[part] = {**result, "on": f"{os.cpu_count()} cores", "versions": versions()}
        print(text_table(result["rows"], digits=2) if part == "ranks" else {what: {key: n for key, n in some.items() if key != "trials"} for what, some in result.items()})
        if options.store: write_json(STORE, found)


if __name__ == "__main__": main()

"""What adapting and predicting cost: the plain program, the package, and its fast preset, in turn within one run.

    python benchmarks/speed.py                        everything, about twenty-five minutes on two cores; prints one table a part
    python benchmarks/speed.py adapt predict          only some parts
    python benchmarks/speed.py --store                … and store them in benchmarks/speed.json, for nbs/speed.ipynb

`plain` (benchmarks/plain.py) fits one head after another with every matrix in memory, computes nothing that is thrown away, and gives the same scores.
`exact` is the preset reference, `fast` the preset fast, `default` what MTMNet() does when nothing is said. Drawn images of 400 × 400 pixels, ResNet-50 with 13 levels; its weights are random, which
changes no time. The programs take turns, so that a busy minute hits all of them; ratios are medians over the rounds.
"""
import argparse
import cProfile
import inspect
import json
import os
import platform
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import plain
import torch
from common import BACKBONES, here

import cdfss
from cdfss.core import pick_device, set_threads, shared
from cdfss.data.episodes import Episodes, sample_manifest
from cdfss.evaluate import benchmark
from cdfss.methods import base, mtmnet
from cdfss.methods.mtmnet import PRESETS, MTMNet
from cdfss.model import affinity
from cdfss.model.backbone import Backbone
from cdfss.train import adapt as adapting
from cdfss.train.adapt import AdaptConfig, fit_heads
from cdfss.train.loop import Callback

STORE = Path(__file__).parent/"speed.json"
FITS = {"plain": lambda net, episode, config: plain.fit(net, episode.support, episode.image[None], config),
        "exact": lambda net, episode, config: fit_heads(net, episode.support, episode.image[None], config),
        "fast": lambda net, episode, config: fit_heads(net, episode.support, episode.image[None], config)}
EXACT = {"preset": "reference", "postprocess": "off"}
CONFIGS = {"plain": PRESETS["reference"], "exact": PRESETS["reference"], "fast": PRESETS["fast"]}


def network(device, name="resnet50"):
    "A backbone, with random weights unless it is the embedded one."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                                   # random weights are meant
        return cdfss.backbone(name, "embedded" if name == "embedded" else None).to(device)


def drawn(shots=1, size=400, episodes=1):
    "Episodes of the drawn white blood cells; where there are fewer images than shots, some repeat."
    reader = cdfss.open_dataset("wbc", cdfss.sample_root("wbc"))
    return Episodes(sample_manifest(reader, shots=shots, episodes=episodes, seed=0, image_size=size), reader.root, reader.is_foreground)


def on(device, episode):
    "An episode with its images on a device."
    return replace(episode, support=episode.support.to(device), image=episode.image.to(device))


def seconds(call, device) -> float:
    "Wall-clock seconds of a call, with a GPU's queue emptied before and after."
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    wait(); began = time.perf_counter()
    call()
    wait(); return time.perf_counter() - began


def head(device, rounds) -> list[dict]:
    "One step of one head of 512 channels at 50 × 50, one shot, in the plain program."
    net, episode = network(device), on(device, drawn()[0])
    class Level(torch.nn.Module):
        def forward(self, images): return [net(images)[0]]
    clock = []
    plain.fit(Level().to(device), episode.support, episode.image[None], AdaptConfig(steps=2 + 4*rounds), each=lambda *_: clock.append(time.perf_counter()))
    times = [b - a for a, b in zip(clock[1:], clock[2:])]
    return [{"program": "plain", "seconds a step": statistics.median(times), "fastest": min(times), "steps": len(times)}]


def adapt(device, rounds, shots=1) -> list[dict]:
    "Fitting all 13 heads on one shot: frozen maps of support, query and their views, and all steps."
    net, rows = network(device), []
    episode = on(device, drawn(shots)[0])
    for name, fit in FITS.items(): fit(net, episode, AdaptConfig(steps=1))             # what is set up once
    times = {name: [] for name in FITS}
    for _ in range(rounds):
        for name, fit in FITS.items(): times[name].append(seconds(lambda: fit(net, episode, CONFIGS[name]), device))
    for name in FITS:
        ratios = [a/b for a, b in zip(times["plain"], times[name])]
        rows.append({"program": name, "shots": shots, "seconds": statistics.median(times[name]), "times faster": statistics.median(ratios),
                     "lowest": min(ratios), "highest": max(ratios), "rounds": rounds})
    return rows


def adapt_5(device, rounds) -> list[dict]:
    "Fitting all 13 heads on five shots."
    return adapt(device, rounds, shots=5)


def agree(device, rounds) -> list[dict]:
    "Score maps of the plain program and of the package on the same episode; with trained weights, for random ones magnify rounding."
    rows, nets = [], {"embedded": network(device, "embedded")}
    place, weights = BACKBONES["resnet50v2"]
    if shared("weights") is not None: nets["resnet50v2"] = cdfss.backbone(here(place), here(weights)).to(device)
    for name, net in nets.items():
        episode = on(device, drawn()[0])
        theirs = plain.score(net, plain.fit(net, episode.support, episode.image[None]), episode.support, episode.image[None])
        ours = MTMNet(net, **EXACT, device=device).adapt(episode.support, queries=episode.image).predict(episode.image).score[0]
        rows.append({"backbone": name, "largest difference": (ours - theirs).abs().max().item(), "highest score": theirs.max().item(),
                     "lowest score": theirs.min().item()})
    return rows


def digits(device, rounds) -> list[dict]:
    "Matrix products of the dense contrast in three precisions, 10⁹ operations a second: 400 anchors, 64 channels, 2500 pixels."
    calls = {}
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        x, y = (torch.randn(n, 64, device=device).to(kind) for n in (400, 2500))
        matrix, name = x @ y.T, str(kind).removeprefix("torch.")
        calls |= {(name, "anchors × pixels"): lambda x=x, y=y: x @ y.T, (name, "matrix × pixels"): lambda matrix=matrix, y=y: matrix @ y}
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(20*rounds):                                                    # in turn
        for which, call in calls.items(): best[which] = min(best[which], seconds(call, device))
    work = 2*400*2500*64/1e9
    return [{"precision": name, **{what: work/best[name, what] for what in ("anchors × pixels", "matrix × pixels")}} for name in dict.fromkeys(n for n, _ in calls)]


def predict(device, rounds) -> list[dict]:
    "Segmenting one query with an adapted method, supports remembered, beside the backbone's own pass over it."
    net, rows = network(device), []
    for shots in (1, 5):
        episodes = drawn(shots, episodes=2)
        episode = on(device, episodes[0])
        method = MTMNet(net, **EXACT, device=device, steps=1).adapt(episode.support, queries=episode.image)
        image, ratios, times = episode.image[None], [], []
        method.predict(image)
        for _ in range(8*rounds):
            alone = seconds(lambda: net(image), device)
            whole = seconds(lambda: method.predict(image), device)
            ratios.append(whole/alone); times.append((alone, whole))
        alone, whole = (statistics.median(column) for column in zip(*times))
        rows.append({"shots": shots, "backbone alone": alone, "predict": whole, "ratio": statistics.median(ratios), "rounds": len(ratios)})
    return rows


def default(device, rounds) -> list[dict]:
    "What MTMNet() asks for beside the exact mode, in turn: fitting to a class, taking other supports of it, and a query."
    net, rows = network(device), []
    for shots in (1, 5):
        own, other = (on(device, episode) for episode in drawn(shots, episodes=2))
        methods = {"exact": MTMNet(net, **EXACT, device=device), "default": MTMNet(net, device=device)}
        acts = {"adapting": lambda method: method.adapt(own.support, queries=own.image),
                "other supports": lambda method: (method.seen.clear(), method.use_support(other.support)),
                "a query": lambda method: method.predict(own.image)}
        for what, act in acts.items():
            times = {name: [] for name in methods}
            for _ in range(rounds if what == "adapting" else 8*rounds):
                for name, method in methods.items(): times[name].append(seconds(lambda: act(method), device))
            ratios = [b/a for a, b in zip(*times.values())]
            rows.append({"shots": shots, "what": what, **{name: statistics.median(found) for name, found in times.items()},
                         "ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)})
    return rows


def comparison(device, rounds) -> list[dict]:
    "Dense affinity of four levels of 50 × 50 pixels with 64 channels, in milliseconds: by hand in blocks, and by PyTorch's attention, in turn."
    rows = []
    for shots in (1, 5):
        tensors = [x.to(device) for x in (torch.randn(4, 64, 2500), torch.randn(4, 64, 2500*shots), torch.rand(4, 2500*shots))]
        times = {"in blocks": [], "PyTorch's attention": []}
        for _ in range(1 + 10*rounds):
            for name, steepest in zip(times, (affinity.STEEPEST, 0)):              # 0: no exponential is trusted, the kernel answers
                with patch.object(affinity, "STEEPEST", steepest):
                    times[name].append(1e3*seconds(lambda: affinity.dense_affinity(*tensors), device))
        rows += [{"shots": shots, "computed": name, "median": statistics.median(found[1:]), "fastest": min(found)} for name, found in times.items()]
    return rows


def memory(device, rounds) -> list[dict]:
    "The largest memory of a process that adapts and predicts once, in a process of its own: its own on a CPU, the device's on a GPU."
    rows = []
    for program, shots in (("plain", 1), ("plain", 5), ("exact", 1), ("exact", 5), ("exact", 20), ("fast", 1), ("fast", 5), ("fast", 20)):
        asked = [sys.executable, __file__, "--alone", program, str(shots), "--device", str(device), "--threads", str(torch.get_num_threads())]
        rows.append(json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout))
    return rows


def alone(program, shots, device) -> dict:
    "Adapt and predict once; the memory of two steps is that of all."
    net, episode = network(device), on(device, drawn(shots)[0])
    net(episode.image[None])
    status = Path("/proc/self/status")                                            # Linux; ru_maxrss would count the process that started this one
    largest = lambda: int(status.read_text().split("VmHWM:")[1].split()[0])/2**10
    before = largest()
    if program == "plain":
        plain.score(net, plain.fit(net, episode.support, episode.image[None], AdaptConfig(steps=2)), episode.support, episode.image[None])
    else:
        method = MTMNet(net, preset="reference" if program == "exact" else program, steps=2, postprocess="off", device=device)
        method.adapt(episode.support, queries=episode.image).predict(episode.image)
    peak = torch.cuda.max_memory_allocated(device)/2**20 if device.type == "cuda" else largest()
    return {"program": program, "shots": shots, "before MB": round(before), "peak MB": round(peak)}


def share(device, rounds) -> list[dict]:
    "Where the time of an episode goes in percent, with a class to adapt to and then for its queries; the CRF on. Asked of Python's profiler."
    parts = {"backbone": inspect.unwrap(Backbone.forward), "fitting": adapting.train, "comparison": mtmnet.compare, "threshold": base.decide_masks,
             "CRF": mtmnet.crf_refine, "reading": benchmark._read_ahead}
    net, rows = network(device), []
    for what, queries in (("a class with one query", 1), ("a class with 20 queries", 20)):
        profile, method = cProfile.Profile(), MTMNet(net, preset="reference", postprocess="always", device=device)
        whole = seconds(lambda: profile.runcall(lambda: list(benchmark.episode_rows(method, drawn(episodes=queries)))), device)
        spent = pstats.Stats(profile).stats
        within = lambda code: spent.get((code.co_filename, code.co_firstlineno, code.co_name), (0,)*4)[3]
        shares = {name: 100*within(part.__code__)/whole for name, part in parts.items()}
        rows.append({"episodes": what, "seconds": whole, **shares, "rest": 100 - sum(shares.values())})
    return rows


def episodes(device, rounds) -> list[dict]:
    "200 episodes of one adapted class: how much of the clock is spent in the model."
    net, done = network(device), []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)/"run"
        benchmark.run_benchmark(lambda seed: MTMNet(net, **EXACT, steps=1, device=device), drawn(episodes=201), out, progress=False,
                                threads=torch.get_num_threads(), each=lambda *_: done.append(time.perf_counter()))
        rows = benchmark.read_rows(out)
    whole = done[-1] - done[0]                                                   # the first is the start-up, and adapts
    model = sum(row["seconds_adapt"] + row["seconds_predict"] for row in rows[1:])
    return [{"episodes": len(rows) - 1, "seconds": whole, "in the model %": 100*model/whole, "ms an episode": 1e3*whole/(len(rows) - 1)}]


class Stopwatch(Callback):
    "The time before the first step and after each."
    def before_training(self, run): self.at = [time.perf_counter()]
    def after_step(self, run): self.at.append(time.perf_counter())


def costs(device, rounds) -> list[dict]:
    "Seconds to adapt (its set-up, and its steps reckoned from the second and third) and to predict, against shots, image size and queries in one call."
    net, rows = network(device), []
    add = lambda against, value, program, found: rows.append({"against": against, "value": value, "program": program, "seconds": found})
    fastest = lambda call: min(seconds(call, device) for _ in range(1 + rounds))
    for against, value, some in [("shots", n, drawn(n)) for n in (1, 2, 5, 10, 20)] + [("size", n, drawn(1, n)) for n in (200, 300, 400, 600, 800)]:
        episode = on(device, some[0])
        for name in ("exact", "fast"):
            clock, began = Stopwatch(), time.perf_counter()
            fit_heads(net, episode.support, episode.image[None], replace(CONFIGS[name], steps=3), callbacks=[clock])
            add(against, value, name, clock.at[0] - began + CONFIGS[name].steps*(clock.at[3] - clock.at[1])/2)
        method = MTMNet(net, **EXACT, steps=0, device=device).adapt(episode.support)
        add(against, value, "predict", fastest(lambda: method.predict(episode.image)))
    some = drawn(episodes=16)
    images, method = torch.stack([some[i].image for i in range(16)]).to(device), MTMNet(net, **EXACT, steps=0, device=device)
    method.adapt(on(device, some[0]).support)
    for n in (1, 2, 4, 8, 16): add("queries", n, "predict", fastest(lambda: method.predict(images[:n])))
    return rows


PARTS = {part.__name__: part for part in (head, adapt, adapt_5, agree, digits, predict, default, comparison, memory, share, episodes, costs)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)             # what `memory` calls
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS): parser.error(f"there is no part {min(unknown)}")
    set_threads(arguments.threads)
    device = pick_device(arguments.device)
    if arguments.alone: return print(json.dumps(alone(arguments.alone[0], int(arguments.alone[1]), device)))
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{arguments.threads} threads of {platform.machine()}, {os.cpu_count()} cores"
    for name in arguments.parts or PARTS:
        rows = PARTS[name](device, arguments.rounds)
        print(f"{name}: {PARTS[name].__doc__}\n{cdfss.show.text_table(rows, digits=3)}\n", flush=True)
        if not arguments.store: continue
        stored = json.loads(STORE.read_text()) if STORE.exists() else {}
        stored.setdefault(device.type, {})[name] = {"on": named, "versions": benchmark.versions(), "rows": rows}
        STORE.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__": main()

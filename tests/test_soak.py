"""What a long or repeated run may rely on: the same rows every time, nothing left open, and a lost worker that is told of."""
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from cdfss.core import torch_rng
from cdfss.data.episodes import Episodes, sample_manifest
from cdfss.data.readers import open_dataset
from cdfss.data.samples import sample_root
from cdfss.evaluate.benchmark import read_rows, run_benchmark
from cdfss.methods.base import build_method
from cdfss.train.loop import Checkpoint, train


def drawn(count, seed=0):
    "Episodes of drawn skin lesions."
    reader = open_dataset("isic2018", sample_root("isic2018"))
    return Episodes(sample_manifest(reader, episodes=count, seed=seed, image_size=48), reader.root, reader.is_foreground)


def without_seconds(folder: Path) -> list[dict]:
    return [{name: value for name, value in row.items() if not name.startswith("seconds")} for row in read_rows(folder)]


def elsewhere(code, *arguments, **settings):
    "Run code in a process of its own."
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=Path(__file__).parent, env=os.environ | settings, capture_output=True, text=True)


def test_the_same_seed_and_threads_give_the_same_rows(tmp_path):
    "In another process with other hashes and another number of threads to begin with, and here, after other random numbers."
    asked = ["benchmark", "--dataset", "isic2018", "--samples", "--episodes", 3, "--image-size", 48, "--seed", 3, "--threads", 1,
             "--device", "cpu", "--adapt", "every-episode", "--quiet", "--out", tmp_path/"there"]
    there = elsewhere("from cdfss.app.cli import main; main()", *asked, PYTHONHASHSEED="7", OMP_NUM_THREADS="2")
    assert there.returncode == 0, there.stderr
    torch.rand(17)
    def build(seed): return build_method("mtmnet", backbone="embedded", seed=seed, device="cpu")
    run_benchmark(build, drawn(3, seed=3), tmp_path/"here", seeds=(3,), adapt="every-episode", threads=1, progress=False)
    here = without_seconds(tmp_path/"here")
    assert len(here) == 3 and here == without_seconds(tmp_path/"there")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
def test_nothing_stays_open(tmp_path):
    "`benchmarks/soak.py` looks for longer."
    def look(): return len(os.listdir("/proc/self/fd")), threading.active_count()
    def run(folder, count): run_benchmark(lambda seed: build_method("prototype", backbone="embedded", device="cpu"), drawn(count), folder, progress=False)
    run(tmp_path/"first", 2)
    before = look()
    run(tmp_path/"second", 20)
    assert look() == before


class Numbers(torch.utils.data.Dataset):
    "Pairs (x, 3x). The worker that is asked for the number `deadly` is killed, as by a system that is short of memory."
    def __init__(self, deadly=None): self.deadly = deadly
    def __len__(self): return 32

    def __getitem__(self, index):
        if index == self.deadly: os.kill(os.getpid(), signal.SIGKILL)
        return torch.tensor([index/32, 3*index/32])


def fit(path, deadly=None):
    "Fit a line to batches that worker processes read; in the second epoch one of them may be killed."
    line = torch.nn.Linear(1, 1)
    with torch.no_grad():
        for parameter in line.parameters(): parameter.copy_(torch.randn(parameter.shape, generator=torch_rng("line")))
    def batches(epoch): return torch.utils.data.DataLoader(Numbers(deadly if epoch == 1 else None), 4, num_workers=2)
    def step(batch): return {"square": (line(batch[:, :1]) - batch[:, 1:]).square().mean()}
    train(step, torch.optim.SGD(line.parameters(), 0.1), batches, epochs=2, callbacks=[Checkpoint(path, {"line": line}, every=4)])
    return torch.cat([parameter.detach().flatten() for parameter in line.parameters()])


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_loader_worker_killed_is_told_and_the_checkpoint_goes_on(tmp_path):
    "In a process of its own: PyTorch raises the error from a signal, wherever the process is."
    killed = elsewhere("import sys; from test_soak import fit; fit(sys.argv[1], deadly=17)", tmp_path/"run.pt")
    told = "DataLoader worker (pid", "a process that reads batches was lost"                    # the second where it was killed while it wrote
    assert killed.returncode == 1 and any(line in killed.stderr for line in told), killed.stderr
    steps = len(torch.load(tmp_path/"run.pt", weights_only=True)["parts"]["history"]["total"])
    assert 8 <= steps < 16
    assert torch.equal(fit(tmp_path/"run.pt"), fit(tmp_path/"undisturbed.pt"))

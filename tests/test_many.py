"""Several processes: the rows and the network of one, whatever is killed."""
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cdfss.core import CdfssError
from cdfss.data.domains import Domain
from cdfss.data.episodes import Episodes, sample_manifest
from cdfss.data.readers import open_dataset
from cdfss.data.samples import sample_root
from cdfss.evaluate.benchmark import read_rows, run_benchmark
from cdfss.evaluate.transfer import read_domain_rows, run_transfer, train_transfer
from cdfss.methods.base import DomainAdaptiveSegmenter, LinearProbe, build_method
from cdfss.train.distributed import fork_ranks, join

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


@pytest.fixture(autouse=True)
def short_patience(monkeypatch): monkeypatch.setattr("cdfss.train.distributed.DEAD", 5.)       # forks inherit it


def exit_codes(processes):
    for process in processes: process.join(120)
    return [process.exitcode for process in processes]


def undisturbed(folder: Path): return [{name: value for name, value in row.items() if not name.startswith("seconds")} for row in read_rows(folder)]


# ---------------------------------------------------------------- a benchmark

reader = open_dataset("isic2018", sample_root("isic2018"))
NET = build_method("linear", device="cpu").backbone


class Noted(LinearProbe):
    "Writes down when it is adapted."
    notes = None
    def adapt(self, support, queries=None):
        with open(Noted.notes, "a") as file: file.write(f"{self.seed} {support.class_id}\n")
        return super().adapt(support, queries)


def episodes(seed): return Episodes(sample_manifest(reader, episodes=9, seed=seed, image_size=64), reader.root, reader.is_foreground)


def score(out, adapt="first-episode", resume=False, each=None):
    Noted.notes = out.with_suffix(".txt")
    return run_benchmark(lambda seed: Noted(NET, seed=seed, device="cpu", steps=3), episodes, out, seeds=(3, 4), adapt=adapt, threads=1,
                         progress=False, resume=resume, each=each)


@pytest.mark.parametrize("adapt, size", [("first-episode", 2), ("every-episode", 3)])
def test_ranks_write_the_rows_of_one_process(tmp_path, adapt, size):
    whole = score(tmp_path/"one", adapt)
    assert exit_codes(fork_ranks(size, score, tmp_path/"many", adapt)) == [0]*size
    assert undisturbed(tmp_path/"many") == undisturbed(tmp_path/"one")
    summary = json.loads((tmp_path/"many"/"summary.json").read_text())
    assert {key: summary[key] for key in whole if not key.startswith("seconds")} == {key: whole[key] for key in whole if not key.startswith("seconds")}
    assert sorted(path.name for path in (tmp_path/"many").iterdir()) == sorted(path.name for path in (tmp_path/"one").iterdir())
    adapted = [(tmp_path/name).read_text().split("\n") for name in ("one.txt", "many.txt")]
    assert sorted(adapted[0]) == sorted(adapted[1])                                # no class more often than on one process


@pytest.mark.parametrize("adapt", ["first-episode", "every-episode"])
def test_a_lost_rank_ends_the_run_and_what_is_finished_is_kept(tmp_path, adapt):
    score(tmp_path/"one", adapt)
    def lose_one(out):
        def each(episode, prediction, row):
            if join().rank == 1 and row["episode"] > 3: os.kill(os.getpid(), signal.SIGKILL)
        try: score(out, adapt, each=each)
        except CdfssError as error:
            assert "another rank was lost" in str(error) and "--resume" in str(error)
            os._exit(7)
    assert exit_codes(fork_ranks(2, lose_one, tmp_path/"lost")) == [7, -signal.SIGKILL]
    parts = {path.name: read_rows(path) for path in (tmp_path/"lost").glob("rows.*")}
    assert set(parts) == {"rows.csv", "rows.rank1.csv"} and all(0 < len(rows) < 18 for rows in parts.values())
    calls = (tmp_path/"lost.txt").read_text().count("\n")
    score(tmp_path/"lost", adapt, resume=True)                                     # on one process
    assert undisturbed(tmp_path/"lost") == undisturbed(tmp_path/"one")
    again = (tmp_path/"lost.txt").read_text().count("\n") - calls
    assert again <= (6 if adapt == "first-episode" else 18 - sum(map(len, parts.values())))      # what is there is not done again
    assert not list((tmp_path/"lost").glob("rows.rank*"))


def test_two_runs_of_several_ranks_refuse_each_other(tmp_path):
    def slow(out): score(out, each=lambda *_: time.sleep(.3))
    def refused(out):
        try: score(out, resume=True)
        except CdfssError as error: os._exit(7 if "another benchmark is writing here" in str(error) else 8)
    first = fork_ranks(2, slow, tmp_path/"run")
    while not (tmp_path/"run"/"run.json").exists(): time.sleep(.01)
    assert exit_codes(fork_ranks(2, refused, tmp_path/"run")) == [7, 7]            # both ranks of the second end
    assert exit_codes(first) == [0, 0]


def test_torchrun_starts_it_again_after_a_kill(tmp_path):
    options = ["--dataset", "isic2018", "--samples", "--episodes", "48", "--image-size", "64", "--method", "linear", "--set", "steps=2",
               "--adapt", "every-episode", "--device", "cpu", "--threads", "1"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1", "-m", "cdfss", "benchmark"]
    run = subprocess.Popen([*launcher, *options, "--out", tmp_path/"many"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           env=dict(os.environ, OMP_NUM_THREADS="1", PYTHONUNBUFFERED="1"))
    try:
        part = tmp_path/"many"/"rows.rank1.csv"
        while not part.exists() or part.read_bytes().count(b"\n") < 4: assert run.poll() is None, run.communicate()[0]; time.sleep(.005)
        ranks = [int(line.split()[1]) for line in subprocess.run(["ps", "-eo", "ppid,pid"], capture_output=True, text=True).stdout.splitlines()[1:]
                 if int(line.split()[0]) == run.pid]
        os.kill(max(ranks), signal.SIGKILL)
        said = run.communicate(timeout=120)[0]
    finally: run.kill()
    assert run.returncode == 0, said
    assert said.count("class mIoU  ") == 1, said                                   # one rank speaks
    from click.testing import CliRunner
    from cdfss.app.cli import main
    assert CliRunner().invoke(main, ["benchmark", *options, "--out", str(tmp_path/"one")]).exit_code == 0
    assert undisturbed(tmp_path/"many") == undisturbed(tmp_path/"one")


# ---------------------------------------------------------------- a training

def drawn(seed, count=8):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 12, 12, generator=generator)
    labels = (images[:, 0] > .5).long()
    return Domain(f"noise {seed}", ("dark", "light"), tuple(f"{seed}-{i}" for i in range(count)), lambda i: (images[i], labels[i]))


class Small(DomainAdaptiveSegmenter):
    "Two layers and batch normalisation."
    name, fatal = "small", None
    def build(self, classes, channels=1):
        torch.manual_seed(self.seed)
        self.network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1))
        self.classes, self.channels = tuple(classes), channels
    def fit_source(self, source):
        self.check_source(source)
        self.build(source.classes)
        return self.phase("source", source)
    def adapt(self, target, source=None):
        self.check_domains(target)
        return self.phase("adapt", target)
    def phase(self, phase, domain):
        from cdfss.data.domains import IndexBatches, stack
        done = itertools.count()
        def step(some):
            if Small.fatal == (join().rank, phase, next(done)): os.kill(os.getpid(), signal.SIGKILL)
            images, labels = stack(domain, some)
            return {"loss": torch.nn.functional.cross_entropy(self.network(images), labels, reduction="sum")/64}
        optimizer = torch.optim.SGD(self.network.parameters(), .05, momentum=.9)
        self.run(phase, step, optimizer, IndexBatches(len(domain), 5, self.seed, phase), 6, {"network": self.network}, every=2)
        return self


def build(seed, folder=None): return Small(device="cpu", seed=seed, folder=folder)


def fit(out, fatal=None):
    Small.fatal = fatal
    train_transfer(build, drawn(0), drawn(1), out, threads=1)


def test_ranks_train_the_network_of_one_process_and_go_on_after_a_kill(tmp_path):
    fit(tmp_path/"one")
    assert exit_codes(fork_ranks(2, fit, tmp_path/"two")) == [0, 0]
    def fatal(out):
        try: fit(out, (1, "adapt", 3))
        except CdfssError as error: os._exit(7 if "another rank was lost" in str(error) else 8)
    assert exit_codes(fork_ranks(2, fatal, tmp_path/"killed")) == [7, -signal.SIGKILL]
    assert not (tmp_path/"killed"/"network.safetensors").exists() and (tmp_path/"killed"/"adapt.pt").exists()
    assert exit_codes(fork_ranks(2, fit, tmp_path/"killed")) == [0, 0]
    one, two, killed = (load_file(tmp_path/name/"network.safetensors") for name in ("one", "two", "killed"))
    for name, values in one.items():
        torch.testing.assert_close(two[name], values, rtol=1e-4, atol=1e-5)        # within rounding
        assert torch.equal(killed[name], two[name]), name                          # to the last bit


def test_ranks_share_the_seeds_of_a_transfer(tmp_path):
    def run(out): run_transfer(build, drawn(0), drawn(1), drawn(2), out, seeds=(0, 1, 2), threads=1)
    run(tmp_path/"one")
    assert exit_codes(fork_ranks(2, run, tmp_path/"two")) == [0, 0]
    for seed in range(3):
        rows = [read_domain_rows(tmp_path/name/f"seed{seed}"/"rows.csv") for name in ("one", "two")]
        assert rows[0] == rows[1]

"""Property tests of images, episodes, manifests, sampling and readers: what must hold for any input."""
import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from cdfss.core import CdfssError, file_sha256, shared
from cdfss.data.episodes import Entry, Episodes, Manifest, Support, sample_manifest
from cdfss.data.images import denormalise, image_to_tensor, mask_to_tensor, read_image, read_mask_values
from cdfss.data.readers import MODULES, Reader, open_dataset, open_manifest, readers
from cdfss.data.samples import DRAWN_SETS, SAMPLE_SETS, sample_root

QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
settings.register_profile("data", deadline=None, max_examples=60, suppress_health_check=QUIET)
settings.load_profile("data")


# ---------------------------------------------------------------- images

def picture(mode: str, width: int, height: int, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    wide = {"I;16": (np.uint16, 0, 2**16), "I": (np.int32, -1000, 2**20), "F": (np.float32, -3, 3)}
    if mode in wide:
        kind, low, high = wide[mode]
        return Image.fromarray(rng.uniform(low, high, (height, width)).astype(kind))
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


MODES = ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F"]


@given(mode=st.sampled_from(MODES), width=st.integers(1, 20), height=st.integers(1, 20), seed=st.integers(0, 99))
def test_any_mode_becomes_rgb_of_its_size(tmp_path, mode, width, height, seed):
    path = tmp_path/"x.tif"
    picture(mode, width, height, seed).save(path)
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", (width, height))
    values = read_mask_values(path)
    assert (values.shape, values.dtype) == ((height, width), np.uint8)
    tensor = image_to_tensor(image, size=7)
    assert tensor.shape == (3, 7, 7) and torch.isfinite(tensor).all()


@given(low=st.integers(0, 65535), high=st.integers(0, 65535), seed=st.integers(0, 99))
def test_sixteen_bits_are_scaled_by_their_own_range(tmp_path, low, high, seed):
    assume(low < high)
    values = np.random.default_rng(seed).integers(low, high + 1, (5, 6)).astype(np.uint16)
    values.flat[:2] = low, high
    Image.fromarray(values).save(tmp_path/"x.png")
    grey = np.array(read_image(tmp_path/"x.png"))[..., 0].astype(float)
    assert np.allclose(grey, (values - float(low))/(high - low)*255, atol=0.5001)


@given(data=st.binary(max_size=300), suffix=st.sampled_from([".png", ".jpg", ".bmp", ".tif"]))
def test_bytes_that_are_no_image_are_a_clear_error(tmp_path, data, suffix):
    path = tmp_path/f"x{suffix}"
    path.write_bytes(data)
    for read in (read_image, read_mask_values):
        with pytest.raises(CdfssError, match="x\\"+suffix): read(path)


@given(format=st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "GIF"]), cut=st.floats(0, 1),
       flip=st.integers(0, 10**6), value=st.integers(0, 255))
def test_damaged_files_are_read_or_refused_but_never_anything_else(tmp_path, format, cut, flip, value):
    buffer = io.BytesIO()
    picture("RGB", 33, 21, 0).save(buffer, format=format)
    data = bytearray(buffer.getvalue())
    data[flip % len(data)] = value
    path = tmp_path/"x.img"
    path.write_bytes(data[:int(cut*len(data)) + 1])
    for read in (read_image, read_mask_values):
        try: read(path)
        except CdfssError as error: assert "x.img" in str(error)


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    picture("RGB", 40, 40, 0).save(tmp_path/"bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(CdfssError, match="too large to be decoded safely"): read_image(tmp_path/"bomb.png")


@given(height=st.integers(1, 40), width=st.integers(1, 40), size=st.integers(1, 60), seed=st.integers(0, 99))
def test_masks_take_the_pixel_under_the_corner(height, width, size, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    index = lambda n: np.minimum(np.floor(np.arange(size, dtype=np.float32)*np.float32(n/size)).astype(int), n - 1)
    assert (mask_to_tensor(mask, size).numpy() == mask[np.ix_(index(height), index(width))]).all()


@given(width=st.integers(1, 30), height=st.integers(1, 30), size=st.integers(1, 40), seed=st.integers(0, 99))
def test_normalising_can_be_undone(width, height, size, seed):
    image = picture("RGB", width, height, seed)
    back = denormalise(image_to_tensor(image, size)).permute(1, 2, 0).numpy()*255
    assert np.allclose(back, np.array(image.resize((size, size), Image.Resampling.BILINEAR)), atol=1e-3)


# ---------------------------------------------------------------- supports

@given(shots=st.integers(0, 3), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_support_has_both_foreground_and_background(shots, share, seed):
    masks = torch.from_numpy(np.random.default_rng(seed).random((shots, 3, 2)) < share)
    good = shots > 0 and all(mask.any() and not mask.all() for mask in masks)
    make = lambda: Support(torch.zeros(shots, 3, 3, 2), masks)
    if good: assert make().shots == shots and set(make().masks.unique().tolist()) == {0, 1}
    else:
        with pytest.raises(CdfssError, match="0 shots|empty|full"): make()


@pytest.mark.parametrize("images, masks", [
    ((1, 3, 4, 4), (1, 4, 5)), ((1, 3, 4, 4), (2, 4, 4)), ((3, 4, 4), (1, 4, 4)), ((1, 4, 4, 4), (1, 4, 4)), ((1, 3, 4, 4), (4, 4)),
])
def test_shapes_that_do_not_fit_are_refused(images, masks):
    with pytest.raises(CdfssError, match="support"): Support(torch.zeros(images), torch.ones(masks))


# ---------------------------------------------------------------- manifests

CHARACTERS = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\:")
NAME = st.text(CHARACTERS, min_size=1, max_size=8).filter(lambda name: name not in (".", ".."))
PATH = st.lists(NAME, min_size=1, max_size=3).map("/".join)
PAIR = st.tuples(PATH, PATH)


@st.composite
def manifests(draw):
    shots, names = draw(st.integers(1, 3)), draw(st.lists(NAME, min_size=1, max_size=3))
    entry = st.integers(0, len(names) - 1).flatmap(lambda c: st.builds(
        Entry, st.just(names[c]), st.just(c), PAIR, st.tuples(*[PAIR]*shots)))
    entries = draw(st.lists(entry, min_size=1, max_size=4))
    extra = draw(st.dictionaries(st.sampled_from(["fold", "split", "note"]), NAME | st.integers()))
    return Manifest(draw(NAME), shots, draw(st.integers()), draw(st.integers(1, 1000)), entries, reader=draw(st.none() | NAME), extra=extra)


@given(manifest=manifests())
def test_a_manifest_comes_back_as_it_was(tmp_path, manifest):
    path = manifest.save(tmp_path/"m.jsonl")
    again = Manifest.load(path)
    assert again == manifest and again.dumps() == manifest.dumps()
    assert again.sha256 == manifest.sha256 == file_sha256(path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


@given(manifest=manifests(), broken=st.sets(st.integers(2, 6)), how=st.sampled_from(['{"class": 1}', "{", "", "[1]", "null", '"x"', "NaN"]))
def test_every_broken_line_is_named(tmp_path, manifest, broken, how):
    lines = manifest.dumps().splitlines() + ["end"]
    wanted = {line for line in broken if line <= len(lines)} | {len(lines)}
    for line in wanted: lines[line - 1] = how if line < len(lines) else "end"
    (tmp_path/"m.jsonl").write_bytes("\n".join(lines).encode())
    with pytest.raises(CdfssError) as error: Manifest.load(tmp_path/"m.jsonl")
    named = {int(row.split()[1].rstrip(":")) for row in str(error.value).splitlines() if row.startswith("  line ")}
    assert named == wanted


@given(manifest=manifests(), place=st.integers(0, 10**6), junk=st.binary(min_size=1, max_size=4))
def test_a_mutilated_manifest_is_read_or_refused(tmp_path, manifest, place, junk):
    data = manifest.dumps().encode()
    place %= len(data)
    (tmp_path/"m.jsonl").write_bytes(data[:place] + junk + data[place + len(junk):])
    try: Manifest.load(tmp_path/"m.jsonl").sha256
    except CdfssError as error: assert "m.jsonl" in str(error)


KEYS = st.sampled_from(["class", "class_id", "query", "support", "cdfss_manifest", "shots", "dataset", "seed", "image_size"])
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@given(value=st.recursive(SCALAR, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=9), max_leaves=20))
def test_any_json_is_an_entry_or_a_named_problem(value):
    head = '{"cdfss_manifest": 1, "dataset": "d", "shots": 1, "seed": 0, "image_size": 8}'
    for text in (json.dumps(value), head + "\n" + json.dumps(value)):
        manifest, problems = Manifest.parse(text)
        assert problems or manifest
        assert all(1 <= line <= 2 for line, _ in problems)


OUTSIDE = ["../a.png", "a/../../b.png", "/etc/hosts", "..", "C:/a.png", "c:\\a.png", "\\\\server\\a.png", "..\\a.png", ""]


@pytest.mark.parametrize("path", OUTSIDE)
def test_paths_stay_below_the_root(path):
    head = '{"cdfss_manifest": 1, "dataset": "d", "shots": 1, "seed": 0, "image_size": 8}\n'
    row = {"class": "c", "class_id": 0, "query": ["a", "b"], "support": [["c", path]]}
    assert [line for line, _ in Manifest.parse(head + json.dumps(row))[1]] == [2]
    with pytest.raises(CdfssError, match="line 2"): Manifest("d", 1, 0, 8, [Entry("c", 0, ("a", "b"), (("c", path),))]).check(".")


def disc_files(root: Path, count: int = 6, names=lambda i: f"{i:02d}"):
    "`count` images with a mask each, in the layout of own images."
    for kind in ("images", "masks"): (root/kind).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture("RGB", 12, 9, i).save(root/"images"/f"{names(i)}.png")
        mask = np.zeros((9, 12), np.uint8)
        mask[2:5 + i % 3, 3:8] = 255
        Image.fromarray(mask).save(root/"masks"/f"{names(i)}.png")
    return root


def ring(count: int = 6) -> Manifest:
    pairs = [(f"images/{i:02d}.png", f"masks/{i:02d}.png") for i in range(count)]
    return Manifest("own", 1, 0, 16, [Entry("object", 0, pairs[i], (pairs[i - 1],)) for i in range(count)])


DAMAGE = {
    "image gone": lambda root, i: (root/f"images/{i:02d}.png").unlink(),
    "mask gone": lambda root, i: (root/f"masks/{i:02d}.png").unlink(),
    "image cut": lambda root, i: (root/f"images/{i:02d}.png").write_bytes((root/f"images/{i:02d}.png").read_bytes()[:60]),
    "mask is text": lambda root, i: (root/f"masks/{i:02d}.png").write_text("mask"),
    "other size": lambda root, i: picture("L", 12, 10, 0).save(root/f"masks/{i:02d}.png"),
    "empty": lambda root, i: Image.new("L", (12, 9), 127).save(root/f"masks/{i:02d}.png"),
    "full": lambda root, i: Image.new("L", (12, 9), 128).save(root/f"masks/{i:02d}.png"),
}


@settings(max_examples=25)
@given(damage=st.dictionaries(st.integers(0, 5), st.sampled_from(sorted(DAMAGE)), max_size=4))
def test_the_check_names_every_line_and_no_other(tmp_path_factory, damage):
    root = disc_files(tmp_path_factory.mktemp("own"))
    for i, how in damage.items(): DAMAGE[how](root, i)
    as_support = {(i + 1) % 6 + 2 for i in damage}                                         # image i is the support of the next line's query
    as_query = {i + 2 for i, how in damage.items() if how not in ("empty", "full")}        # an empty query is allowed
    assert {line for line, _ in ring().problems(root)} == as_support | as_query
    if damage:
        with pytest.raises(CdfssError, match=f"{len(ring().problems(root))} problem"): Episodes(ring(), root)
    else: assert len(list(Episodes(ring(), root))) == 6


STEM = NAME.filter(lambda name: not name.startswith(".") and name == name.strip())


@settings(max_examples=15)
@given(stems=st.lists(STEM, min_size=3, max_size=3, unique_by=str.casefold))
def test_any_file_name_will_do(tmp_path_factory, stems):
    root = tmp_path_factory.mktemp("own")
    try: disc_files(root, 3, lambda i: stems[i])
    except OSError: assume(False)                                                          # this file system does not allow such a name
    reader = open_dataset("folder", root)
    assert {image for image, _ in reader.pairs(0)} == {f"images/{stem}.png" for stem in stems}
    path = sample_manifest(reader, episodes=3, image_size=8).save(root/"episodes.jsonl")
    assert len(list(open_manifest(path, root))) == 3


def test_other_files_than_the_manifests_are_warned_about(tmp_path):
    root = disc_files(tmp_path)
    hashed = ring().with_files_hash(root)
    hashed.check(root)
    picture("RGB", 12, 9, 77).save(root/"images"/"03.png")
    with pytest.warns(UserWarning, match="not the very files"): hashed.check(root)


# ---------------------------------------------------------------- sampling

@dataclasses.dataclass
class Listed:
    "A data set of a given number of images a class."
    counts: tuple
    in_turn: bool = False
    name: str = "listed"

    @property
    def class_names(self): return tuple(f"class {c}" for c in range(len(self.counts)))

    def pairs(self, class_id): return [(f"{class_id}/{i}.jpg", f"{class_id}/{i}.png") for i in range(self.counts[class_id])]


COUNTS = st.lists(st.integers(4, 9), min_size=1, max_size=4).map(tuple)
PROTOCOL = st.sampled_from(["public", "clean"])


@given(counts=COUNTS, shots=st.integers(1, 3), episodes=st.integers(1, 40), more=st.integers(0, 30),
       seed=st.integers(0, 2**31), protocol=PROTOCOL, in_turn=st.booleans())
def test_sampled_episodes_obey_the_protocol(counts, shots, episodes, more, seed, protocol, in_turn):
    reader = Listed(counts, in_turn)
    draw = lambda n: sample_manifest(reader, shots=shots, episodes=n, seed=seed, protocol=protocol)
    manifest = draw(episodes)
    assert len(manifest) == episodes and draw(episodes + more).entries[:episodes] == manifest.entries
    flat = [(c, q) for c in range(len(counts)) for q in reader.pairs(c)]
    for i, entry in enumerate(manifest.entries):
        assert len(entry.support) == shots and entry.query not in entry.support
        assert {entry.query, *entry.support} <= set(reader.pairs(entry.class_id))
        assert entry.class_name == reader.class_names[entry.class_id]
        if in_turn: assert (entry.class_id, entry.query) == flat[i % len(flat)]
        else: assert entry.class_id == i % len(counts)
        if protocol == "clean": assert len(set(entry.support)) == shots
    if protocol == "clean" and not in_turn:
        for c, count in enumerate(counts):
            queries = [entry.query for entry in manifest.entries if entry.class_id == c]
            assert all(len(set(queries[k:k + count])) == len(queries[k:k + count]) for k in range(0, len(queries), count))


@given(counts=COUNTS, shots=st.integers(1, 12), protocol=PROTOCOL)
def test_a_class_needs_one_image_more_than_shots(counts, shots, protocol):
    draw = lambda: sample_manifest(Listed(counts), shots=shots, episodes=3, protocol=protocol)
    if min(counts) > shots: assert draw().shots == shots
    else:
        with pytest.raises(CdfssError, match=f"need {shots + 1}"): draw()


def test_an_episode_does_not_depend_on_other_classes_or_on_more_of_them():
    two, three = (sample_manifest(Listed((6,)*n), episodes=12, seed=5) for n in (2, 3))
    assert two.entries[6].class_id == three.entries[6].class_id == 0
    assert two.entries[6] == three.entries[6]


def test_public_draws_are_uniform():
    manifest = sample_manifest(Listed((6,)), shots=2, episodes=6000, seed=1)
    queries = np.bincount([int(entry.query[0][2]) for entry in manifest.entries], minlength=6)
    supports = np.bincount([int(name[2]) for entry in manifest.entries for name, _ in entry.support], minlength=6)
    twice = np.mean([entry.support[0] == entry.support[1] for entry in manifest.entries])
    assert abs(queries/6000 - 1/6).max() < 0.02 and abs(supports/12000 - 1/6).max() < 0.02 and abs(twice - 1/5) < 0.02


# ---------------------------------------------------------------- readers: listings written down from the layouts

LISTINGS = {
    "deepglobe": ("Deepglobe", {}, [[(f"{c}/test/origin/{c}_{k}.jpg", f"{c}/test/groundtruth/{c}_{k}.png") for k in range(3)]
                                    for c in range(1, 7)]),
    "isic2018": ("ISIC", {}, [[(f"ISIC2018_Task1-2_Training_Input/{c}/ISIC_{c}{k}.jpg",
                                f"ISIC2018_Task1_Training_GroundTruth/ISIC_{c}{k}_segmentation.png") for k in range(3)]
                              for c in (1, 2, 3)]),
    "chest_xray": ("Lung Segmentation", {}, [[("CXR_png/CHN_1.png", "masks/CHN_1_mask.png"), ("CXR_png/MCU_1.png", "masks/MCU_1.png")]]),
    "fss1000": ("FSS-1000", {}, [[(f"{name}/{k}.jpg", f"{name}/{k}.png") for k in (1, 10, 2, 3, 4, 5, 6, 7, 8, 9)]
                                 for name in ("ab wheel", "zucchini {x}")]),
    "wbc": ("WBC", {}, [[(f"Dataset {d}/{k:03d}.bmp", f"Dataset {d}/{k:03d}.png") for d in (1, 2) for k in (1, 2)]]),
    "wbc converted": ("WBC", {"part": "converted"}, [[(f"imagesTr/{k}.jpg", f"labelsTr/{k}.png") for k in (1, 2)]]),
    "segpc2021": ("TCIA_SegPC", {}, [[(f"Images/{k}.png", f"labels/{k}.png") for k in (101, 102)]]),
    "folder": ("folder", {"class_name": "leaf"}, [[("images/a.png", "masks/a.tif"), ("images/b c.JPG", "masks/b c.png")]]),
}


@pytest.mark.parametrize("key", LISTINGS)
@pytest.mark.parametrize("given_root", ["own", "parent", "lower case", "nested"])
def test_a_listing_is_read_as_the_layout_says(tmp_path, key, given_root):
    name, (folder, options, classes) = key.split()[0], LISTINGS[key]
    if given_root == "lower case": folder = folder.lower()
    home = tmp_path/name/folder if given_root == "nested" else tmp_path/folder
    for file in [file for pairs in classes for pair in pairs for file in pair]:
        (home/file).parent.mkdir(parents=True, exist_ok=True)
        (home/file).touch()
        (home/file).with_name("._" + Path(file).name).touch()                              # what some systems leave beside every file
    reader = open_dataset(name, home if given_root == "own" else tmp_path, **options)
    assert reader.root == home
    assert [reader.pairs(c) for c in range(len(reader.class_names))] == classes
    assert len(reader) == sum(map(len, classes)) and not any("\\" in name for pairs in classes for pair in pairs for name in pair)
    (home/classes[0][0][1]).unlink()
    if name != "chest_xray":
        with pytest.raises(CdfssError, match="no mask"): open_dataset(name, home, **options).pairs(0)


def test_the_public_facts_of_the_six():
    table = readers()
    assert set(SAMPLE_SETS) < set(DRAWN_SETS) < set(table) == set(MODULES)
    classes = {"deepglobe": 6, "isic2018": 3, "chest_xray": 1, "wbc": 1, "segpc2021": 1}
    assert {name: len(table[name].class_names) for name in classes} == classes
    assert {name: table[name].threshold for name in SAMPLE_SETS} == dict.fromkeys(SAMPLE_SETS, 128) | {"segpc2021": 10}
    assert {name: table[name].public_episodes for name in SAMPLE_SETS} == dict.fromkeys(SAMPLE_SETS) | {"wbc": 600, "segpc2021": 600}
    assert [name for name in SAMPLE_SETS if table[name].in_turn] == ["fss1000"]
    assert all(issubclass(reader, Reader) and reader.title and reader.expected() for reader in table.values())


@pytest.mark.parametrize("name", sorted(DRAWN_SETS))
def test_every_drawn_sample_is_read_and_checked(tmp_path, name):
    reader = open_dataset(name, sample_root(name))
    everything = [Entry(reader.class_names[c], c, pair, (pair,)) for c in range(len(reader.class_names)) for pair in reader.pairs(c)]
    assert all(len(reader.pairs(c)) >= 6 for c in range(len(reader.class_names)))
    manifest = Manifest(name, 1, 0, 64, everything, reader=reader.manifest_keys().get("reader"))
    episodes = open_manifest(manifest.save(tmp_path/"all.jsonl"), sample_root(name))
    assert len(episodes) == len(reader)
    assert 0 < episodes[0].mask.mean() < 1


@pytest.mark.parametrize("name", ["wbc", "isic2018", "chest_xray", "nuclei", "skin"])
def test_real_manifests_are_read_and_checked(name):
    root = shared("data", name)
    if root is None: pytest.skip("the real images are not at hand")
    for shots in (1, 5):
        path = shared("data", "manifests", f"{name}_{shots}shot.jsonl")
        episodes = open_manifest(path, root.parent)                                        # the parent is as good as the folder
        assert len(episodes) == 60 and episodes[0].support.images.shape == (shots, 3, 400, 400)
        assert episodes.manifest.sha256 == file_sha256(path)


def test_readers_are_light():
    heavy = ("torchvision", "matplotlib", "pandas", "scipy", "cdfss.data.wbc")
    code = f"import cdfss.data.readers, sys; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"

"""Build the docs from the notebooks: python docs/build.py [--out FOLDER] [--open]. Works offline; a warning is an error."""
import argparse
import base64
import io
import os
import shutil
import sys
import webbrowser
from pathlib import Path

from PIL import Image, ImageOps
from sphinx.cmd.build import build_main

from convert import PACKAGE, Linker, convert, read_page

docs = Path(__file__).resolve().parent
root = docs.parent
THUMBNAIL = 480, 240    # pixels: a card is about half as wide, and screens have up to two pixels for one
# tutorials of the gallery in reading order; one that is not named here comes last
TUTORIALS = {
    "First steps": ["quickstart", "from_scratch", "own_images"],
    "One data set each": ["deepglobe", "isic2018", "chest_xray", "fss1000", "wbc", "segpc2021", "pascal5i", "coco20i", "suim", "driving"],
    "One method each": ["meta_memory", "pixda", "tmt", "sfda"],
    "Experiments": ["compare_methods", "ablation", "foundation_backbones", "on_a_gpu", "on_many_gpus"],
    "Add your own": ["add_a_method", "add_a_data_set"],
}
ROOMS = dict(basics="Basics", data="Data", model="Model", train="Training", methods="Methods", evaluate="Evaluation", app="Applications")


def collect():
    "All pages that are files of the repository."
    nbs = root/"nbs"
    files = {file: file.relative_to(nbs).as_posix() for file in sorted(nbs.rglob("*.ipynb")) if ".ipynb_checkpoints" not in file.parts}
    files[nbs/"index.ipynb"] = "overview.ipynb"      # it is README.md
    files |= {root/"CONTRIBUTING.md": "contributing.md", docs/"index.md": "index.md"}
    pages = [read_page(file, name) for file, name in files.items()]
    overview = next(page for page in pages if page.name == "overview.ipynb").notebook.cells[0]
    overview.source = overview.source.replace("# cdfss", "# Overview", 1)
    return pages


def thumbnail(page, target):
    "The first stored picture that shows images rather than curves and fills a card, scaled to one; False if there is no picture."
    data = [output.data[kind] for cell in page.notebook.cells for output in cell.get("outputs", [])
            for kind in ("image/png", "image/jpeg") if kind in output.get("data", {})]
    pictures = []
    for text in data:
        picture = Image.open(io.BytesIO(base64.b64decode(text))).convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture)
        ink = ImageOps.invert(white.convert("L"))       # how far each pixel is from white
        picture = white.convert("RGB").crop(ink.getbbox())
        share = 1 - ink.crop(ink.getbbox()).histogram()[0]/(picture.width*picture.height)
        wide = picture.width/picture.height
        pictures.append((share > 0.6, 1.3 < wide < 3.5, picture))
    if not pictures: return False
    best = max(pictures, key=lambda p: p[:2])       # of equal ones the first
    card = ImageOps.pad(best[2], THUMBNAIL, Image.Resampling.LANCZOS, color="white")
    target.parent.mkdir(parents=True, exist_ok=True)
    card.quantize(128).save(target, optimize=True)
    return True


def gallery(pages, linker, source):
    "The tutorials' page: a card each, in groups. Also their names in this order."
    tutorials = {Path(page.name).stem: page for page in pages if page.name.startswith("tutorials/")}
    groups = {title: [name for name in names if name in tutorials] for title, names in TUTORIALS.items()}
    groups["More"] = [name for name in tutorials if not any(name in names for names in TUTORIALS.values())]
    text = ["# Tutorials", "",
            "> Each runs offline on images that come with the package, and says how to do the same with the real ones.", ""]
    for title, names in groups.items():
        if names: text += [f"## {title}", "", "::::{container} cards"]
        for name in names:
            page, picture = tutorials[name], f"images/{name}.png"
            parts = [f"![]({picture})"] if thumbnail(page, source/"tutorials"/picture) else []
            parts += [f"**[{page.title}]({name}.ipynb)**", linker.text(page.blurb, page)]
            text += ["- " + "\n\n  ".join(parts), ""]
        if names: text += ["::::", ""]
    order = [name for names in groups.values() for name in names]
    (source/"tutorials/index.md").write_text("\n".join([*text, *toctree("", order)]), encoding="utf-8")


def api(pages, linker, source):
    "The page that lists every public name of the package with its first sentence."
    text = ["# API", "", "> Every public name of the package, module by module. {ref}`genindex` has them by the alphabet, "
            "with the constants, and the search box finds them all.", ""]
    for page in pages:
        symbols = [symbol for group in page.symbols.values() for symbol in group if symbol.kind != "data"]
        if not symbols: continue
        text += [f"## {page.module}", "", f"[{page.title}]({page.name}): {linker.text(page.blurb, page)}", "",
                 ":::{container} names", "", "| | |", "|---|---|"]
        for symbol in symbols:
            first = linker.doc(symbol).split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
            text.append(f"| {{py:obj}}`{symbol.name} <{symbol.full}>` | {linker.text(first, page, {symbol.name})} |")
        text += ["", ":::", ""]
    (source/"api.md").write_text("\n".join(text), encoding="utf-8")


def toctree(caption, names):
    "A part of the side bar."
    return ["```{toctree}", ":hidden:", *([f":caption: {caption}"] if caption else []), *names, "```", ""]


def sidebar(pages):
    "Everything that the side bar lists, the modules' notebooks in the order of the way of the data."
    rooms, start = {room: [] for room in ROOMS}, ["overview", "course", "numbers"]
    for page in pages:
        name, parts = page.name.removesuffix(".ipynb"), page.module.split(".")
        if page.module: rooms.setdefault(parts[1] if len(parts) > 2 else "basics", []).append(name)
        elif page.notebook and "/" not in name and name not in start: start.append(name)
    names = {page.name for page in pages}
    lines = toctree("Start", [*(name for name in start if f"{name}.ipynb" in names), "tutorials/index"])
    for room, notebooks in rooms.items(): lines += toctree(ROOMS.get(room, room.title()), notebooks) if notebooks else []
    return "\n".join(lines + toctree("Reference", ["api", "contributing"]))


def stage(source):
    "Write everything that Sphinx reads into the folder `source`."
    pages = collect()
    linker = Linker(pages, root)
    linker.pages |= {docs/"tutorials.md": "tutorials/index.md", docs/"api.md": "api.md", root/"README.md": "overview.ipynb"}
    gallery(pages, linker, source)
    api(pages, linker, source)
    for page in pages:
        text = convert(page, linker) if page.notebook else linker.text(page.file.read_text(encoding="utf-8"), page)
        (source/page.name).write_text(text + "\n\n" + sidebar(pages) if page.name == "index.md" else text, encoding="utf-8")
    for name, file in linker.files.items():
        (source/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, source/name)


def build(out):
    "Stage and build into `out`/html; the exit status of Sphinx."
    for part in ("source", "html", "doctrees"): shutil.rmtree(out/part, ignore_errors=True)
    (out/"source/tutorials").mkdir(parents=True)
    stage(out/"source")
    return build_main(["-q", "-W", "--keep-going", "-c", str(docs), "-d", str(out/"doctrees"), str(out/"source"), str(out/"html")])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=docs/"_build", help="where html/ is put")
    parser.add_argument("--open", action="store_true", help="show it in a browser, if there is a screen")
    options = parser.parse_args()
    if status := build(options.out.resolve()): sys.exit(status)
    start = options.out.resolve()/"html/index.html"
    print(start)
    has_screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if options.open and has_screen and not os.environ.get("CI"): webbrowser.open(start.as_uri())

"""What the notebooks define, and how names and links in their text become links of the docs. Nothing is run or imported for that."""
import ast
import io
import re
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat.v4 import new_markdown_cell

PACKAGE = "cdfss"
# Markdown, as far as links are concerned: fences, formulas and headings are left as they are; then links and pictures; then inline code
TOKEN = re.compile(r"(?P<left>^(?P<fence>```+|~~~+).*?^(?P=fence)`*\s*$|\$\$.*?\$\$|\$[^$\n`]+\$|^\#{1,6}\s.*?$)"
                   r"|(?P<text>!?\[(?:[^\[\]`]|`[^`]*`|!?\[[^\[\]]*\](?:\([^()]*\))?)*\])\((?P<target>[^()\s]+)\)"
                   r"|(?P<tick>`+)(?P<code>[^`]+)(?P=tick)", re.M | re.S)


@dataclass
class Symbol:
    "A public function, class, method or constant, as its cell defines it."
    module: str          # "cdfss.methods.mtmnet"
    name: str            # inside the module: "MTMNet", "MTMNet.predict"
    kind: str            # its directive in Sphinx' Python domain: function, class, method, property, data
    doc: str = ""        # docstring; of a constant its comment
    rows: list = field(default_factory=list)   # (name, type, default, comment) of each parameter, as source text
    returns: tuple = ("", "")                  # type and comment
    bases: tuple = ()                          # of a class
    collects: bool = False                     # a dataclass adds its fields to those of its bases
    option: str = ""                           # of a method: classmethod or staticmethod
    value: str = ""                            # of a constant

    @property
    def full(self): return f"{self.module}.{self.name}"


@dataclass
class Page:
    "A notebook or Markdown file of the repository that is a page of the docs."
    file: Path
    name: str                                    # in the docs: "tutorials/wbc.ipynb"
    module: str = ""                             # what a notebook exports
    notebook: object = None
    symbols: dict = field(default_factory=dict)  # index of an exported cell → the symbols it defines

    def first(self):
        "Lines of the first cell, where title and blurb stand."
        return (self.notebook.cells[0].source if self.notebook else self.file.read_text(encoding="utf-8")).splitlines()

    @property
    def title(self): return next(line[2:] for line in self.first() if line.startswith("# "))

    @property
    def blurb(self): return " ".join(line[1:].strip() for line in self.first() if line.startswith(">"))


def directives(cell):
    "nbdev's `#|` lines of a code cell, without the mark."
    return [line[2:].strip() for line in cell.source.splitlines() if line.startswith("#|")] if cell.cell_type == "code" else []


def read_page(file, name):
    "A page and the symbols that it exports."
    page = Page(file, name)
    if file.suffix == ".ipynb":
        page.notebook = nbformat.read(file, as_version=4)
        for index, cell in enumerate(page.notebook.cells):
            for directive in directives(cell):
                if directive.startswith("default_exp "): page.module = f"{PACKAGE}.{directive.split()[1]}"
                if directive.startswith("export"): page.symbols[index] = list(find_symbols(cell.source, page.module))
    return page


def find_symbols(source, module):
    "The public symbols of a cell, each class before its methods."
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.COMMENT]
    comments = {token.start[0]: (token.string.lstrip("# "), token.line.lstrip()[0] == "#") for token in tokens}    # is it alone there?
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            patched = any(ast.unparse(decorator).split("(")[0] == "patch" for decorator in node.decorator_list)
            found = [function(node, comments, module, ast.unparse(node.args.args[0].annotation) if patched else None)]
        elif isinstance(node, ast.ClassDef):
            methods = [function(child, comments, module, node.name) for child in node.body if isinstance(child, ast.FunctionDef)]
            bases = [ast.unparse(base).split("[")[0] for base in node.bases]
            collects = "NamedTuple" in bases or any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
            rows = [(child.target.id, ast.unparse(child.annotation), ast.unparse(child.value) if child.value else "",
                     comment_at(comments, child)) for child in node.body if isinstance(child, ast.AnnAssign)] if collects else \
                next((method.rows for method in methods if method.name.endswith(".__init__")), [])
            found = [Symbol(module, node.name, "class", ast.get_docstring(node) or "", rows, bases=bases, collects=collects), *methods]
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
            value = ast.unparse(node.value) if node.value and len(names) == 1 else ""
            found = [Symbol(module, name, "data", comment_at(comments, node), value=value) for name in names]
        else: found = []
        yield from (symbol for symbol in found if not re.search(r"(^|\.)_", symbol.name))


def comment_at(comments, node):
    "The comment beside a parameter or field, else the lines of comment right above it."
    if node.end_lineno in comments: return comments[node.end_lineno][0]
    first = last = node.lineno
    while comments.get(first - 1, ("", False))[1]: first -= 1
    return " ".join(comments[line][0] for line in range(first, last))


def function(node, comments, module, owner=None):
    "A function, or a method of the class `owner`."
    decorators = " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
    option = "staticmethod" if "staticmethod" in decorators else \
        "classmethod" if "classmethod" in decorators or "cls_method" in decorators else ""
    kind = "function" if owner is None else "property" if "property" in decorators or "as_prop" in decorators else "method"
    args, source = node.args, lambda part: ast.unparse(part).strip("'") if part else ""
    named = args.posonlyargs + args.args
    parameters = list(zip(named, [None]*(len(named) - len(args.defaults)) + args.defaults))
    if owner and option != "staticmethod": parameters = parameters[1:]
    parameters += [(args.vararg, None)] if args.vararg else []
    parameters += zip(args.kwonlyargs, args.kw_defaults)
    parameters += [(args.kwarg, None)] if args.kwarg else []
    closing = node.returns.lineno if node.returns else node.body[0].lineno - 1  # the line of "):", beside which the result is described
    last_of_line = {arg.lineno: arg for arg, _ in parameters}
    rows = []
    for arg, default in parameters:
        if arg in args.kwonlyargs[:1] and not args.vararg: rows.append(("*", "", "", ""))
        star = "*" if arg is args.vararg else "**" if arg is args.kwarg else ""
        comment = comment_at(comments, arg) if last_of_line[arg.lineno] is arg and arg.lineno != closing else ""
        rows.append((star + arg.arg, source(arg.annotation), ast.unparse(default) if default else "", comment))
    returns = source(node.returns), comments[closing][0] if node.lineno < closing in comments else ""
    return Symbol(module, f"{owner}.{node.name}" if owner else node.name, kind, ast.get_docstring(node) or "", rows, returns, option=option)


class Linker:
    "Knows all pages and symbols, and puts links to them into text."
    def __init__(self, pages, root):
        self.root, self.pages = root, {page.file: page.name for page in pages}
        self.files = {}     # files of the repository that are linked and are no pages: name in the docs → file
        self.modules = {page.module for page in pages if page.module}
        self.symbols = {symbol.full: symbol for page in pages for group in page.symbols.values() for symbol in group}
        self.spellings = {}  # every way to write a symbol → the symbols that it may mean
        for full, symbol in self.symbols.items():
            parts = full.split(".")
            least = symbol.name.count(".") + 1 + (symbol.kind == "data")    # a constant needs its module: many share a name
            for n in range(least, len(parts) + 1): self.spellings.setdefault(".".join(parts[-n:]), set()).add(full)
            self.spellings.setdefault(f"{PACKAGE}.{symbol.name}", set()).add(full)

    def resolve(self, name, module=""):
        "The one public symbol or module that `name` means on the page of `module`, or None."
        if f"{module}.{name}" in self.symbols: return f"{module}.{name}"
        if "." in name and (full := f"{PACKAGE}.{name.removeprefix(PACKAGE + '.')}") in self.modules: return full
        found = self.spellings.get(name, ())
        if not found and "." in name:
            owner, method = name.rsplit(".", 1)
            family = (f"{cls.full}.{method}" for cls in self.family(self.resolve(owner, module)))
            found = [full for full in family if full in self.symbols][:1]
        return next(iter(found)) if len(found) == 1 else None

    def family(self, full):
        "A class and the classes of the package that it inherits from, nearest first."
        symbol = self.symbols.get(full)
        if symbol is None or symbol.kind != "class": return []
        return [symbol] + [cls for base in symbol.bases for cls in self.family(self.resolve(base, symbol.module))]

    def code(self, code, module="", skip=()):
        "Inline code, as a link if it is a symbol, a call of one, a module or a command."
        match = re.fullmatch(r"([A-Za-z_][\w.]*)(\(.*\))?", code, re.S)
        command = re.fullmatch(rf"{PACKAGE} (\w+)", code)
        name = f"{PACKAGE}.app.cli.{command[1]}" if command else match[1] if match else ""
        full = None if name in skip else self.resolve(name, module)
        return f"{{py:{'mod' if full in self.modules else 'obj'}}}`{code} <{full}>`" if full else f"`{code}`"

    def target(self, target, page):
        "Where a link leads in the docs: to a page or a copy of a file. A folder is None; what is missing is left for Sphinx to report."
        if re.match(r"[a-z]+:", target): return target
        path, _, anchor = target.partition("#")
        anchor = "#" + re.sub(r"[^\w-]", "", anchor.lower()) if anchor else ""
        file = (page.file.parent/path).resolve()
        if not path: return anchor
        if file.is_dir(): return None
        if file in self.pages: name = self.pages[file]
        elif file.is_file():
            name = f"files/{file.relative_to(self.root).as_posix()}" + (".txt" if file.suffix in (".md", ".ipynb") else "")   # not a page
            self.files[name] = file
        else: return target
        return "../"*page.name.count("/") + name + anchor

    def text(self, text, page, skip=()):
        "Markdown with the links of `page`."
        def replace(match):
            if match["left"]: return match[0]
            if match["code"]: return self.code(match["code"], page.module, skip) if match["tick"] == "`" else match[0]
            inner = re.sub(r"(!\[[^\[\]]*\]\()([^()\s]+)(?=\))", lambda inner: inner[1] + self.target(inner[2], page), match["text"])
            target = self.target(match["target"], page)
            return f"{inner}({target})" if target else inner[1:-1]
        return TOKEN.sub(replace, text)

    def doc(self, symbol):
        "A docstring; a method without one has that of the method it overrides."
        owner, _, method = symbol.full.rpartition(".")
        family = [self.symbols.get(f"{cls.full}.{method}") for cls in self.family(owner)]
        return next((other.doc for other in [symbol, *family] if other and other.doc), "")

    def document(self, symbol, page):
        "A symbol's signature, docstring and table of parameters, as a directive of Sphinx' Python domain."
        rows, family = symbol.rows, self.family(symbol.full)
        if symbol.collects: rows = list({row[0]: row for cls in reversed(family) for row in cls.rows}.values())
        elif symbol.kind == "class": rows = next((cls.rows for cls in family if cls.rows), [])
        skip = {symbol.name, *(row[0].strip("*") for row in rows)}
        no_html = lambda text: re.sub(r"<(?=[^`]*(?:`[^`]*`[^`]*)*$)", r"\\<", text.strip())     # outside of code
        prose = lambda text: self.text(no_html(text), page, skip)
        table = [[f"`{name}`", kind, default, prose(comment)] for name, kind, default, comment in rows if name != "*"]
        table += [["returns", symbol.returns[0], "", prose(symbol.returns[1])]] if any(symbol.returns) else []
        has_table = any(comment for *_, comment in table)       # else types and all stand in the signature
        typed = lambda name, kind: f"{name}: {kind}" if kind and not has_table else name
        signature = ", ".join(typed(name, kind) + (f"={default}" if default else "") for name, kind, default, _ in rows)
        head = f"{symbol.name}({signature})" if rows or symbol.kind in ("function", "method") else symbol.name
        if symbol.returns[0] and not has_table and symbol.kind != "property": head += f" -> {symbol.returns[0]}"
        lines = [f"::::{{py:{symbol.kind}}} {head}", f":module: {symbol.module}"]
        lines += [f":{symbol.option}:"] if symbol.option else [f":value: {symbol.value}"] if 0 < len(symbol.value) < 60 else []
        lines += ["", prose(self.doc(symbol))]
        if has_table:
            for row in table: row[1:3] = [part and self.code(part, page.module) for part in row[1:3]]
            columns = [column for column in zip(["", "type", "default", ""], ["---"]*4, *table) if any(column[2:])]
            lines += ["", *("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in zip(*columns))]
        return "\n".join([*lines, "::::"])


def convert(page, linker):
    "The notebook as it is shown: documentation in place of exported code, which is folded; hidden cells and directives gone."
    cells = []
    for index, cell in enumerate(page.notebook.cells):
        words = {word.rstrip(":") for directive in directives(cell) for word in directive.split()[:1]}
        symbols = page.symbols.get(index, [])
        imports_only = index in page.symbols and all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(cell.source).body)
        if words & {"hide", "default_exp"} or imports_only: continue
        if cell.cell_type == "markdown": cell.source = linker.text(cell.source, page)
        else:
            cell.source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("#|")).strip()
            shown = {"remove-input"} if "echo" in words else {"hide-input"} if any(s.kind != "data" for s in symbols) else set()
            cell.metadata["tags"] = sorted(shown)
            for data in (output.data for output in cell.outputs if "data" in output):
                for kind in [kind for kind in data if "widget" in kind]: del data[kind]     # needs a kernel; its text and picture do not
                if "#T_" not in (table := data.get("text/html", "#T_")):        # pandas numbers cells; without a style nobody needs that
                    data["text/html"] = re.sub(r' id="T_\w*"', "", table)
            cells += [new_markdown_cell(linker.document(symbol, page)) for symbol in symbols]
        cells.append(cell)
    if page.module:
        cells[0].source += (f"\n\n:::{{py:module}} {page.module}\n:::\n\n"
                            f":::{{container}} where\nModule `{page.module}` · notebook `nbs/{page.file.name}`\n:::")
    page.notebook.cells, page.notebook.metadata = cells, {"language_info": {"name": "python", "pygments_lexer": "python3"}}
    return nbformat.writes(page.notebook)

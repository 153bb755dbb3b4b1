"""No code of this repository runs what it reads: the syntax tree of every Python file and notebook is searched.

What is looked for: the built-ins that run text; shells; loads that can run code (pickles, torch files without
`weights_only`, numpy's object arrays, YAML with Python tags, code from a hub); archives unpacked without a filter.
Writing a pickle is allowed: tests must make the files that the package refuses.
"""

import ast
import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PICKLES = ("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle")
NEVER = {
    *(f"{module}.{name}" for module in PICKLES for name in ("load", "loads", "open", "Unpickler", "decode")),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn", "commands.getoutput"),
    *("asyncio.create_subprocess_shell", "code.InteractiveInterpreter"),
    *("torch.hub.load", "torch.jit.load", "torch.package.PackageImporter", "torch.serialization.load"),
    *("yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all", "yaml.UnsafeLoader"),
    *("yaml.Loader", "yaml.FullLoader", "pandas.read_pickle", "pandas.eval", "numpy.lib.format.read_array"),
}
SAFE_YAML = ("yaml.SafeLoader", "yaml.CSafeLoader")
BUILTINS = ("eval", "exec", "compile", "__import__")


def files() -> list[Path]:
    """Every Python file and notebook that git tracks or would add."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.py", "*.pyi", "*.ipynb"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted({ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()})


def sources(path: Path) -> str:
    """A file's code; of a notebook, that of its code cells, one after the other."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    # `%matplotlib` is not Python but harmless; `!` and `%%` are commands, and stay as what cannot be parsed.
    return "\n".join("pass" if line.startswith("%matplotlib") else line for cell in cells for line in cell.split("\n"))


def dotted(node: ast.AST, names: dict[str, str]) -> str:
    """`np.load` -> `numpy.load`, as the imports say; empty for what is no chain of names."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value, names)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def unsafe(source: str) -> list[str]:
    """What a source must not do, each as `line: what`."""
    tree, names, found = ast.parse(source), {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:  # `import a.b` gives the name a, `import a.b as c` gives c
                first = alias.name.split(".")[0]
                names |= {alias.asname: alias.name} if alias.asname else {first: first}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found += [
                f"{node.lineno}: from {node.module} import *" for alias in node.names
                if alias.name == "*" and node.module.split(".")[0] in (*PICKLES, "os", "builtins")
            ]  # fmt: skip
    for node in ast.walk(tree):
        said = lambda what, node=node: found.append(f"{node.lineno}: {what}")  # noqa: E731
        if isinstance(node, (ast.Name, ast.Attribute)):
            name = dotted(node, names)
            if name in NEVER or name.removeprefix("builtins.").removeprefix("__builtins__.") in BUILTINS:
                said(name)  # a mention is enough: it could be passed on and called
            elif name.startswith(("os.exec", "os.spawn", "os.posix_spawn")):
                said(name)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values):
                word = isinstance(key, ast.Constant) and key.value
                if word in FLAGS and not is_constant(value, False, None):
                    said(f"{word} in a dictionary")
        elif isinstance(node, ast.Call):
            name, flags = dotted(node.func, names), {keyword.arg: keyword.value for keyword in node.keywords}
            for word in FLAGS:
                if word in flags and not is_constant(flags[word], False, None):
                    said(f"{word}=")
            if name == "torch.load" and not is_constant(flags.get("weights_only"), True):
                said("torch.load without weights_only=True")
            if name in ("yaml.load", "yaml.load_all"):
                loader = flags.get("Loader", node.args[1] if len(node.args) > 1 else None)
                if loader is None or dotted(loader, names) not in SAFE_YAML:
                    said(f"{name} without a safe loader")
            last = node.func.attr if isinstance(node.func, ast.Attribute) else name
            if last in ("extractall", "unpack_archive") and not is_constant(flags.get("filter"), "data"):
                said(f"{last} without filter='data'")
            if name == "getattr" and len(node.args) > 1 and is_constant(node.args[1], *BUILTINS, "system", "popen"):
                said(f"getattr(..., {node.args[1].value!r})")
    return sorted(set(found), key=lambda line: int(line.split(":")[0]))


FLAGS = ("shell", "allow_pickle", "trust_remote_code")


def is_constant(node: ast.AST | None, *values) -> bool:
    """Whether a node is one of these constants, and not something that is only known when it runs."""
    return isinstance(node, ast.Constant) and any(node.value is v or node.value == v for v in values)


def test_no_file_runs_what_it_reads():
    every = files()
    folders = {path.relative_to(ROOT).parts[0] for path in every}
    assert {"minclip", "experiments", "benchmarks", "assignments", "tests", "notebooks", "data"} <= folders
    assert sum(path.suffix == ".ipynb" for path in every) >= 19 and len(every) > 150
    wrong = {str(path.relative_to(ROOT)): lines for path in every if (lines := unsafe(sources(path)))}
    assert wrong == {}


BAD = """
eval("1")
exec(text)
map(eval, texts)
compile(text, "x", "exec")
builtins.eval("1")
import builtins as b; b.exec(text)
getattr(builtins, "eval")("1")
subprocess.run("ls", shell=True)
subprocess.run("ls", shell=flag)
subprocess.getoutput("ls")
run(**{"shell": True})
os.system("ls")
from os import popen; popen("ls")
from os import *
os.execv("/bin/ls", [])
import pickle; pickle.load(file)
import pickle as p; p.loads(data)
from pickle import loads as read; read(data)
pickle.Unpickler(file).load()
import dill; dill.load(file)
import marshal; marshal.loads(data)
import shelve; shelve.open("x")
import joblib; joblib.load("x")
torch.load("x")
torch.load("x", weights_only=False)
torch.load("x", weights_only=flag)
from torch import load; load("x")
torch.hub.load("a/b", "c")
import numpy as np; np.load("x", allow_pickle=True)
numpy.load("x", allow_pickle=flag)
import pandas as pd; pd.read_pickle("x")
yaml.load(text)
yaml.load(text, Loader=yaml.Loader)
yaml.load(text, yaml.UnsafeLoader)
yaml.unsafe_load(text)
load_dataset("x", trust_remote_code=True)
load_dataset("x", **{"trust_remote_code": True})
tar.extractall("x")
tar.extractall("x", filter="fully_trusted")
shutil.unpack_archive("x.tar")
""".strip().split("\n")
GOOD = """
model.eval()
model.eval().train()
re.compile("x")
torch.compile(model)
subprocess.run(["ls"], shell=False)
import pickle; pickle.dump(thing, file)
from pickle import dumps; dumps(thing)
torch.load("x", map_location="cpu", weights_only=True)
np.load("x")
np.load("x", allow_pickle=False)
json.load(file)
yaml.safe_load(text)
yaml.load(text, Loader=yaml.SafeLoader)
tar.extractall("x", filter="data")
load_dataset("x", trust_remote_code=False)
Tokenizer.load("tokenizer.json")
os.path.join("a", "b")
""".strip().split("\n")


@pytest.mark.parametrize("line", BAD)
def test_what_is_unsafe_is_found(line):
    assert len(unsafe(line)) >= 1


@pytest.mark.parametrize("line", GOOD)
def test_what_is_safe_is_not(line):
    assert unsafe(line) == []


def test_the_code_cells_of_a_notebook_are_searched(tmp_path):
    cell = lambda kind, text: {"cell_type": kind, "source": [text]}  # noqa: E731
    cells = [cell("markdown", "eval('1')"), cell("code", "%matplotlib inline\nx = 1"), cell("code", "y = eval('1')")]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}))
    assert unsafe(sources(tmp_path / "n.ipynb")) == ["3: eval"]

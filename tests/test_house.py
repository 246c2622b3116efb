"""House gates: who may import whom, and what a file may look like. Read with ``ast``; nothing is run to find out."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "sayso"

_EVALUATION = {"core", "audio", "text", "nlu", "decoding", "runtime"}
_TRAINING = {"core", "text", "nlu", "decoding", "data", "models", "losses", "evaluation"}
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "audio": {"core"},
    "text": {"core"},
    "nlu": {"core", "text"},
    "decoding": {"core", "text"},
    "runtime": {"core", "audio", "text", "nlu", "decoding"},
    "evaluation": _EVALUATION,
    "serving": _EVALUATION,
    "operations": {"core", "text", "nlu", "runtime", "evaluation"},
    "data": {"core", "audio", "text", "nlu"},
    "models": {"core", "audio", "text"},
    "losses": {"core"},
    "training": _TRAINING,
    "adaptation": _TRAINING | {"training"},
    "compression": {"core", "data", "models", "losses", "evaluation", "training"},
    # audio: export reads the feature settings and computes the clips that fix the int8 scales
    "export": {"core", "audio", "text", "nlu", "decoding", "models", "compression", "runtime"},
    "build": {
        "core", "audio", "text", "nlu", "decoding", "runtime", "evaluation", "data", "models", "losses", "training",
        "adaptation", "compression", "export",
    },
}  # fmt: skip
FLOOR = ("core", "audio", "text", "nlu", "decoding", "runtime", "evaluation", "serving", "operations")
FLOOR_PACKAGES = {  # what a base install brings; anything else goes through core.errors.require
    "hassil", "kaldi_native_fbank", "numpy", "onnxruntime", "pydantic", "pydantic_core", "rapidfuzz", "rich",
    "sentencepiece", "soundfile", "soxr", "typer", "yaml",
}  # fmt: skip
WORKSHOP_PACKAGES = ("torch", "lhotse", "lightning_fabric", "safetensors", "onnx")


def sources() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def package_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else ""


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Absolute module names imported below ``node``, with lines; ``from a import b`` gives ``a`` and ``a.b``."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"relative import on line {child.lineno}"
            yield child.module or "", child.lineno
            yield from ((f"{child.module}.{alias.name}", child.lineno) for alias in child.names)


def for_types_alone(node: ast.stmt) -> bool:
    """``if TYPE_CHECKING:``"""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


@pytest.fixture(params=sources(), ids=lambda path: str(path.relative_to(SOURCE)))
def source(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_arrows_point_only_where_the_design_allows(source: Path) -> None:
    package = package_of(source)
    if package in ("", "cli"):
        return
    assert package in MAY_IMPORT, f"{package}: a new package needs a row in MAY_IMPORT and in docs/architecture.md"
    for name, line in imports(ast.parse(source.read_text())):
        if name.startswith("sayso."):
            target = name.split(".")[1]
            legal = target == package or target in MAY_IMPORT[package]
            assert legal, f"{source}:{line}: {package} may not import {name}"


def test_the_floor_imports_what_a_base_install_brings(source: Path) -> None:
    if package_of(source) in (*FLOOR, "", "cli"):
        legal = FLOOR_PACKAGES | sys.stdlib_module_names | {"sayso"}
        tree = ast.parse(source.read_text())
        tree.body = [node for node in tree.body if not for_types_alone(node)]  # those are never carried out
        for name, line in imports(tree):
            assert name.split(".")[0] in legal, f"{source}:{line}: a base install does not bring {name}"


def test_nothing_is_imported_by_a_computed_name(source: Path) -> None:
    if source in (SOURCE / "core" / "errors.py", SOURCE / "__init__.py"):
        return  # require() and the lazy front door
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).split(".")[-1]
            assert called not in ("import_module", "__import__"), f"{source}:{node.lineno}: use core.errors.require"


def test_no_hidden_imports(source: Path) -> None:
    if package_of(source) == "cli" or source == SOURCE / "__init__.py":
        return  # the command imports each tower inside the command that needs it; the front door is lazy
    for function in functions(ast.parse(source.read_text())):
        hidden = [(name, line) for name, line in imports(function) if not name.startswith("__future__")]
        assert not hidden, f"{source}: import inside {function.name}: {hidden[0]}; use core.errors.require"


def test_no_import_cycles() -> None:
    known = {module_of(path) for path in sources()}
    graph: dict[str, set[str]] = {}
    for path in sources():
        tree = ast.parse(path.read_text())
        top = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
        typing_only = [node for node in top if for_types_alone(node)]
        found = {name for node in top if node not in typing_only for name, _ in imports(node)}
        graph[module_of(path)] = (found & known) - {module_of(path)}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import cycle: {' -> '.join((*trail[trail.index(module) :], module))}"
        if module not in done:
            for following in sorted(graph[module]):
                visit(following, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_sizes(source: Path) -> None:
    text = source.read_text()
    assert text.count("\n") <= 400, f"{source} is longer than 400 lines"
    for function in functions(ast.parse(text)):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= 80, f"{source}: {function.name} has {length} lines; at most 80"
        arguments = function.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        count = len([name for name in names if name not in ("self", "cls")])
        # typer declares a command's options as arguments: there the signature is the interface; a loss takes what the
        # field's losses take
        limit = {"cli": 14, "losses": 8}.get(package_of(source), 7)
        assert count <= limit, f"{source}: {function.name} has {count} arguments; more than {limit} want a Config"


def test_everything_is_typed(source: Path) -> None:
    for function in functions(ast.parse(source.read_text())):
        assert function.returns is not None, f"{source}: {function.name} has no return type"
        every = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
        starred = [argument for argument in (function.args.vararg, function.args.kwarg) if argument is not None]
        for argument in (*every, *starred):
            if argument.arg not in ("self", "cls"):
                assert argument.annotation is not None, f"{source}: {function.name}({argument.arg}) has no type"


def test_public_names_have_docstrings(source: Path) -> None:
    tree = ast.parse(source.read_text())
    assert ast.get_docstring(tree), f"{source} has no module docstring"

    def check(body: list[ast.stmt], inside: str) -> None:
        for node in body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            decorators = [ast.unparse(d) for d in node.decorator_list]
            if any(d == "overload" or d.endswith(".setter") for d in decorators):
                continue
            assert ast.get_docstring(node), f"{source}: {inside}{node.name} has no docstring"
            if isinstance(node, ast.ClassDef):
                check(node.body, f"{node.name}.")

    check(tree.body, "")


def test_the_floor_starts_without_the_workshop() -> None:
    present = [name for name in FLOOR if (SOURCE / name).is_dir()]
    modules = [module_of(path) for name in present for path in sorted((SOURCE / name).rglob("*.py"))]
    code = (
        "import importlib, sys\n"
        f"for name in {[*modules, 'sayso', 'sayso.cli.main']!r}: importlib.import_module(name)\n"
        f"loaded = [name for name in {WORKSHOP_PACKAGES!r} if name in sys.modules]\n"
        "assert not loaded, f'the floor loaded {loaded}'\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_names_of_test_files_are_unique() -> None:
    """Folders of tests are no packages: pytest imports files by bare name and stops at the second of one name."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_no_large_files() -> None:
    large = [path for path in tracked() if path.stat().st_size > 30 * 2**20]
    assert not large, f"over 30 MB: {large}"


def test_no_machine_paths_or_package_hosts() -> None:
    machine = r"(^|[^a-zA-Z.])/(work|farm|root|opt)/|file:///"
    hosts = r"--(extra-)?index-url|deb https?:|pypi\.org/simple|pythonhosted|download\.pytorch"
    pattern = re.compile(f"{machine}|{hosts}")
    for path in tracked():
        if path == Path(__file__):
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # a model, a recording or a picture
        for number, line in enumerate(lines, 1):
            assert not pattern.search(line), f"{path}:{number} names a machine path or a package host"

"""The house: imports point down, numba lives in one folder, and importing refvlm is light."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import refvlm

ROOT = Path(refvlm.__file__).parent
FLOORS = {
    "activations": 0, "archives": 0, "bits": 0, "checks": 0, "data": 0, "digests": 0, "interrupts": 0, "machine": 0,
    "npy": 0, "ownership": 0, "progress": 0, "rows": 0, "show": 0, "starting": 0, "storage": 0, "strict_json": 0,
    "text_rows": 0, "types": 0, "version": 0,
    "model": 1, "enumeration": 1,
    "inference": 2,
    "learning": 3, "bench": 3,
    "conformance": 4,
    "cli": 5, "lesson": 5, "plot": 5, "testing": 5, "pytest_plugin": 5, "__main__": 5, "__init__": 5,
}  # fmt: skip


def room(module):
    """The floor's name for a module's dotted name below refvlm."""
    return module.split(".")[0]


def imports(path):
    """(line, absolute module) of everything that a file imports, functions included."""
    package = ("refvlm", *path.relative_to(ROOT).with_suffix("").parts)[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *((node.module,) if node.module else ())))
            if module == "refvlm" or (node.level and not node.module):
                for alias in node.names:
                    yield node.lineno, f"{module}.{alias.name}"
            else:
                yield node.lineno, module


def sources():
    return sorted(ROOT.rglob("*.py"))


def test_every_room_has_a_floor():
    found = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in sources()}
    assert found == set(FLOORS)


def test_imports_point_down_and_model_never_meets_enumeration():
    for path in sources():
        here = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for line, module in imports(path):
            if module.split(".")[0] == "refvlm" and here != "__init__":
                there = room(module.removeprefix("refvlm").removeprefix("."))
                assert there in FLOORS, f"{path}:{line} imports {module}: no room, but a name of the package itself"
                assert FLOORS[there] <= FLOORS[here], f"{path}:{line} imports {module}: up"
                if there != here and FLOORS[there] == FLOORS[here]:
                    assert FLOORS[here] in (0, 5), f"{path}:{line} imports {module}: across"


def test_numba_is_imported_in_the_kernels_folder_alone():
    for path in sources():
        if path.parent != ROOT / "enumeration" / "kernels":
            for line, module in imports(path):
                assert module.split(".")[0] not in ("numba", "llvmlite"), f"{path}:{line}"


def test_parts_of_kernels_that_do_not_count_references_return_no_arrays():
    """An array that came back from one of them would be freed once too often."""
    plain = re.compile(r"(None|Number|float|int|bool|tuple\[((Number|float), )+(Number|float|\.\.\.)\])")
    borrowing = 0
    for path in sorted((ROOT / "enumeration" / "kernels").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
                if decorators & {"inline", "part"}:
                    borrowing += 1
                    returned = ast.unparse(node.returns)
                    assert plain.fullmatch(returned), f"{path}:{node.lineno} {node.name} -> {returned}: allocating?"
    assert borrowing > 50


def test_importing_refvlm_loads_neither_numba_nor_scipy():
    heavy = "import sys, refvlm; print(sorted({m.split('.')[0] for m in sys.modules} & {'numba', 'scipy', 'llvmlite'}))"
    result = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names_are_documented_and_complete():
    for name in refvlm.__all__:
        assert getattr(refvlm, name).__doc__, name


def test_oracle_imports_nothing_from_refvlm():
    tree = ast.parse((Path(__file__).parent / "oracle.py").read_text())
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not any(name.split(".")[0] == "refvlm" for name in names)

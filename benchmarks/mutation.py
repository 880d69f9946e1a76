"""How many faults put into guard, trial, verify and buffer their unit tests find.

    python -m benchmarks.mutation                                     200 faults of each
    python -m benchmarks.mutation --parts guard,trial --seconds 300   as many as that allows

Run it in the repository's root. A mutant is a module with one comparison, operator, constant,
condition or result changed, or one statement left out. Its tests run in a forked process that
imports it in place of the module; it is killed if one fails, or if they take too long. Prints a
line for each part. Exits 1 if fewer than 85 % of a part's mutants are killed.
"""

from __future__ import annotations

import ast
import os
import random
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from benchmarks.shared import run_study
from rudder.training import compiled

_VERIFY = ("run/test_verify", "run/test_audit", "run/test_heads", "test_attacks")
_BUFFER = ("directory", "rows", "targets", "policies/slots", "policies/lookahead")
PARTS = {
    "guard": (["agents/guard"], ["tests/agents/test_guard.py", "tests/agents/test_turns.py"]),
    "trial": (["agents/trial"], ["tests/agents/test_trial.py"]),
    "verify": (
        ["memory/run/verify", "memory/run/verify_run"],
        [f"tests/memory/{name}.py" for name in _VERIFY],
    ),
    "buffer": ([f"training/buffer/{name}" for name in _BUFFER], ["tests/training/buffer"]),
}
"""Modules and their tests, the quick ones first."""
_LEAST_KILLED = 0.85
_MAX_SECONDS = 60
_IMPORTED_ONCE = (
    "numba", "hypothesis", "sqlite_utils", "torch", "langgraph.graph", "scipy.optimize",
)  # fmt: skip
_PYTEST = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-m", "not slow",
           "-W", "ignore::pytest.PytestAssertRewriteWarning"]  # fmt: skip
_LEFT_OUT = (ast.Expr, ast.Assign, ast.AugAssign, ast.Raise)
_OTHER: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.And: ast.Or,
    ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A module with one change, which is also a finder of modules.

    what: its place and change; is_compiled: the change is in a loop that numba compiles, and whose
    cache knows it by its byte code alone, which a changed constant leaves as it is.
    """

    module: str
    path: Path
    what: str
    code: CodeType
    is_compiled: bool

    def put_in_place(self) -> None:
        """Have imports find the mutant, and its loops compiled anew."""
        sys.meta_path.insert(0, self)  # type: ignore[arg-type]  # it has what is used
        if self.is_compiled:
            cache_of = compiled._cache_of
            compiled._cache_of = lambda loop: (
                None if loop.__module__ == self.module else cache_of(loop)
            )

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        """Where Python finds the mutant in place of its module."""
        if name != self.module:
            return None
        loader = SourceFileLoader(name, str(self.path))
        loader.get_code = lambda fullname: self.code  # type: ignore[method-assign]
        return spec_from_file_location(name, self.path, loader=loader)


def mutants(name: str) -> Iterator[Mutant]:
    """All mutants of a module."""
    path = Path(f"{name}.py").absolute()
    tree = ast.parse(path.read_text())
    loops = set(_lines_of_loops(tree))
    for node in _code(tree):
        for field, value, how in _changes(node):
            before = getattr(node, field)
            setattr(node, field, value)
            code = compile(ast.fix_missing_locations(tree), str(path), "exec")
            setattr(node, field, before)
            line = getattr(node, "lineno", 1)
            module = f"rudder.{name.replace('/', '.')}"
            yield Mutant(module, path, f"{name}:{line}: {how}", code, line in loops)


def _lines_of_loops(tree: ast.Module) -> Iterator[int]:
    """Lines of functions that numba compiles, and of constants that these may use."""
    for node in tree.body:
        decorators = map(ast.unparse, getattr(node, "decorator_list", []))
        if isinstance(node, ast.Assign) or {"compiled", "inlined"}.intersection(decorators):
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """A node and those below it, without annotations, decorators and what only saves time."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not _is_prefetch(child):
                    yield from _code(child)


def _is_prefetch(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and ast.unparse(node).startswith("prefetch(")


def _changes(node: ast.AST) -> Iterator[tuple[str, object, str]]:
    """Fields of a node with other values; the change in words."""
    match node:
        case ast.Compare(ops=[first, *more]) if type(first) in _OTHER:
            yield "ops", [_OTHER[type(first)](), *more], f"other {ast.unparse(node)}"
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in _OTHER:
            yield "op", _OTHER[type(op)](), f"other operator in {ast.unparse(node)}"
        case ast.Constant(value=bool(value)):
            yield "value", not value, f"not {value}"
        case ast.Constant(value=int(value) | float(value)):
            yield "value", value + 1, f"{value} + 1"
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            yield "test", ast.UnaryOp(ast.Not(), test), f"if not {ast.unparse(test)}"
        case ast.Return(value=ast.AST() as value) if ast.unparse(value) not in ("None", "False"):
            yield "value", ast.Constant(None), f"None in place of {ast.unparse(value)}"
    body = getattr(node, "body", None)
    for at, line in enumerate(body if isinstance(body, list) else []):
        is_text = isinstance(getattr(line, "value", None), ast.Constant)
        is_code = not (is_text or _is_prefetch(line) or isinstance(node, ast.Module))
        if isinstance(line, _LEFT_OUT) and is_code:
            yield "body", [*body[:at], ast.Pass(), *body[at + 1 :]], f"no {ast.unparse(line)}"


def survives(mutant: Mutant | None, tests: list[str]) -> bool:
    """Whether all tests pass with it, in time; None: with the modules as they are."""
    if (pid := os.fork()) == 0:
        os.setsid()
        for number in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        if mutant is not None:
            mutant.put_in_place()
        signal.alarm(_MAX_SECONDS)  # ends the process
        os._exit(pytest.main([*_PYTEST, *tests]))
    _, status = os.waitpid(pid, 0)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status) == 0


def measure(options: Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """The parts, with mutants drawn by the seed."""
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(folder)
    for name in _IMPORTED_ONCE:
        import_module(name)
    for part in options.parts.split(","):
        end = time.monotonic() + options.seconds
        modules, tests = PARTS[part]
        if not survives(None, tests):
            raise RuntimeError(f"the tests of {part} fail without a mutant")
        found = [each for name in modules for each in mutants(name)]
        chosen = random.Random(options.seed).sample(found, min(options.mutants, len(found)))
        tried = [(each, survives(each, tests)) for each in chosen if time.monotonic() < end]
        alive = sorted(each.what for each, is_alive in tried if is_alive)
        killed = round(1 - len(alive) / max(len(tried), 1), 3)
        counts = {"all": len(found), "tried": len(tried)}
        yield {"part": part, **counts, "killed": killed, "survivors": alive}


if __name__ == "__main__":
    run_study(
        __doc__, measure, holds=lambda line: line["killed"] >= _LEAST_KILLED,
        mutants=200, seconds=3600, parts=",".join(PARTS), seed=0,
    )  # fmt: skip

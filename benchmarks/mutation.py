"""How many faults put into guard, trial, verify and buffer their unit tests find.

    python -m benchmarks.mutation                                     200 faults of each
    python -m benchmarks.mutation --parts guard,trial --seconds 300   as many as that allows

Run it in the repository's root. A mutant is a module with one comparison, operator, constant,
condition or result in a function changed, or one statement left out. The tests are collected once,
and run without a mutant, which tells the functions that each of them calls. Then a forked process
takes a mutant's function and runs the tests that call it until one fails, or takes more than ten
times its processor time: then the mutant is killed. Loops that numba compiles are left out. Prints
a line for each part, and on standard error one for each mutant. Exits 1 if fewer than 85 % of a
part's mutants are killed.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import multiprocessing
import os
import pickle
import random
import signal
import sys
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from hypothesis import Phase, settings

from benchmarks.shared import run_study

_VERIFY = ("run/test_verify", "run/test_audit", "run/test_heads", "test_attacks")
_BUFFER = "tests/training/buffer"
PARTS = {
    "guard": (["agents/guard"], ["tests/agents/test_turns.py", "tests/agents/test_guard.py"]),
    "trial": (["agents/trial"], ["tests/agents/test_trial.py"]),
    "verify": (
        ["memory/run/verify", "memory/run/verify_run"],
        [f"tests/memory/{name}.py" for name in _VERIFY],
    ),
    "rows": (["training/buffer/rows"], [f"{_BUFFER}/test_rows.py", f"{_BUFFER}/test_memory.py"]),
    "targets": (
        ["training/buffer/targets"],
        [f"{_BUFFER}/test_targets.py", f"{_BUFFER}/test_vip.py"],
    ),
    "directory": (["training/buffer/directory"], [f"{_BUFFER}/test_seen.py"]),
    "slots": (["training/buffer/policies/slots"], [_BUFFER]),
    "lookahead": (["training/buffer/policies/lookahead"], [_BUFFER]),
}
"""Modules and their tests, the quick ones first."""
_LEAST_KILLED = 0.85
_PYTEST = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--timeout=600",
           "--hypothesis-seed=0", "--hypothesis-profile=mutation",
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
    """Functions of a module with one change; what: its place and change."""

    what: str
    module: str
    codes: dict[str, CodeType]

    def put_in_place(self) -> None:
        """Have the module's functions do what these do."""
        for function in _functions(self.module):
            if function.__qualname__ in self.codes:
                function.__code__ = self.codes[function.__qualname__]


def mutants(name: str) -> Iterator[Mutant]:
    """All mutants of a module's functions."""
    path, module = Path(f"{name}.py").absolute(), f"rudder.{name.replace('/', '.')}"
    tree = ast.parse(path.read_text())
    whole = _codes(compile(tree, str(path), "exec"))
    wanted = {function.__qualname__ for function in _functions(module)} & whole.keys()
    for node in _code(tree):
        for part, value, how in _changes(node):
            before = getattr(node, part)
            setattr(node, part, value)
            codes = _codes(compile(ast.fix_missing_locations(tree), str(path), "exec"))
            setattr(node, part, before)
            changed = {each: codes[each] for each in wanted if codes[each] != whole[each]}
            if changed:
                yield Mutant(f"{name}:{getattr(node, 'lineno', 1)}: {how}", module, changed)


def _codes(code: CodeType) -> dict[str, CodeType]:
    """The code of each function in a module's, by the function's qualified name."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    found = {each.co_qualname: each for each in inner}
    return found | {name: each for one in inner for name, each in _codes(one).items()}


def _functions(module: str) -> Iterator[FunctionType]:
    """Those of a module and its classes, but for what numba compiled."""
    own = [each for each in vars(import_module(module)).values() if _module_of(each) == module]
    methods = [each for one in own if isinstance(one, type) for each in vars(one).values()]
    for value in (*own, *methods):
        if hasattr(value, "py_func"):
            continue
        match value:
            case property():
                value = value.fget
            case classmethod() | staticmethod():
                value = value.__func__
            case cached_property():
                value = value.func
        if isinstance(function := inspect.unwrap(value), FunctionType):
            yield function


def _module_of(value: object) -> str | None:
    return getattr(value, "__module__", None)


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """A node and those below it, without annotations and decorators."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _code(child)


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
    lines = body if isinstance(body, list) else []
    for at, line in enumerate(lines):
        is_text = isinstance(getattr(line, "value", None), ast.Constant)
        if isinstance(line, _LEFT_OUT) and not (is_text or isinstance(node, ast.Module)):
            yield "body", [*lines[:at], ast.Pass(), *lines[at + 1 :]], f"no {ast.unparse(line)}"


@dataclass
class Test:
    """A test, what it takes and calls when nothing is wrong, and how many mutants it has killed.

    seconds: of the processor; called: modules and functions.
    """

    item: pytest.Item
    seconds: float
    called: frozenset[tuple[str, str]]
    num_killed: int = 0

    def calls(self, mutant: Mutant) -> bool:
        """Whether it calls what the mutant has changed."""
        return any((mutant.module, name) in self.called for name in mutant.codes)


@dataclass
class Campaign:
    """A plugin of pytest that runs the collected tests for each mutant, in `seconds`.

    is_sound: whether they pass without one; tried: each mutant with whether it survived.
    """

    mutants: list[Mutant]
    seconds: float
    is_sound: bool = False
    tried: list[tuple[Mutant, bool]] = field(default_factory=list)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of pytest's own loop."""
        tests = _watched(session, modules={each.module for each in self.mutants})
        self.is_sound = bool(tests)
        end = time.monotonic() + self.seconds
        for mutant in self.mutants if tests else ():
            if time.monotonic() < end:
                callers = [each for each in tests if each.calls(mutant)]
                self.tried.append((mutant, is_alive := _survives(mutant, session, callers)))
                told = f"{'alive' if is_alive else 'killed'}: {mutant.what}"
                print(told, file=sys.stderr, flush=True)
        return True


def _watched(session: pytest.Session, *, modules: set[str]) -> list[Test]:
    """All tests, after a run without a mutant; none where one of them fails."""

    def run_all() -> bool:
        items = pairwise([*session.items, None])
        pickle.dump([_watch(item, following, modules=modules) for item, following in items], found)
        found.flush()
        return not session.testsfailed

    with tempfile.TemporaryFile() as found:
        if not _forked(run_all):
            return []
        found.seek(0)
        return [
            Test(item, seconds, called)
            for item, (seconds, called) in zip(session.items, pickle.load(found), strict=True)
        ]


def _watch(
    item: pytest.Item, following: pytest.Item | None, *, modules: set[str]
) -> tuple[float, frozenset[tuple[str, str]]]:
    """Run a test; its processor time in seconds, and the functions of the modules it called."""
    called: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if (module := frame.f_globals.get("__name__", "")) in modules:
            called.add((module, frame.f_code.co_qualname))

    began = time.process_time()
    threading.setprofile(note)
    sys.setprofile(note)
    _run(item, following)
    sys.setprofile(None)
    return time.process_time() - began, frozenset(called)


def _survives(mutant: Mutant, session: pytest.Session, tests: Sequence[Test]) -> bool:
    """Whether all tests pass with it, in a forked process.

    What is quick and has killed others comes first.
    """
    ordered = sorted(tests, key=lambda each: each.seconds / (1 + each.num_killed))
    at = multiprocessing.Value("i", 0)

    def run_all() -> bool:
        mutant.put_in_place()
        for number, (test, following) in enumerate(pairwise([*ordered, None])):
            at.value = number
            signal.setitimer(signal.ITIMER_PROF, 10 * test.seconds + 2)
            _run(test.item, following and following.item)
            if session.testsfailed:
                return False
        return True

    is_alive = _forked(run_all)
    if not is_alive:
        ordered[at.value].num_killed += 1
    return is_alive


def _run(item: pytest.Item, following: pytest.Item | None) -> None:
    item.ihook.pytest_runtest_protocol(item=item, nextitem=following)


def _forked(work: Callable[[], bool]) -> bool:
    """Whether a forked process that does it ends with a yes; what it leaves behind is killed."""
    if (pid := os.fork()) == 0:
        os.setpgid(0, 0)
        for number in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        with contextlib.suppress(BaseException):
            if work():
                os._exit(0)
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return status == 0


def measure(options: Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """The parts, with mutants drawn by the seed."""
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(folder)
    phases = (Phase.explicit, Phase.generate)  # a failure is enough: it is not made smaller
    settings.register_profile("mutation", deadline=None, phases=phases)
    for part in options.parts.split(","):
        modules, tests = PARTS[part]
        found = [each for name in modules for each in mutants(name)]
        chosen = random.Random(options.seed).sample(found, min(options.mutants, len(found)))
        campaign = Campaign(chosen, options.seconds)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            pytest.main([*_PYTEST, f"--basetemp={folder / 'tests'}", *tests], plugins=[campaign])
        if not campaign.is_sound:
            raise RuntimeError(f"the tests of {part} fail without a mutant: {said.getvalue()}")
        alive = sorted(each.what for each, is_alive in campaign.tried if is_alive)
        killed = round(1 - len(alive) / max(len(campaign.tried), 1), 3)
        counts = {"all": len(found), "tried": len(campaign.tried)}
        yield {"part": part, **counts, "killed": killed, "survivors": alive}


if __name__ == "__main__":
    run_study(
        __doc__, measure, holds=lambda line: line["killed"] >= _LEAST_KILLED,
        mutants=200, seconds=3600, parts=",".join(PARTS), seed=0,
    )  # fmt: skip

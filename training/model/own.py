"""A person's own model: `--model FILE.py:FACTORY`, found, imported and called."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from rudder.training.errors import ConfigError

MODEL_NAMES = ("sage", "gat", "gcn", "gin")
"""Models that Rudder brings."""
MODEL_FORMS = f"{', '.join(MODEL_NAMES)} or FILE.py:FACTORY"
_SPEC = re.compile(r"^(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)$")


@dataclass(frozen=True)
class OwnModel:
    """The function `name` of `file`: factory(in_dim, num_classes, options) -> nn.Module."""

    file: Path
    name: str

    @classmethod
    def parse(cls, spec: str) -> Self | None:
        """Read FILE.py:FACTORY; None for the name of a model that Rudder brings.

        Raises ValueError for anything else.
        """
        if spec in MODEL_NAMES:
            return None
        match = _SPEC.match(spec)
        if match is None or "\0" in spec:
            raise ValueError(f"it is {MODEL_FORMS}")
        return cls(Path(match["file"]).expanduser().absolute(), match["name"])

    def __str__(self) -> str:
        return f"{self.file}:{self.name}"

    def check(self) -> None:
        """Raise ConfigError where the file is no Python or has no such function; runs nothing."""
        with self._explained("read"):
            tree = ast.parse(self.file.read_bytes(), filename=str(self.file))
        names = set(_top_names(tree.body))
        if "*" not in names and self.name not in names:
            functions = [each.name for each in tree.body if isinstance(each, ast.FunctionDef)]
            raise ConfigError.for_field(
                "model",
                value=str(self),
                allowed=f"a function of that file; it has {', '.join(functions) or 'none'}",
                remedy=f"name one of them, or define `{self.name}` there",
            )

    def build(self, *arguments: object, **keywords: object) -> Any:
        """What the factory returns; raises ConfigError with the line where it failed."""
        with self._explained("imported"):
            factory: Callable[..., object] = getattr(self._module(), self.name)
        with self._explained("built"):
            return factory(*arguments, **keywords)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Turn an error of the model into a ConfigError with the line of the file."""
        with self._explained("run"):
            yield

    def _module(self) -> ModuleType:
        """The file, imported anew; it may import its neighbours."""
        name = f"rudder_own_{self.file.stem}"
        spec = importlib.util.spec_from_file_location(name, self.file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pickle look there
        if str(self.file.parent) not in sys.path:
            sys.path.append(str(self.file.parent))
        spec.loader.exec_module(module)
        return module

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            raise ConfigError(
                f"model = {str(self)!r} cannot be {what}: {reason}{self._line_of(error)}",
                remedy=f"mend {self.file.name}; see docs/own-model.md for what a factory gets and"
                " returns",
            ) from error

    def _line_of(self, error: BaseException) -> str:
        """The last line of the file that was running, as in a traceback."""
        if isinstance(error, SyntaxError):
            return ""  # its text names file and line
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename == str(self.file)]
        if not own:
            return ""
        last = own[-1]
        return f'\n  File "{last.filename}", line {last.lineno}, in {last.name}\n    {last.line}'


def _top_names(body: list[ast.stmt]) -> Iterator[str]:
    """Names that a module's statements may define, at any depth of `if` and `try`; "*" for all."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name) for alias in statement.names)
        else:
            names = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
            yield from (name.id for name in names if isinstance(name.ctx, ast.Store))
            inner = (node for node in ast.walk(statement) if isinstance(node, ast.FunctionDef))
            yield from (node.name for node in inner)

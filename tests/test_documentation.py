"""What the documents say of commands, files and the graph of agents is so."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import rudder
from rudder.cli.docs_page import cli_page

ROOT = Path(__file__).parents[1]
PAGES = (
    *sorted(ROOT.glob("*.md")),
    *sorted(path for path in ROOT.glob("docs/*.md") if path.name != "cli.md"),
    ROOT / "benchmarks" / "README.md",
)
EXAMPLES = sorted(ROOT.glob("examples/**/*.py"))
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
_EDGE = re.compile(r"^\s*(\w+) -(?:\. (?:&nbsp;)?(.*?)(?:&nbsp;)? \.)?-?> (\w+);?$", re.MULTILINE)
_CODE = re.compile(r"`(rudder [^`\n]+)`|^(?: {4}|\$ )(rudder (?:[^\n\\]|\\\n)+)", re.MULTILINE)
_END = re.compile(r"\s(?:#|\||>|&&)(?:\s|$)")
_FILE = re.compile(
    r"`((?:agents|bench|benchmarks|cli|docs|examples|memory|tests|tools|training)/[^`]+\.\w+)`"
)
_API_ENTRY = re.compile(r"^::: (rudder\.\S+)\.(\w+)$", re.MULTILINE)
_IMPORT = re.compile(r"^\+?from (rudder\.\S+) import (\w+(?:, \w+)*)", re.MULTILINE)


def _options() -> dict[str, set[str]]:
    """The options of every command, as docs/cli.md has them."""
    sections = re.split(r"^##+ (rudder .+)$", cli_page(), flags=re.MULTILINE)[1:]
    texts = dict(zip(sections[::2], sections[1::2], strict=True))
    return {name: set(re.findall(r"--?[a-z][\w-]*", text)) for name, text in texts.items()}


OPTIONS = {"rudder": set[str]()} | _options()


def _commands(text: str) -> Iterator[list[str]]:
    """Each `rudder ...` in code, in words, up to a comment, a pipe or a file."""
    for inline, line in _CODE.findall(text):
        yield _END.split((inline or line).replace("\\\n", " "))[0].split()


def _unknown(words: list[str]) -> list[str]:
    """What of a command line the code does not know."""
    names = [" ".join(words[:count]) for count in (3, 2, 1)]
    name = next(each for each in names if each in OPTIONS)
    is_group = any(other.startswith(f"{name} ") for other in OPTIONS)
    if is_group and len(words) > name.count(" ") + 1 and not _is_free(words[name.count(" ") + 1]):
        return [" ".join(words)]
    known = OPTIONS.get(name, set()) | {"--help", "--version"}
    given = [word.split("=")[0] for word in words if word.startswith("-")]
    return [f"{name} {word}" for word in given if word not in known]


def _is_free(word: str) -> bool:
    """Whether a word stands for any command, as COMMAND and on|off do, or is an option."""
    return word.isupper() or "|" in word or word.startswith("-")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_in_documents_exist_with_their_options(page: Path) -> None:
    assert [wrong for words in _commands(page.read_text()) for wrong in _unknown(words)] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"])
def test_files_that_documents_name_exist(page: Path) -> None:
    assert [name for name in _FILE.findall(page.read_text()) if not (ROOT / name).exists()] == []


def test_the_design_page_names_the_files_to_read_first() -> None:
    assert len(_FILE.findall((ROOT / "docs" / "design.md").read_text())) > 8


def test_the_design_page_draws_the_graph_of_agents_as_it_is() -> None:
    drawn = (ROOT / "tests" / "agents" / "graph.mmd").read_text()  # compared with the code there
    design = (ROOT / "docs" / "design.md").read_text()
    shown = design.partition("```mermaid")[2].partition("```")[0]
    wanted = {edge for edge in _edges(drawn) if edge[0] != "__start__"}
    assert _edges(shown) == wanted
    assert len(wanted) > 8


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_the_api_page_lists_what_the_public_modules_declare() -> None:
    listed = set(_API_ENTRY.findall((ROOT / "docs" / "api.md").read_text()))
    modules = {module: importlib.import_module(module) for module, _ in listed}
    declared = {(name, each) for name, module in modules.items() for each in module.__all__}
    assert listed == declared
    assert [name for name, each in declared if not hasattr(modules[name], each)] == []
    assert {name: getattr(rudder, name) for name in rudder.__all__} == {
        each: getattr(modules[name], each) for name, each in declared
    }


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=lambda page: str(page.name))
def test_documents_and_examples_import_only_what_is_public(page: Path) -> None:
    public = set(_API_ENTRY.findall((ROOT / "docs" / "api.md").read_text()))
    used = {
        (module, name)
        for module, names in _IMPORT.findall(page.read_text())
        for name in names.split(", ")
    }
    assert used <= public


def test_citation_and_changelog_name_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version
    dated = f"## {version} - {citation['date-released']}\n"
    assert dated in (ROOT / "CHANGELOG.md").read_text()


def test_a_command_that_does_not_exist_is_found() -> None:
    text = "`rudder trian --epochs 2`, `rudder train --epohcs 2`\n\n    rudder steer of --run R\n"
    assert [wrong for words in _commands(text) for wrong in _unknown(words)] == [
        "rudder trian --epochs 2",
        "rudder train --epohcs",
        "rudder steer of --run R",
    ]


def _edges(mermaid: str) -> set[tuple[str, str, str]]:
    found = _EDGE.findall(mermaid)
    return {(a, label, b.replace("__end__", "stop")) for a, label, b in found}

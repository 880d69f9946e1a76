from __future__ import annotations

import re
from pathlib import Path

from rudder.cli.docs_page import cli_page
from rudder.cli.main import make_app

DOCS = Path(__file__).parents[2] / "docs"


def test_the_commands_in_the_docs_are_those_of_the_code() -> None:
    wanted = "python -m rudder.cli.docs_page > docs/cli.md"
    assert (DOCS / "cli.md").read_text() == cli_page(), f"make it again: {wanted}"


def test_every_registered_command_has_a_section() -> None:
    app = make_app()
    names = [each.name for each in app.registered_commands if not each.hidden]
    groups = [each.name for each in app.registered_groups if not each.hidden]
    sections = re.findall(r"^## rudder (\S+)$", cli_page(), re.MULTILINE)
    assert sorted(sections) == sorted(filter(None, [*names, *groups]))


def test_every_command_has_an_example_and_explains_its_options() -> None:
    sections = re.split(r"^##+ (rudder .+)$", cli_page(), flags=re.MULTILINE)[1:]
    texts = dict(zip(sections[::2], sections[1::2], strict=True))
    groups = {name for name in texts if any(other.startswith(f"{name} ") for other in texts)}
    without = [name for name in texts if name not in groups and f"\n    {name}" not in texts[name]]
    assert without == []
    assert re.findall(r"^\| `.+` \|  ?\|$", cli_page(), re.MULTILINE) == []

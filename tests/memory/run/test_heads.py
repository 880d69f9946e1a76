from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rudder.memory.run.heads import SIGNED_FILE, Anchor, current_heads, read_anchor, read_key
from rudder.memory.run.run_reader import LogOrigin, run_file
from rudder.memory.run.verify_run import verify_run
from rudder.memory.sample import write_sample_run
from rudder.training.errors import ConfigError, DataError, MachineError
from tests.memory.edits import without_triggers, write_hashes

KEY = b"sixteen bytes and more"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_sample_run(tmp_path / "run", num_episodes=2)
    return tmp_path / "run"


def test_an_anchor_has_a_line_with_the_heads_of_all_ranks(run: Path, tmp_path: Path) -> None:
    anchor = Anchor.parse(str(tmp_path / "heads.jsonl"))
    for _ in range(2):
        anchor.append(current_heads(run))
    first, second = read_anchor(Path(anchor.target))
    assert (first.heads, first.run_key, first.run_dir) == (second.heads, "5a4d91e0", str(run))
    findings = verify_run(run)
    assert [each.number for each in first.heads] == [each.found.head.number for each in findings]


def test_a_command_reads_the_lines_and_an_anchor_may_have_words_before_them(
    run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "log"
    Anchor.parse(f"| sed 's/^/Feb 3 node7 rudder: /' >> {out}").append(current_heads(run))
    out.write_text(f"a line of another program\n{out.read_text()}")
    assert [line.run_key for line in read_anchor(out)] == ["5a4d91e0"]
    assert all(each.is_known_outside for each in verify_run(run, anchor=out))


def test_an_anchor_that_cannot_be_written_says_what_to_do(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"audit_anchor = .* a file that can be appended to"):
        Anchor.parse(str(tmp_path / "none" / "heads.jsonl"))
    with pytest.raises(MachineError, match="exit status 3"):
        Anchor.parse("|exit 3").append(current_heads(run))


@pytest.mark.parametrize("content", [None, b"", b"short"])
def test_a_key_that_is_missing_or_short_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "audit.key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"audit_key = .* 16 bytes or more"):
        read_key(path)


def test_lines_must_have_the_signature_of_the_key(run: Path) -> None:
    signed = Anchor(str(run / SIGNED_FILE))
    assert {each.found.reason for each in verify_run(run, key=KEY)} == {
        "no signed line says where it ended"
    }
    signed.append([line.signed(KEY) for line in current_heads(run)])
    assert all(each.found.holds and each.is_signed for each in verify_run(run, key=KEY))
    assert all(each.found.holds for each in verify_run(run))
    assert not any(each.found.holds for each in verify_run(run, key=KEY + b"!"))
    text = (run / SIGNED_FILE).read_text()
    (run / SIGNED_FILE).write_text(text.replace('"number":', '"number":1'))
    reasons = {str(each.found.reason) for each in verify_run(run, key=KEY)}
    assert all("without this key's signature" in reason for reason in reasons)


def test_a_damaged_line_is_broken_and_named(run: Path) -> None:
    (run / SIGNED_FILE).write_text('{"time":"2026"}\n')
    found = verify_run(run)[-1]
    assert found.found.reason == f"{run / SIGNED_FILE}, line 1 is damaged: run_dir: Field required"


def test_a_rank_knows_where_the_log_of_the_other_one_ended(run: Path) -> None:
    by_name = {each.file.name: each for each in verify_run(run)}
    (head,) = by_name["rank0.db"].known_to
    assert (head.keeper, by_name["rank0.db"].unknown_rows) == ("rank 1's log", 3)
    alone = verify_run(run_file(run, rank=0))
    assert [each.known_to for each in alone] == [()]


def test_a_log_that_is_shorter_than_others_know_may_be_an_older_copy(
    run: Path, tmp_path: Path
) -> None:
    write_sample_run(tmp_path / "short", num_episodes=1)
    shutil.copy(run_file(tmp_path / "short", rank=0), run_file(run, rank=0))
    found = verify_run(run)[0].found
    assert (found.broken_row, found.holds) == (25, False)
    assert "rank 1's log knows it, but the log ends at row 16 (while a run goes on" in str(
        found.reason
    )


def test_a_forged_row_that_is_not_of_its_kind_is_broken(run: Path) -> None:
    path = run_file(run, rank=0)
    with without_triggers(path) as connection:
        connection.execute("UPDATE audit SET result = '{}' WHERE tool = 'head_of_rank'")
        write_hashes(connection)
    found = verify_run(path)[0].found
    assert (found.broken_row, found.reason) == (26, "its content is not what such a row has")


@given(st.text())
def test_an_anchor_with_a_line_of_any_text_is_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("anchor") / "heads"
    path.write_text('{"time":' + text, encoding="utf-8", errors="replace")
    with pytest.raises(DataError, match="line 1 is damaged"):
        list(read_anchor(path))


def test_a_memory_s_head_is_compared_by_run_and_rank(run: Path) -> None:
    asked: list[LogOrigin] = []

    def known(origin: LogOrigin) -> tuple[()]:
        asked.append(origin)
        return ()

    assert all(each.found.holds for each in verify_run(run, known=known))
    assert asked == [LogOrigin("5a4d91e0", rank) for rank in range(2)]

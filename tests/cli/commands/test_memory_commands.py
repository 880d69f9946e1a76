"""`rudder memory`, `rudder audit` and `rudder explain`, called as a user does."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from rudder.agents.replay.recorded_run import RecordedRun, Scene
from rudder.cli.commands import audit, memory
from rudder.cli.commands.explain import explain
from rudder.cli.show.episode import episode_page
from rudder.memory.past.transfer import fill
from rudder.memory.records import Rejected
from rudder.memory.run.audit import AuditFilter
from rudder.memory.run.run_reader import RunReader
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.memory.sample import sample_episode, sample_workload, write_sample_run
from rudder.tools.calls import StepTimes
from rudder.training.errors import ConfigError, DataError, MachineError

EPISODE = sample_episode(2, workload=sample_workload())
app = typer.Typer()
app.add_typer(memory.app, name="memory")
app.add_typer(audit.app, name="audit")
app.command("explain")(explain)


def rudder(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def said(*arguments: object) -> str:
    result = rudder(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "demo"
    write_sample_run(folder, num_episodes=4)
    return folder


@pytest.fixture
def past(run: Path, tmp_path: Path) -> Path:
    path = tmp_path / "data" / "rudder" / "memory.db"
    fill(path, run)
    return path


def test_list_filters_rows_and_prints_them_for_programs(run: Path) -> None:
    rows = json.loads(said("audit", "list", run, "--kind", "effect", "--rank", 1, "--json"))
    assert [row["number"] for row in rows] == [9, 21, 33, 45]
    text = said("audit", "list", run, "--agent", "act", "--steps", "48:96", "--csv")
    steps = [row["step"] for row in csv.DictReader(io.StringIO(text))]
    assert steps == ["48", "48", "96", "96"] * 2
    assert json.loads(said("audit", "list", run, "--since", "2999-01-01", "--json")) == []
    assert "set staged" in said("audit", "list", run, "--outcome", "staged", "--last", 1)


def test_show_prints_a_call_by_its_id_or_a_row_by_its_number(run: Path) -> None:
    call = EPISODE.plan.calls[0].call_id
    rows = json.loads(said("audit", "show", run, call, "--json"))
    assert [row["kind"] for row in rows] == ["call", "result"]
    assert "number: 9" in said("audit", "show", run, 9, "--rank", 0)
    assert isinstance(rudder("audit", "show", run, "nothing").exception, ConfigError)


def test_verify_ends_with_1_and_names_the_first_broken_row(run: Path) -> None:
    assert "52 rows hold, and 37 rows of other tables" in said("audit", "verify", run)
    with sqlite3.connect(run / "steering" / "rank1.db") as db:
        sql = db.execute("SELECT sql FROM sqlite_master WHERE name LIKE '%refuses_update'")
        trigger = sql.fetchone()[0]
        db.execute("DROP TRIGGER audit_refuses_update")
        db.execute("UPDATE audit SET agent = 'user' WHERE number = 6")
        db.execute(trigger)
    db.close()
    result = rudder("audit", "verify", run)
    assert result.exit_code == 1
    assert "rank0.db: 52 rows hold" in result.stdout
    assert "rank1.db: BROKEN: row 6: its content does not have its hash" in result.stdout
    found = json.loads(rudder("audit", "verify", run, "--json").stdout)
    assert [each["broken_row"] for each in found] == [None, 6]


def test_verify_of_a_file_that_cannot_be_opened_ends_with_1(run: Path) -> None:
    (run / "steering" / "rank0.db").write_bytes(b"no database" * 500)
    result = rudder("audit", "verify", run)
    assert (result.exit_code, "not a database" in result.stdout) == (1, True)


def test_verify_finds_files_that_are_missing_or_of_another_rank_or_run(
    run: Path, tmp_path: Path
) -> None:
    steering = run / "steering"
    one, other = (steering / f"rank{rank}.db" for rank in range(2))
    kept = one.read_bytes()
    one.unlink()
    assert "rank0.db: BROKEN: it is missing" in rudder("audit", "verify", run).stdout
    one.write_bytes(other.read_bytes())
    result = rudder("audit", "verify", run)
    assert (result.exit_code, "BROKEN: it is the record of rank 1" in result.stdout) == (1, True)
    work = sample_workload(run_key="other")
    journal = SqliteJournal.open(tmp_path / "steering" / "rank0.db", memory=None)
    journal.begin(work)
    journal.close()
    one.write_bytes((tmp_path / "steering" / "rank0.db").read_bytes())
    assert "BROKEN: its files are of 2 runs" in rudder("audit", "verify", run).stdout
    one.write_bytes(kept)
    assert rudder("audit", "verify", run).exit_code == 0


def test_verify_knows_from_the_memory_where_a_log_ended(run: Path, past: Path) -> None:
    assert "52 rows hold" in said("audit", "verify", run)
    for path in (run / "steering").glob("*rank0.db*"):
        path.unlink()
    write_sample_run(run, num_episodes=2)
    result = rudder("audit", "verify", run / "steering" / "rank0.db", "--memory", past)
    assert (result.exit_code, "row 52" in result.stdout) == (1, True)


def test_verify_says_which_logs_nobody_else_knows(tmp_path: Path) -> None:
    """As in a run that was too short for its controllers to hear of each other."""
    for rank in range(2):
        journal = SqliteJournal.open(tmp_path / "steering" / f"rank{rank}.db", memory=None)
        journal.begin(sample_workload(rank=rank))
        journal.close()
    text = said("audit", "verify", tmp_path)
    for rank in range(2):
        assert f"not known: whether rank{rank}.db was written anew with all hashes" in text


def test_verify_says_what_it_compared_a_log_with_and_what_it_cannot_know(
    run: Path, tmp_path: Path
) -> None:
    key, anchor = tmp_path / "audit.key", tmp_path / "heads"
    key.write_bytes(b"k" * 32)
    text = said("audit", "verify", run)
    assert "rank 1's log knows its rows up to 49" in text
    assert "not known: whether the last rows of rank0.db, 3 of them, were written anew" in text
    assert "not known: whether all files were written anew, or set back, together" in text
    anchor.write_text(said("audit", "heads", run, "--audit-key", key))
    options = ("--audit-anchor", anchor, "--audit-key", key)
    text = said("audit", "verify", run, *options)
    assert f"{anchor} knows its rows up to 52" in text
    assert "not known" not in text
    text = said("audit", "verify", run / "steering" / "rank0.db", *options)
    assert "not known: whether other ranks' files are there" in text
    key.write_bytes(b"another" * 8)
    result = rudder("audit", "verify", run, *options)
    assert (result.exit_code, "without this key's signature" in result.stdout) == (1, True)


def test_export_and_tail_give_a_json_object_a_line(run: Path, tmp_path: Path) -> None:
    said("audit", "export", run, tmp_path / "log.jsonl", "--rank", 0)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(lines) == 25
    assert lines[0]["gen_ai.tool.name"] == "set"
    last = [json.loads(line) for line in said("audit", "tail", run, "-n", 2, "--json").splitlines()]
    assert [row["number"] for row in last] == [47, 51, 47, 51]


def test_rows_are_found_by_as_much_of_an_episode_as_a_list_shows(run: Path) -> None:
    whole = json.loads(said("audit", "list", run, "--episode", EPISODE.episode_id, "--json"))
    assert [row["episode_id"] for row in whole] == [EPISODE.episode_id] * 6
    first = json.loads(said("audit", "list", run, "--episode", EPISODE.episode_id[:-1], "--json"))
    assert {row["episode_id"] for row in first} > {EPISODE.episode_id}
    assert said("audit", "list", run, "--episode", "0123") == ""


def test_tail_shows_the_last_rows_that_fit(run: Path) -> None:
    text = said("audit", "tail", run, "--outcome", "applied", "--rank", 1, "-n", 2, "--json")
    rows = [json.loads(line) for line in text.splitlines()]
    assert [(row["rank"], row["outcome"], row["number"]) for row in rows] == [
        (1, "applied", 33),
        (1, "applied", 45),
    ]


def test_explain_tells_the_whole_story(run: Path) -> None:
    page = said("explain", EPISODE.episode_id)
    for part in (
        "seen       step 96, window 8",
        "proposed   embedded/1: capacity_rows",
        "objected   critic embedded/1: approve",
        "done       command 5a4d91e0-0-2-command: applied at step 98",
        "expected   rows fetched a step",
        "measured   reverted",
        "more than expected",
        "effect apply applied",
    ):
        assert part in page
    assert json.loads(said("explain", EPISODE.episode_id, "--run", run, "--json")) == json.loads(
        EPISODE.model_dump_json()
    )


def in_a_line(page: str) -> str:
    return " ".join(page.split())


def test_explain_says_what_the_headroom_counts_where_it_is_more_than_was_measured() -> None:
    seen = EPISODE.observation.model_copy(
        update={"exposed_wait_ms": 1.23456, "headroom_rows": 50.0, "headroom_wait_ms": 4.56789}
    )
    page = in_a_line(episode_page(EPISODE.model_copy(update={"observation": seen})))
    assert "estimated wait of these settings less that of OPT: 4.57 ms a step" in page
    assert "at most the 1.23 ms measured can be saved" in page
    assert "can be saved" not in episode_page(EPISODE)


def test_explain_says_where_the_time_goes_and_what_binds() -> None:
    times = StepTimes(
        wait_ms=5.0, model_ms=14.0, core_wait_ms=3.0, blocked_ms=1.0, loader_ms=6.0, rows_ms=1.5,
        link_ms=21.0,
    )  # fmt: skip
    seen = EPISODE.observation.model_copy(update={"times": times})
    less = times.model_copy(update={"wait_ms": 0.0, "link_ms": 4.0})
    expected = EPISODE.plan.expected
    assert expected is not None
    assert EPISODE.verdict is not None
    expected = expected.model_copy(update={"times": less})
    verdict = EPISODE.verdict.model_copy(update={"expected": expected})
    page = episode_page(EPISODE.model_copy(update={"observation": seen, "verdict": verdict}))
    assert max(map(len, page.splitlines())) <= 80
    page = in_a_line(page)
    assert "model 14.00 ms, waits for a core 3.00 ms, sleeps (all-reduce) 1.00 ms" in page
    assert "loader 6.00 ms (taking rows in 1.50 ms), link 21.00 ms (idle 2.00 ms)" in page
    assert "the step is bound by: link" in page
    assert "link idle 14.00 ms a step, bound by: cores" in page


def test_explain_shows_what_was_rejected_and_why() -> None:
    plan = EPISODE.plan.model_copy(update={"planner": "llm:m", "reason": "why not"})
    episode = EPISODE.model_copy(update={"rejected": Rejected(plan=plan)})
    page = episode_page(episode)
    assert episode.model_dump()["set_aside"]["plan"]["planner"] == "llm:m"  # as it is stored
    assert "proposed   llm:m: " in page
    assert "rejected: nothing to do" in page
    assert "rejected:" not in episode_page(EPISODE)


def test_explain_finds_an_episode_whose_run_is_gone(past: Path) -> None:
    for path in Path("runs/demo/steering").iterdir():
        path.unlink()
    Path("runs/demo/steering").rmdir()
    assert "measured   reverted" in said("explain", EPISODE.episode_id)
    assert isinstance(rudder("explain", "nothing").exception, ConfigError)


def test_memory_is_listed_shown_and_counted(past: Path) -> None:
    lines = json.loads(said("memory", "list", "--result", "reverted", "--json"))
    assert [line["episode_id"] for line in lines] == ["5a4d91e0-1-2", "5a4d91e0-0-2"]
    assert "5a4d91e0-0-2" in said("memory", "list")
    shown = json.loads(said("memory", "show", EPISODE.episode_id, "--json"))
    assert shown["episode"] == json.loads(EPISODE.model_dump_json())
    assert "measured   reverted" in said("memory", "show", EPISODE.episode_id)
    (stats,) = json.loads(said("memory", "stats", "--json"))
    assert (stats["episodes"], stats["reverted"]) == (8, 2)
    assert "8 episodes of 1 runs" in said("memory", "stats")


def test_memory_goes_out_comes_in_and_is_used_once_trusted(past: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "e.jsonl", tmp_path / "other.db"
    assert json.loads(said("memory", "export", file, "--json")) == {"episodes": 8}
    assert said("memory", "export", "-") == file.read_text()
    added = json.loads(said("memory", "import", file, "--memory", other, "--json"))
    assert added == {"new": 8, "known": 0, "left_out": []}
    stats = json.loads(said("memory", "stats", "--memory", other, "--json"))
    origin = next(each["origin"] for each in stats if not each["is_own"])
    trusted = said("memory", "trust", origin, "--memory", other, "--json")
    assert json.loads(trusted) == {"trusted": 8}
    pruned = said("memory", "prune", "--keep", 3, "--memory", other, "--json")
    assert json.loads(pruned) == {"dropped": 5}


def test_merge_names_what_it_leaves_out(run: Path, tmp_path: Path) -> None:
    (run / "steering" / "rank0.db").write_bytes(b"no database" * 500)
    result = rudder("memory", "merge", run, "--memory", tmp_path / "m.db", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["new"] == 4


@pytest.mark.parametrize(
    "command", [["merge", "runs/demo"], ["import", "lines"], ["prune"], ["trust", "x"], ["list"]]
)
@pytest.mark.parametrize(
    ("content", "says"), [("text", "not a database"), ("record of a run", "not a memory")]
)
def test_a_file_that_is_no_memory_is_refused_and_left_as_it_is(
    run: Path, tmp_path: Path, command: list[str], content: str, says: str
) -> None:
    file = tmp_path / "file.db"
    record = (run / "steering" / "rank0.db").read_bytes()
    file.write_bytes(b"text, and none of ours\n" if content == "text" else record)
    before = file.read_bytes()
    (tmp_path / "lines").touch()
    error = rudder("memory", *command, "--memory", file).exception
    assert isinstance(error, DataError)
    assert says in error.message
    assert file.read_bytes() == before
    assert not list(tmp_path.glob("*damaged*"))


def test_a_memory_that_cannot_be_written_is_named(run: Path, tmp_path: Path) -> None:
    error = rudder("memory", "merge", run, "--memory", tmp_path / "runs").exception
    assert isinstance(error, MachineError)
    assert f"{tmp_path / 'runs'} cannot be written" in error.message


def test_import_of_what_is_no_text_is_refused(run: Path, past: Path) -> None:
    error = rudder("memory", "import", run / "steering" / "rank0.db", "--memory", past).exception
    assert isinstance(error, DataError)
    assert "rank0.db is not text" in error.message


def test_verify_blames_neither_a_bad_memory_nor_a_later_version_on_the_log(
    run: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.db"
    text.write_text("none")
    error = rudder("audit", "verify", run, "--memory", text).exception
    assert isinstance(error, DataError)
    assert error.message.startswith(str(text))
    with sqlite3.connect(run / "steering" / "rank0.db") as db:
        db.execute("INSERT INTO _sqlite_migrations VALUES (99, 'run', '9999_later', 'now')")
    db.close()
    error = rudder("audit", "verify", run).exception
    assert isinstance(error, DataError)
    assert "later version" in error.message


def test_without_a_memory_the_user_is_told_what_to_do(run: Path) -> None:
    result = rudder("memory", "list")
    assert isinstance(result.exception, DataError)


def test_schema_and_queries_are_printed(run: Path) -> None:
    assert "CREATE TABLE audit" in said("memory", "schema")
    assert "## Every decision" in said("memory", "queries")
    assert "databases" in json.loads(said("memory", "queries", "--datasette"))


def test_explain_tells_a_call_without_what_stands_elsewhere() -> None:
    record = Path(__file__).parents[2] / "agents" / "replay" / "released" / "embedded-0001.db"
    with RunReader(record) as reader:
        episode, call = next(
            (each, call)
            for each in reader.episodes()
            for call in each.plan.calls
            if call.tool == "set_lookahead"
        )
    page = said("explain", episode.episode_id, "--run", record)
    assert f"call set_lookahead(lookahead_batches={call.arguments['lookahead_batches']})" in page
    assert max(map(len, page.splitlines())) <= 100


def test_explain_tells_how_likely_a_drawn_change_was() -> None:
    drawn = EPISODE.plan.model_copy(update={"propensity": 0.125})
    page = episode_page(EPISODE.model_copy(update={"plan": drawn}))
    assert "drawn with a probability of 12.5 %" in page
    assert "drawn" not in episode_page(EPISODE)


def test_lists_without_a_row_say_so_beside_the_output(run: Path, past: Path) -> None:
    for command in (("audit", "list", run, "--run", "0"), ("memory", "list", "--run", "0")):
        result = rudder(*command)
        assert (result.exit_code, result.stdout) == (0, "")
        assert "matches" in result.stderr


def test_a_sample_is_a_recorded_run_whose_decisions_can_be_made_again(tmp_path: Path) -> None:
    new = tmp_path / "new"
    paths = [Path(path) for path in said("memory", "sample", new, "--windows", 16).split()]
    assert [path.name for path in paths] == ["rank0.db", "rank1.db"]
    assert said("audit", "verify", new).count("rows hold") == 2
    for path in paths:
        with RunReader(path) as reader:
            scenes = list(RecordedRun(reader).decisions())
            assert [scene for scene in scenes if not isinstance(scene, Scene)] == []
            assert len(scenes) > 2
            assert {row.tool for row in reader.audit(AuditFilter(kind="intent"))} == {
                "apply_change"
            }
    assert isinstance(rudder("memory", "sample", new).exception, ConfigError)


def test_ids_that_a_list_shows_are_enough_for_explain(run: Path) -> None:
    for options in ([], ["--last", 1], ["--rank", 1, "--last", 1]):
        rows = said("audit", "list", run, "--kind", "effect", *options).splitlines()[1:]
        ids = {row.split()[-1] for row in rows if row.split()[0].isdecimal()}
        assert ids
        assert all("decision" in said("explain", each, "--run", run) for each in ids)


def test_explain_names_the_episodes_of_all_ranks_that_begin_alike(run: Path) -> None:
    for path in (run / "steering").glob("*"):
        path.unlink()
    write_sample_run(run, num_episodes=1)
    error = rudder("explain", "5a4d91e0", "--run", run).exception
    assert isinstance(error, DataError)
    assert "5a4d91e0-0-0, 5a4d91e0-1-0" in error.message

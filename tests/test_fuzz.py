"""Every parser of what others wrote takes it, or refuses it as its docstring says: no tracebacks.

    python -m pytest tests/test_fuzz.py --hypothesis-profile campaign      5,000 inputs a parser

Each is given damaged forms of a valid file or message: bytes flipped, cut, doubled, and put in that
have broken parsers before; and values of JSON and TOML in place of others.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import dgl
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from rudder.agents.controller.report import SteeringReport, read_report, report_file, write_report
from rudder.agents.learned.planner import fit, read_planner
from rudder.agents.llm.answers import read_object
from rudder.agents.llm.endpoint import _fields
from rudder.agents.llm.errors import ChatError
from rudder.agents.llm.messages import Question
from rudder.agents.llm.openai_chat import _RawChatOpenAI, _reply
from rudder.agents.replay.recorded import replay
from rudder.bench.simulated.rehearsal import rehearse
from rudder.cli.detached import Detached, wait_for
from rudder.cli.show.report import report_page
from rudder.cli.show.runs import comparison, diagnosis_table, run_table
from rudder.cli.show.summary import write_summary
from rudder.memory.past.experience import Catalog
from rudder.memory.past.recall import Recall
from rudder.memory.past.transfer import export, fill, import_
from rudder.memory.run.diagnosis import diagnose
from rudder.memory.run.heads import Anchor, current_heads, read_anchor
from rudder.memory.run.run_folder import RunFacts, StoredRun, find_runs
from rudder.memory.run.run_reader import RunReader
from rudder.memory.run.verify_run import verify_run
from rudder.memory.sample import sample_window, sample_workload, write_sample_run
from rudder.training.buffer.hot_set import HotSet
from rudder.training.checkpoint.format import read_manifest
from rudder.training.checksums import StoredFile
from rudder.training.config import run_config, write_config
from rudder.training.control.door import DoorPlace, launcher_answers
from rudder.training.control.messages import (
    InvalidRequestError,
    read_message,
    read_request,
    to_line,
)
from rudder.training.control.steering import read_budget
from rudder.training.datasets.checks import check_graph
from rudder.training.datasets.csv_files import load_csv
from rudder.training.datasets.npz_file import load_npz
from rudder.training.datasets.parquet_files import load_parquet
from rudder.training.errors import RudderError
from rudder.training.hosts.messages import Alive, Ping, from_host, to_host
from rudder.training.hosts.names import hosts_in, machine_settings
from rudder.training.manifest import Contents, Manifest, PartIdentity, read_contents
from rudder.training.model.own import OwnModel
from rudder.training.model.saved import load_model
from rudder.training.model.task import _weights_of_file
from rudder.training.partition.layout import Layout
from rudder.training.partition.tensor_file import tensors_of
from rudder.training.settings import Change, Command
from rudder.training.simulate.recording import read_recording
from tests.cli.show.test_summary import epoch, report, summary_of
from tests.training.checkpoint import test_checkpoints
from tests.training.datasets import test_csv_files, test_npz_file, test_parquet_files
from tests.training.model import test_saved
from tests.training.partition.test_described import layout
from tests.training.test_trace import record

TOKENS = (
    b"", b"null", b"-1", b"1e999", b"NaN", b'"', b"{}", b"[]", b"\xff", b"\0", b"\n", b",", b"#",
    b"0" * 40, b"9" * 5000, b"[" * 100_000, b'{"a":' * 5000, b"\xed\xa0\x80", b"true", b"=",
)  # fmt: skip
COMPLETION = {
    "id": "1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
        "role": "assistant", "content": "a", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}  # fmt: skip
QUESTION = Question(role="probe", system="s", user="u", tools=(), schema_={})
CHAT = _RawChatOpenAI(model="m", api_key="key", base_url="http://127.0.0.1:9/v1")


VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 1e308, 0.5, "", "x" * 300, "\ud800", "../..", [], {}, [None], [0, 0],
)  # fmt: skip


def values_in(value: object) -> Iterator[tuple[Any, Any]]:
    """All values in one of JSON, each as what holds it and its key there."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type]
    for key, inner in list(pairs):
        yield value, key
        if isinstance(inner, dict | list):
            yield from values_in(inner)


@st.composite
def edited(draw: st.DrawFn, content: bytes) -> bytes:
    """JSON, its first line, or TOML, with another value in place of one; all else as it is."""
    other = draw(st.sampled_from(VALUES))
    for head in (content, content.partition(b"\n")[0]):
        with suppress(ValueError):
            value = json.loads(head)
            if not isinstance(value, dict | list):
                break
            holder, key = draw(st.sampled_from(list(values_in(value))))
            holder[key] = other
            return json.dumps(value).encode() + content[len(head) :]
    lines = content.split(b"\n")
    settings_of = [number for number, line in enumerate(lines) if b" = " in line]
    if settings_of:
        number = draw(st.sampled_from(settings_of))
        lines[number] = lines[number].partition(b"=")[0] + b"= " + json.dumps(other).encode()
    return b"\n".join(lines)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Some edits of the content, mostly one."""
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 4]))):
        first = draw(st.integers(0, len(content)))
        last = min(len(content), first + draw(st.sampled_from([0, 1, 1, 4, 40, 4000])))
        kind = draw(st.sampled_from(["flip", "put", "double", "cut"]))
        middle = content[first:last]
        if kind == "flip":
            middle = bytes(each ^ draw(st.integers(1, 255)) for each in middle[:4]) + middle[4:]
        elif kind == "put":
            middle = draw(st.sampled_from(TOKENS))
        elif kind == "double":
            middle *= 2
        content = content[:first] + middle + (b"" if kind == "cut" else content[last:])
    return content


def all_of_a_run(path: Path) -> None:
    with RunReader(path) as reader:
        reader.episodes()
        reader.windows(with_slices=True)
        reader.inputs()
        reader.model_calls()
        reader.audit()
        asyncio.run(_replayed(reader))


async def _replayed(reader: RunReader) -> None:
    async for _ in replay(reader):
        pass


def all_of_a_memory(path: Path) -> None:
    with Catalog(path) as catalog:
        list(catalog.episodes())
        catalog.lines()
        catalog.stats()
    Recall(path).close()


def imported(path: Path) -> None:
    with path.open() as lines:
        import_(path.with_name("new.db"), lines, name="x")


def completion(path: Path) -> None:
    with suppress(ValueError, RecursionError):
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            message = CHAT._create_chat_result(content).generations[0].message
            assert isinstance(message, AIMessage)
            _reply(message, QUESTION, "text")


def manifest_of(folder: Path) -> Manifest:
    sizes = {"num_inner_nodes": 5, "num_halo_nodes": 2, "num_edges": 10, "num_train": 1}
    counts = ("nodes", "edges", "classes", "train", "val", "test", "cut_edges")
    return Manifest.model_validate({
        "dataset": "synthetic:tiny", "num_parts": 2, "seed": 3, "graph_name": "tiny",
        **{f"num_{name}": 5 for name in counts}, "feature_dim": 4, "multilabel": False,
        "has_seed_phase": False, "parts": [sizes, sizes], "preparation": "one",
        "files": [StoredFile.of(folder, folder / "hosts").model_dump()],
        "source": {"generator": "by hand"}, "versions": {"dgl": "2.1.0"},
    })  # fmt: skip


def listed(folder: Path) -> StoredRun:
    """What `rudder runs` makes of it."""
    run = StoredRun(folder)
    comparison([RunFacts.of(run)])
    run_table([RunFacts.of(each) for each in find_runs(folder.parent)])
    wait_for(run, timeout_s=0)
    return run


def reported(folder: Path) -> None:
    """What `rudder report` and `rudder diagnose` make of it."""
    report_page([listed(folder)])
    diagnosis_table(diagnose(StoredRun(folder).series(num_points=100)))


Parser = Callable[[Path], object]
PARSERS: dict[str, tuple[str, Parser]] = {
    "csv nodes": ("csv/nodes.csv", lambda path: check_graph(load_csv(path.parent))),
    "csv edges": ("csv/edges.csv", lambda path: check_graph(load_csv(path.parent))),
    "parquet": ("parquet/nodes.parquet", lambda path: check_graph(load_parquet(path.parent))),
    "npz": ("mine.npz", lambda path: check_graph(load_npz(path))),
    "partitions": ("layout.json", Layout.read),
    "tensors": ("x.dgl", lambda path: [each.sum() for each in tensors_of(path).values()]),
    "manifest": ("manifest.json", lambda path: Manifest.read(path.parent)),
    "config": ("config.toml", run_config),
    "hosts": ("hosts", lambda path: machine_settings(hosts_in(path).split(","))),
    "budget": ("budget", lambda path: read_budget(path, None)),
    "trace": ("rank0.trace", read_recording),
    "hot set": ("hot.npz", HotSet.load),
    "request": ("request", lambda path: read_request(path.read_bytes())),
    "message": ("message", lambda path: read_message(path.read_bytes())),
    "to host": ("ping", lambda path: to_host(path.read_bytes(), b"")),
    "from host": ("alive", lambda path: from_host(path.read_bytes(), b"")),
    "answer": ("answer", lambda path: read_object(path.read_text(errors="surrogateescape"))),
    "completion": ("completion", completion),
    "planner": ("lr.model", read_planner),
    "report": ("run/steering/rank0.json", lambda path: read_report(path.parents[1], 0)),
    "record": ("run/steering/rank0.db", all_of_a_run),
    "verify": ("run/steering/rank1.db", lambda path: verify_run(path.parents[1])),
    "anchor": ("anchor", lambda path: list(read_anchor(path))),
    "run's settings": ("run/config.toml", lambda path: reported(path.parent)),
    "summary": ("run/summary.json", lambda path: reported(path.parent)),
    "error": ("run/error.txt", lambda path: listed(path.parent)),
    "launcher": ("run/detached.json", lambda path: listed(path.parent)),
    "door": ("door/launcher.json", lambda path: launcher_answers(path.parent, timeout_s=0.1)),
    "checkpoint": (
        "checkpoints/step-00000001/manifest.json",
        lambda path: read_manifest(path.parent),
    ),
    "model": ("model/best.safetensors", load_model),
    "own model": ("own.py", lambda path: OwnModel(path, "make").check()),
    "class weights": ("weights.npy", lambda path: _weights_of_file(path, num_classes=3)),
    "class weights as text": ("weights.txt", lambda path: _weights_of_file(path, num_classes=3)),
    "further fields": ("fields", lambda path: _fields(path.read_text(errors="replace"))),
    "checksums": ("parts/checksums.json", lambda path: read_contents(path.parent)),
    "part": ("part.json", lambda path: PartIdentity.read(path.parent)),
    "memory": ("memory.db", all_of_a_memory),
    "import": ("episodes.jsonl", imported),
}
"""Name of a parser; its file, and how it is read."""
REFUSALS = (RudderError, InvalidRequestError, ChatError)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A valid file for each parser."""
    folder = tmp_path_factory.mktemp("fuzz")
    for name in ("csv", "parquet"):
        (folder / name).mkdir()
    test_csv_files.loaded(folder / "csv")
    test_parquet_files.loaded(folder / "parquet")
    test_npz_file.written(folder)
    (folder / "layout.json").write_text(json.dumps(layout()))
    dgl.data.utils.save_tensors(str(folder / "x.dgl"), {"_N/a": torch.ones(3, 2)})
    write_config(run_config(epochs=3), folder / "config.toml")
    (folder / "hosts").write_text("node1 10.0.0.1\nnode2  # the second\n")
    manifest_of(folder).write(folder)
    (folder / "budget").write_text("1000000\n")
    record(folder / "rank0.trace")
    HotSet(torch.arange(9).numpy(), torch.ones(9).numpy()).save(folder / "hot.npz")
    work = sample_workload()
    (folder / "request").write_bytes(
        to_line(Command(command_id="1", change=Change(capacity_rows=9)))
    )
    (folder / "message").write_bytes(to_line(sample_window(0, workload=work)))
    (folder / "ping").write_text(Ping().model_dump_json())
    (folder / "alive").write_text(Alive(memory_kills=0, stopped=(1,)).model_dump_json())
    (folder / "answer").write_text('{"decision": "approve", "reason": "fine", "n": [1, 2.5, null]}')
    (folder / "completion").write_text(json.dumps(COMPLETION))
    fit(rehearse(folder / "collected", runs=12, windows=40), planner="lr", out=folder / "lr.model")
    write_sample_run(folder / "run", num_episodes=2)
    write_config(run_config(epochs=3), folder / "run" / "config.toml")
    write_summary(summary_of(report(0, epoch(0)), report(1, epoch(0))), folder / "run")
    (folder / "run" / "error.txt").write_text("it failed")
    (folder / "run" / "detached.json").write_text(
        Detached(run="run", pid=2**22, trainers=2, log="train.log").model_dump_json()
    )
    (folder / "door").mkdir()
    place = DoorPlace(machine="node1", addresses=(), port=1, token="secret", hosts=("node1",))
    (folder / "door" / "launcher.json").write_text(place.model_dump_json())
    test_checkpoints.write(folder, step=1)
    test_saved.keep_all(folder, [test_saved.evaluation(1, 0.5)])
    (folder / "own.py").write_text("def make(in_dim, num_classes):\n    return None\n")
    np.save(folder / "weights.npy", np.ones(3))
    (folder / "weights.txt").write_text("1, 2.5, 3\n")
    (folder / "fields").write_text('{"reasoning_effort": "low", "top": {"k": [1]}}')
    (folder / "parts").mkdir()
    contents = Contents(files=(StoredFile.of(folder, folder / "hosts"),))
    (folder / "parts" / "checksums.json").write_text(contents.model_dump_json())
    PartIdentity(preparation="one", part=0).write(folder)
    write_report(SteeringReport(rank=0, planner="embedded"), folder / "run")
    assert report_file(folder / "run", 0).is_file()
    Anchor(str(folder / "anchor")).append(current_heads(folder / "run"))
    fill(folder / "memory.db", folder / "run")
    with (folder / "episodes.jsonl").open("w") as out:
        export(folder / "memory.db", out)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # it would hide what failed
@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required")  # a damaged header
@pytest.mark.parametrize("name", PARSERS)
def test_what_is_damaged_is_taken_or_refused(name: str, folder: Path) -> None:
    path, parse = folder / PARSERS[name][0], PARSERS[name][1]
    whole = path.read_bytes()
    parse(path)

    @settings(max_examples=settings().max_examples // 4, suppress_health_check=list(HealthCheck))
    @given(damaged(whole) | edited(whole))
    @example(b"")
    @example(b"\xff" + whole)
    @example(b"[" * 100_000)
    def check(content: bytes) -> None:
        path.write_bytes(content)
        with suppress(*REFUSALS):
            parse(path)

    try:
        check()
    finally:
        path.write_bytes(whole)

"""Options that commands share, and checks of the files that a user names."""

from __future__ import annotations

import functools
import inspect
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import typer

from rudder.cli.show.progress import Verbosity, speaking
from rudder.memory.run.audit import AuditFilter
from rudder.memory.run.run_reader import FOLDER
from rudder.memory.store import stored
from rudder.training.config import RunConfig, run_config
from rudder.training.datasets.registry import DatasetSpec
from rudder.training.errors import ConfigError, MachineError

Command = TypeVar("Command", bound=Callable[..., object])
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def run_folders(incomplete: str) -> list[str]:
    """Folders in runs/, or in the folder that is typed, which a shell completes to."""
    parent = Path(incomplete).parent if "/" in incomplete else Path("runs")
    found = sorted(str(path) for path in parent.glob("*") if path.is_dir())
    return [path for path in found if path.startswith(incomplete)]


RunOption = Annotated[
    Path,
    typer.Option(
        "--run", help="Folder of the run.", show_default=False, autocompletion=run_folders
    ),
]
FolderOfRun = Annotated[Path, typer.Argument(help="Folder of a run.", autocompletion=run_folders)]
LlmModel = Annotated[
    str | None, typer.Option("--model", "--llm-model", help="Name of the language model.")
]
Where = Annotated[
    Path, typer.Argument(help="Folder of a run, or one rank's file.", autocompletion=run_folders)
]
Rank = Annotated[int | None, typer.Option(help="Only this rank.", min=0)]
Capacities = Annotated[
    str,
    typer.Option(help="Buffer sizes: shares of the halo (0.25), rows (20000) or bytes (64MiB)."),
]
Lookaheads = Annotated[str, typer.Option(help="Batches that are sampled ahead.")]
LOCAL_HOSTS = "Local hosts, one partition each."
NewFolder = Annotated[
    Path | None,
    typer.Option(help="New folder for results and logs; default: runs/bench-<time>."),
]

# -- settings of a run, as `rudder train` and the benchmarks take them ------------------------

_SETTINGS = {
    "Graph and hosts": {
        "dataset": "Graph: see `rudder prepare --help`.",
        "data": "DistDGL partitions: folder or JSON; instead of --dataset.",
        "feature": "Node tensors that are the model's input, side by side: feat,emb. Default of"
        " this and the next four: the only tensor that fits.",
        "label": "Node tensor with the labels.",
        "train_mask": "Node tensor: 1 for the nodes to train on.",
        "valid_mask": "Node tensor: 1 for the nodes to validate on; there may be none.",
        "test_mask": "Node tensor: 1 for the nodes to test on.",
        "edge_weight": "Edge tensor; neighbours are drawn in proportion to it. Default: evenly.",
        "hosts": "Local hosts, one partition each; or machines, reached by ssh: node1,node2.",
        "launcher": "What starts the processes of each host: this command, ssh, Slurm, Ray, or"
        " another scheduler (env), which starts this command on every machine.",
        "spare_hosts": "Machines for --max-restarts to use in place of lost ones: node4,node5.",
        "ssh": "Command that reaches a machine, with options: 'ssh -p 2222'.",
        "remote_python": "Python interpreter on the machines; default: the path of the one here.",
        "allow_public_addresses": "Take machines that the internet reaches. DistDGL runs code for"
        " whoever reaches its ports: use this only behind a firewall.",
        "trainers_per_host": "Trainers on each host.",
        "servers_per_host": "Graph servers on each host.",
        "network": "namespace: each local host has a network link of its own; loopback: they share"
        " one.",
        "rate": "Rate of each host's link: 200mbit, 1gbit. Default: no limit.",
        "port": "First port; default: a free one.",
    },
    "Model and training": {
        "model": "sage, gat, gcn, gin, or a function of your own: FILE.py:FACTORY.",
        "max_seeds": "Most training nodes or edges of a trainer. Default: all.",
        "num_layers": "Layers; one for each number of --fanout, which is the default.",
        "hidden": "Width of a layer.",
        "heads": "Attention heads of gat.",
        "dropout": "Dropout between layers.",
        "fanout": "Neighbours per layer, input layer first; -1: all.",
        "batch_size": "Seeds per trainer and step.",
        "epochs": "Epochs to train.",
        "task": "What is learned: classes of nodes, numbers of nodes, or which edges there are.",
        "lr": "Learning rate.",
        "optimizer": "Class of torch.optim, with options: SGD:momentum=0.9.",
        "weight_decay": "Weight decay of the optimizer.",
        "scheduler": "Learning rate over epochs: cosine, step, exponential, linear, plateau, or a"
        " class of torch.optim.lr_scheduler with options: StepLR:step_size=10.",
        "class_weights": "`balanced`, or a file with a number for each class.",
        "metric": "Score that is shown first, and that --early-stop and plateau look at: accuracy,"
        " micro-F1, macro-F1, AUC, ..., or a class of torchmetrics. Default: accuracy, or R2 of"
        " numbers.",
        "early_stop": "End the run after this many evaluations without a better validation score.",
        "on_nan": "After a NaN or infinite loss: stop the run, skip the step, or continue.",
        "eval_every": "Epochs between evaluations; 0: only at the end, but after each epoch with"
        " --early-stop or plateau.",
        "device": "Where the model runs.",
        "seed": "Seed of model, order and sampling.",
    },
    "Loader and buffer": {
        "loader": "Rudder's loader, or plain DistDGL.",
        "policy": "What decides which rows are kept: lookahead, score, static, lfu or none; or"
        " NAME[:ARGUMENT] of an installed package.",
        "buffer": "auto (as many rows as the memory budget holds, at most all remote ones), a share"
        " of the halo nodes (0.25), rows (20000) or bytes (64MiB).",
        "lookahead": "Batches that are sampled ahead.",
        "eviction_threshold": "Rows used more often per batch than this, 0 to 1, are not evicted."
        " Default: the policy's own.",
        "replacement_interval": "Batches between replacement rounds of score; 0: only on request.",
        "alpha": "Share of its score that an unused row loses per batch, with score.",
        "start": "What the buffer of score begins with: nothing, or halo nodes, by degree or at"
        " random.",
        "score_faithful": "Keep the bugs that the published code of score has.",
        "static_source": "How static chooses its rows.",
    },
    "Steering": {
        "controller": "Agents that steer the buffer while it trains.",
        "planner": "What proposes changes: embedded, heuristic, periodic, published, fixed, collect"
        " (tries settings); lr, rf, svm, mlp, xgb, tabnet or learned, with --planner-model;"
        " adversarial (the worst changes, for tests); or NAME[:ARGUMENT] of an installed package.",
        "planner_model": "File that `rudder fit` wrote, for a fitted planner.",
        "planner_refit_every": "Fit a fitted planner again after this many measured changes.",
        "goal": "What to seek, in words: 'at most 2 GB, spare the network at night'. You are shown"
        " which of the next options that means, and confirm it. With --llm, the model reads the"
        " words.",
        "objective": "What to optimise: time (least step time; of equal ones, fewest rows fetched),"
        " traffic (fewest rows) or memory (the smallest buffer that is as fast).",
        "tolerance": "Differences below this share of the step time do not count; with"
        " --objective memory, how much slower a smaller buffer may be.",
        "memory_budget": "Memory for all buffers of a host: 2GiB. Default: half of what is free.",
        "schedule": "Another objective or memory budget at some hours of each day, by this"
        " machine's clock: '22:00-06:00 objective=traffic; 12:00-13:00 memory_budget=1GiB'.",
        "memory": "File of past episodes, or `none`. Default: memory.db in the data folder.",
        "audit_key": "File with a secret of 16 bytes or more that signs the ends of the audit logs"
        " every minute.",
        "audit_anchor": "File elsewhere, to which the ends of the audit logs are appended every"
        " minute; or a command that reads these lines: '|ssh vault cat >> heads'.",
    },
    "Language model": {
        "llm": "Address of an OpenAI-compatible endpoint, up to /v1.",
        "llm_model": "Name of the model there.",
        "llm_roles": "Roles that the model is asked in: planner; also observer, critic.",
        "llm_deadline": "Seconds for all questions about one observation.",
        "llm_answer_tokens": "Most tokens of one answer, reasoning included.",
        "llm_extra": "JSON object with further fields for each request.",
        "llm_max_calls": "Most questions that a trainer asks the model in a run.",
        "llm_max_tokens": "Most tokens that a trainer uses in a run.",
    },
    "Run": {
        "run_dir": "Folder of the run; default: runs/<time>-<dataset>.",
        "checkpoint_every": "How often a checkpoint is written, apart from the one at the end: a"
        " time (10min), epochs (2epochs), or none.",
        "keep_checkpoints": "Keep this many checkpoints, the newest.",
        "record_trace": "Record the remote nodes that each rank uses, for `rudder simulate`.",
        "track": "Trackers that get the measurements: tensorboard, mlflow:URI, wandb, or your own.",
        "max_restarts": "Start the run again up to so many times, from its last checkpoint, after a"
        " process or a machine was lost.",
        "start_timeout": "Seconds within which all trainers must have begun to train.",
        "stall_timeout": "End the run after this many seconds without progress.",
    },
}
"""The help of each setting that the command line can set, by the panels of `--help`."""
_AS_TEXT = (
    "hosts", "model", "optimizer", "scheduler", "class_weights", "metric", "fanout", "buffer",
    "feature", "spare_hosts", "llm_roles", "track", "policy", "objective", "checkpoint_every",
    "planner",
)  # fmt: skip


def option(
    name: str, kind: Any, *, text: str, panel: str, least: int | None = None
) -> inspect.Parameter:
    """An option for `with_options`, None where it is not given; text, panel: of `--help`."""
    return _keyword(name, kind, None, typer.Option(help=text, rich_help_panel=panel, min=least))


def settings(*names: str, **texts: str) -> list[inspect.Parameter]:
    """Options for fields of a RunConfig, None where not given; default: for all fields.

    texts: of fields whose help is another than that of `rudder train`.
    """
    return [
        _setting(name, panel, texts.get(name, text))
        for panel, helps in _SETTINGS.items()
        for name, text in helps.items()
        if name in names or name in texts or not (names or texts)
    ]


def _setting(name: str, panel: str, text: str) -> inspect.Parameter:
    field = RunConfig.model_fields[name]
    default = field.default
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    if default not in (None, ""):
        text = f"{text} [dim]\\[default: {default}][/dim]"
    kind: Any = str if name in _AS_TEXT else field.annotation
    return option(name, kind | None, text=text, panel=panel)


def with_options(options: Sequence[inspect.Parameter]) -> Callable[[Command], Command]:
    """Give a command these options; it receives them as its `**` keywords."""

    def add(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True).parameters.values()
        named = [each for each in own if each.kind is not inspect.Parameter.VAR_KEYWORD]
        places = [each for each in named if each.kind is not inspect.Parameter.KEYWORD_ONLY]
        signature = inspect.Signature([*places, *options, *[n for n in named if n not in places]])
        command.__dict__["__signature__"] = signature
        command.__annotations__ = {
            name: each.annotation for name, each in signature.parameters.items()
        }
        return command

    return add


def long_command(command: Command) -> Command:
    """Give a command that takes long -q, -v and --log-file."""

    @functools.wraps(command)
    def run(
        *places: Any,
        quiet: bool = False,
        verbose: bool = False,
        log_file: Path | None = None,
        **named: Any,
    ) -> object:
        if quiet and verbose:
            raise ConfigError.for_field("verbose", value=True, allowed="only without --quiet")
        with speaking(Verbosity(Verbosity.NORMAL + verbose - quiet), log_file=log_file):
            return command(*places, **named)

    return with_options(_HOW_MUCH_IS_TOLD)(cast("Command", run))


def _keyword(name: str, kind: Any, default: object, info: Any) -> inspect.Parameter:
    annotated: Any = Annotated
    place = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, place, default=default, annotation=annotated[kind, info])


_HOW_MUCH_IS_TOLD = [
    _keyword(
        "quiet", bool, False, typer.Option("--quiet", "-q", help="Tell only results and errors.")
    ),
    _keyword(
        "verbose",
        bool,
        False,
        typer.Option("--verbose", "-v", help="Tell details, too, and the traceback of an error."),
    ),
    _keyword(
        "log_file",
        Path | None,
        None,
        typer.Option(help="Append all that -v tells to this file, each line with its time."),
    ),
]


# -- lists ------------------------------------------------------------------------------------


def configs_of(datasets: Sequence[str], **options: Any) -> list[RunConfig]:
    """The same run of each graph; raises ConfigError where one is unknown, before any is begun."""
    for name in datasets:
        DatasetSpec.parse(name)
    return [run_config(dataset=name, **options) for name in datasets]


def parts(name: str, text: str) -> list[str]:
    """The values, once each, in their order; raises ConfigError where there is none."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise ConfigError.for_field(name, value=text, allowed="values with commas between them")
    return list(dict.fromkeys(found))


def whole_numbers(
    name: str, text: str, *, at_least: int = 0, at_most: int = 2**31 - 1
) -> tuple[int, ...]:
    """The values as numbers; raises ConfigError for what is no number or out of bounds."""
    found = parts(name, text)
    if not all(part.isdecimal() and at_least <= int(part) <= at_most for part in found):
        allowed = f"whole numbers from {at_least} to {at_most}, with commas between them"
        raise ConfigError.for_field(name, value=text, allowed=allowed)
    return tuple(map(int, found))


# -- files ------------------------------------------------------------------------------------


WHEN_RECORDED = (
    "a run has a record some seconds after its training begins, and none with --controller none"
)
"""For a user who finds none."""


def check_run(path: Path, *, name: str) -> None:
    """Raise ConfigError, with the option's name, unless `path` is a steered run or its file."""
    if not path.is_file() and not any((path / FOLDER).glob("rank*.db")):
        raise ConfigError.for_field(
            name,
            value=str(path),
            allowed=f"the folder of a steered run (with {FOLDER}/rankN.db), or one of these files",
            remedy=f"see what there is: `ls runs`; {WHEN_RECORDED}",
        )


def check_memory_file(path: Path) -> None:
    """Raise ConfigError unless there is a memory at `path`."""
    if not path.is_file():
        raise ConfigError.for_field(
            "memory",
            value=str(path),
            allowed="a memory that exists",
            remedy="a first steered run makes one, or `rudder memory merge RUN --memory FILE`",
        )


@contextmanager
def writing_to(path: Path, *, name: str) -> Iterator[None]:
    """Turn an error of writing into a ConfigError that names the argument."""
    try:
        yield
    except OSError as error:
        raise ConfigError.for_field(
            name,
            value=str(path),
            allowed="a file that can be written",
            remedy=f"choose another place: {error.strerror}",
        ) from None


@contextmanager
def writing_memory(path: Path) -> Iterator[Path]:
    """Turn an error of writing the memory into a MachineError with its reason."""
    try:
        yield path
    except (OSError, sqlite3.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise MachineError(
            f"{path} cannot be written: {why}",
            remedy="make room, give write access, or name another file with --memory",
        ) from None


# -- rows of the audit log --------------------------------------------------------------------

_Kind = Literal["call", "result", "intent", "effect", "note", "record"]
_Agent = Literal[
    "observer", "planner", "critic", "guard", "act", "user", "schedule", "mcp", "trainer"
]
_Outcome = Literal[
    "answered", "staged", "approved", "refused", "applied", "confirmed", "reverted", "expired",
    "failed",
]  # fmt: skip
_ROWS = "Which rows"
FILTERS = [
    option("run", str | None, text="Only rows of the run with this key.", panel=_ROWS),
    option("rank", int | None, text="Only rows of this rank.", panel=_ROWS, least=0),
    option(
        "kind",
        _Kind | None,
        text="Only rows of this kind; `record` is shown only if asked for.",
        panel=_ROWS,
    ),
    option("agent", _Agent | None, text="Only rows of this agent.", panel=_ROWS),
    option("tool", str | None, text="Only calls of this tool.", panel=_ROWS),
    option("outcome", _Outcome | None, text="Only rows with this outcome.", panel=_ROWS),
    option(
        "episode",
        str | None,
        text="Only rows of this episode: its id, or how it begins.",
        panel=_ROWS,
    ),
    option("since", datetime | None, text="Only rows from this time on (UTC).", panel=_ROWS),
    option("until", datetime | None, text="Only rows up to this time (UTC).", panel=_ROWS),
    option(
        "steps",
        str | None,
        text="Only rows of steps FIRST:LAST; either may be left out.",
        panel=_ROWS,
    ),
]


def rows_that_fit(
    *, run: str | None, since: datetime | None, until: datetime | None, steps: str | None,
    **equal: Any,
) -> AuditFilter:  # fmt: skip
    """The FILTERS as a filter; raises ConfigError for steps that are none."""
    first, colon, last = (steps or "").partition(":")
    ends = (first, last if colon else first)
    if any(end and not end.isdecimal() for end in ends):
        raise ConfigError.for_field("steps", value=steps, allowed="FIRST:LAST, as in 100:200")
    return AuditFilter(
        run_key=run,
        since=stored(since) if since else None,
        until=stored(until) if until else None,
        first_step=int(ends[0]) if ends[0] else None,
        last_step=int(ends[1]) if ends[1] else None,
        **equal,
    )

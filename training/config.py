"""Every option of `rudder train`, with its type, default and range."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import tomli_w
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rudder.training.checkpoint.format import CheckpointInterval
from rudder.training.errors import ConfigError
from rudder.training.hosts.names import check_hosts, machine_settings, to_machines
from rudder.training.model.own import OwnModel
from rudder.training.options import BYTES, as_config_error, kilobits_of, parse_bytes
from rudder.training.partitioned_graph import TensorChoice
from rudder.training.plugins import ChosenName
from rudder.training.sampling.edge_split import EdgeSplit
from rudder.training.schedule import DaySchedule
from rudder.training.settings import (
    DEFAULT_LOOKAHEAD_BATCHES,
    MAX_INTERVAL_BATCHES,
    MAX_LOOKAHEAD_BATCHES,
    Frozen,
    FrozenExact,
)
from rudder.training.steering_options import (
    OWN_PLANNERS,
    AgentOptions,
    SteeringOptions,
    default_memory,
)
from rudder.training.workload import OWN_POLICIES, POLICY_CHOICES, LivePolicy, PolicyName

CONFIG_FILE = "config.toml"
"""In the folder of a run: its configuration."""
BUFFER_FORMS = "auto, a share of the halo (0.25), rows (20000) or bytes (64MiB)"
_MAX_SECONDS = 10_000_000
"""Of a timeout: 115 days."""
NO_MEMORY = Path("none")
"""In place of a file of past episodes: none is kept."""


class BufferSize(Frozen):
    """How much a trainer's buffer may hold, in the unit the user chose.

    Text forms: `auto` (as many rows as the memory budget holds, at most all remote rows), `0.25`
    (share of the halo nodes, 0 to 1), `20000` (rows), `64MiB` (bytes).
    """

    amount: float = Field(0, ge=0)
    unit: Literal["auto", "halo_fraction", "rows", "bytes"]

    @classmethod
    def parse(cls, text: str) -> BufferSize:
        """Read one of the text forms; raises ValueError that names them."""
        if text.strip() == "auto":
            return AUTO
        if BYTES.match(text.strip()):
            return cls(amount=parse_bytes(text), unit="bytes")
        try:
            amount = float(text)
        except ValueError:
            raise ValueError(f"it is {BUFFER_FORMS}") from None
        if "." in text and 0 <= amount <= 1:
            return cls(amount=amount, unit="halo_fraction")
        if amount.is_integer() and amount >= 0 and "." not in text:
            return cls(amount=amount, unit="rows")
        raise ValueError(f"it is {BUFFER_FORMS}")

    def rows(self, *, num_halo: int, row_bytes: int, auto: int) -> int:
        """Capacity in rows, for a partition of `num_halo` halo nodes and rows of `row_bytes`.

        auto: the capacity that `auto` stands for.
        """
        if self.unit == "auto":
            return auto
        if self.unit == "halo_fraction":
            return int(self.amount * num_halo)
        if self.unit == "bytes":
            return int(self.amount // max(row_bytes, 1))
        return int(self.amount)

    def __str__(self) -> str:
        if self.unit == "auto":
            return "auto"
        if self.unit == "halo_fraction":
            return format(Decimal(repr(self.amount)), "f")
        return f"{int(self.amount)}B" if self.unit == "bytes" else str(int(self.amount))


AUTO = BufferSize(unit="auto")


@dataclass(frozen=True)
class NamedOptions:
    """A class of a library with its options: `SGD:momentum=0.9,nesterov=True`."""

    name: str
    options: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> NamedOptions:
        """Read NAME or NAME:option=value,option=value, values as in Python; raises ValueError."""
        name, _, rest = text.partition(":")
        try:
            call = ast.parse(f"f({rest})", mode="eval").body
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)) or call.args:
                raise ValueError
            options = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise ValueError(_NAMED_FORMS) from None
        if not _NAME.match(name) or None in [each.arg for each in call.keywords]:
            raise ValueError(_NAMED_FORMS)
        return cls(name, options)

    def is_just(self, name: str) -> bool:
        """Whether it is this name, in whatever case, without options."""
        return self.name.lower() == name.lower() and not self.options

    def __str__(self) -> str:
        options = ",".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.name}:{options}" if options else self.name


_NAMED_FORMS = "it is NAME, or NAME:option=value,option=value, as in SGD:momentum=0.9"
_NAME = re.compile(r"[A-Za-z][\w-]*\Z", re.ASCII)


def _to_named(value: object) -> str:
    NamedOptions.parse(str(value))
    return str(value)


def _to_class_weights(value: object) -> str:
    return BALANCED if value == BALANCED else str(Path(str(value)).expanduser().absolute())


Named = Annotated[str, BeforeValidator(_to_named)]
TaskName = Literal["classification", "regression", "link-prediction"]
OnNan = Literal["stop", "skip", "continue"]
BALANCED = "balanced"
"""Class weights by which all classes together weigh the same."""


def to_buffer_size(value: object) -> object:
    """Read the text forms and numbers; raises ValueError that names the forms."""
    if isinstance(value, bool):
        raise ValueError(f"it is {BUFFER_FORMS}")
    return BufferSize.parse(str(value)) if isinstance(value, str | int | float) else value


def _to_fanout(value: object) -> object:
    if isinstance(value, str):
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            raise ValueError("it is a comma-separated list of whole numbers: 5,10") from None
    return tuple(value) if isinstance(value, list) else value


def _check_fanout(fanout: tuple[int, ...]) -> tuple[int, ...]:
    if not fanout or any(k == 0 or k < -1 for k in fanout):
        raise ValueError("it is one number per layer, each 1 or more, or -1 for all")
    return fanout


def _to_names(value: object) -> object:
    if not isinstance(value, str):
        return value
    names = [name.strip() for name in value.split(",")]
    if "" in names or len(set(names)) < len(names):
        raise ValueError("give different names with commas between them, such as feat,emb")
    return tuple(names)


def _to_interval(value: object) -> object:
    return CheckpointInterval.parse(value) if isinstance(value, str) else value


def _to_live_policy(value: Any) -> Any:
    if value in get_args(PolicyName) and value not in get_args(LivePolicy):
        raise ValueError(f"it is one of {POLICY_CHOICES}")
    return value


def _to_model(value: object) -> str:
    own = OwnModel.parse(str(value))
    return str(value) if own is None else str(own)


_READ_BY: dict[str, Callable[[str], object]] = {
    "rate": kilobits_of,
    "memory_budget": parse_bytes,
    "schedule": DaySchedule.parse,
}
"""Settings that stay text, and what raises ValueError where it cannot be read."""


class RunConfig(AgentOptions, FrozenExact):
    """Every option of a training run, as `rudder train --help` describes them.

    The stored `config.toml` of a run has these names.
    """

    dataset: str = "synthetic:community-200k"
    data: Path | None = None
    feature: Annotated[tuple[str, ...], BeforeValidator(_to_names)] = ()
    label: str | None = None
    train_mask: str | None = None
    valid_mask: str | None = None
    test_mask: str | None = None
    edge_weight: str | None = None
    hosts: int = Field(2, ge=1, le=250)
    launcher: Literal["local", "ssh", "slurm", "ray", "env"] = "local"
    machines: tuple[str, ...] = ()
    spare_hosts: Annotated[tuple[str, ...], BeforeValidator(to_machines)] = ()
    ssh: str = Field("ssh", min_length=1)
    remote_python: str | None = None
    allow_public_addresses: bool = False
    trainers_per_host: int = Field(1, ge=1, le=64)
    servers_per_host: int = Field(1, ge=1, le=64)
    max_seeds: int | None = Field(None, ge=1)
    model: Annotated[str, BeforeValidator(_to_model)] = "sage"
    num_layers: int | None = Field(None, ge=1, le=10)
    hidden: int = Field(64, ge=1, le=65536)
    heads: int = Field(4, ge=1, le=64)
    dropout: float = Field(0.5, ge=0, lt=1)
    fanout: Annotated[
        tuple[int, ...], BeforeValidator(_to_fanout), AfterValidator(_check_fanout)
    ] = (5, 10)
    batch_size: int = Field(512, ge=1, le=10_000_000)
    epochs: int = Field(5, ge=1, le=1_000_000)
    task: TaskName = "classification"
    lr: float = Field(0.003, gt=0, le=100)
    optimizer: Named = "Adam"
    weight_decay: float = Field(0.0, ge=0, le=100)
    scheduler: Named | None = None
    class_weights: Annotated[str, BeforeValidator(_to_class_weights)] | None = None
    metric: Named | None = None
    early_stop: int | None = Field(None, ge=1)
    on_nan: OnNan = "stop"
    eval_every: int = Field(0, ge=0)
    device: Literal["cpu", "cuda"] = "cpu"
    loader: Literal["rudder", "stock"] = "rudder"
    policy: Annotated[ChosenName, BeforeValidator(_to_live_policy)] = "lookahead"
    buffer: Annotated[BufferSize, BeforeValidator(to_buffer_size)] = AUTO
    lookahead: int = Field(DEFAULT_LOOKAHEAD_BATCHES, ge=0, le=MAX_LOOKAHEAD_BATCHES)
    eviction_threshold: float | None = Field(None, ge=0, le=1)
    replacement_interval: int = Field(32, ge=0, le=MAX_INTERVAL_BATCHES)
    alpha: float = Field(0.05, gt=0, lt=1)
    start: Literal["empty", "degree", "random"] = "degree"
    score_faithful: bool = False
    static_source: Literal["degree", "presample", "vip"] = "presample"
    controller: Literal["on", "none"] = "on"
    goal: str | None = Field(None, max_length=500)
    memory_budget: str | None = None
    schedule: str | None = None
    audit_key: Path | None = None
    audit_anchor: str | None = None
    llm: str | None = None
    llm_deadline: float = Field(20.0, gt=0)
    seed: int = Field(0, ge=0, lt=2**31)
    record_trace: bool = False
    checkpoint_every: Annotated[CheckpointInterval, BeforeValidator(_to_interval)] = (
        CheckpointInterval(amount=600.0, unit="seconds")
    )
    keep_checkpoints: int = Field(2, ge=1, le=10_000)
    run_dir: Path | None = None
    network: Literal["auto", "namespace", "loopback"] = "auto"
    rate: str | None = None
    port: int | None = Field(None, ge=1024, le=65000)
    track: Annotated[tuple[str, ...], BeforeValidator(_to_names)] = ()
    max_restarts: int = Field(0, ge=0, le=10_000)
    start_timeout: float = Field(180.0, gt=0, le=_MAX_SECONDS)
    stall_timeout: float = Field(300.0, gt=0, le=_MAX_SECONDS)

    @field_validator(*_READ_BY)
    @classmethod
    def _check_text(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is not None:
            _READ_BY[str(info.field_name)](text)
        return text

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.num_layers is not None and self.num_layers != len(self.fanout):
            raise ValueError(
                f"num_layers is {self.num_layers} but fanout names {len(self.fanout)} layers"
            )
        if self.model == "gat" and self.hidden % self.heads:
            raise ValueError(f"heads is {self.heads}, but gat's must divide hidden ({self.hidden})")
        if self.record_trace and self.loader == "stock":
            raise ValueError("record_trace needs loader rudder; stock has no buffer to trace")
        if (self.llm is None) != (self.llm_model is None):
            raise ValueError("llm and llm_model belong together: give both or none")
        if self.planner == "published" and (self.policy, self.replacement_interval) != ("score", 0):
            raise ValueError(
                "planner = published decides on rounds of replacement only; it needs"
                " --policy score --replacement-interval 0"
            )
        if self.llm is not None and self.planner not in ("embedded", "llm", "published"):
            raise ValueError(f"planner = {self.planner} asks no model; leave out llm, or planner")
        if self.planner == "llm" and self.llm is None:
            raise ValueError("planner = llm needs an address: --llm URL --llm-model NAME")
        if self.task == "regression" and self.class_weights is not None:
            raise ValueError("class_weights are of classes; task = regression has none")
        if self.task == "link-prediction" and (self.metric or self.class_weights):
            raise ValueError("task = link-prediction has MRR and Hits@10, no metric and no classes")
        check_hosts(self.launcher, self.machines, hosts=self.hosts, spares=self.spare_hosts)
        if self.schedule is not None and self.steering is None:
            raise ValueError("schedule is what agents keep to; it needs controller on, no stock")
        if self.rate is not None and self.launcher != "local":
            raise ValueError("rate limits the links of local hosts only; leave it out")
        if self.rate is not None and self.network == "loopback":
            raise ValueError("rate needs namespaces between the hosts; loopback has no link")
        return self

    @property
    def steering(self) -> SteeringOptions | None:
        """Options of this run's controllers; None where it has none."""
        if self.controller == "none" or self.loader == "stock":
            return None
        shared = {name: getattr(self, name) for name in AgentOptions.model_fields}
        own = {
            "planner": "llm" if self.llm and self.planner != "published" else self.planner,
            "planner_model": self.planner_model and self.planner_model.absolute(),
            "memory": _memory_file(self.memory),
        }
        return SteeringOptions(
            **shared | own,
            memory_budget_bytes=self.memory_budget_bytes,
            llm_url=self.llm,
            llm_deadline_s=self.llm_deadline,
            seed=self.seed,
        )

    @property
    def optimizer_options(self) -> NamedOptions:
        """The optimiser's class and options."""
        return NamedOptions.parse(self.optimizer)

    @property
    def scheduler_options(self) -> NamedOptions | None:
        """The schedule's class and options, None without one."""
        return None if self.scheduler is None else NamedOptions.parse(self.scheduler)

    @property
    def metric_options(self) -> NamedOptions | None:
        """The chosen metric's class and options, None for the task's first score."""
        return None if self.metric is None else NamedOptions.parse(self.metric)

    @property
    def follows_validation(self) -> bool:
        """Whether the validation score decides on the learning rate or on the end of the run."""
        named = self.scheduler_options
        is_plateau = named is not None and named.name.lower() in ("plateau", "reducelronplateau")
        return is_plateau or self.early_stop is not None

    @property
    def evaluation_interval(self) -> int:
        """Epochs between evaluations, 0: at the end only; 1 where they decide on something."""
        return self.eval_every or int(self.follows_validation)

    @property
    def edge_split(self) -> EdgeSplit:
        """The edges that link prediction validates and tests on, drawn by the run's seed."""
        return EdgeSplit(seed=self.seed)

    @property
    def memory_budget_bytes(self) -> int | None:
        """Bytes of all buffers of a host; None where the run does not say."""
        return None if self.memory_budget is None else parse_bytes(self.memory_budget)

    @property
    def hours(self) -> DaySchedule | None:
        """What holds at which hours; None: the same at all of them."""
        return None if self.schedule is None else DaySchedule.parse(self.schedule)

    @property
    def tensor_names(self) -> TensorChoice:
        """The tensors that the user names."""
        return TensorChoice(
            feature=self.feature,
            label=self.label,
            train_mask=self.train_mask,
            val_mask=self.valid_mask,
            test_mask=self.test_mask,
            edge_weight=self.edge_weight,
            is_regression=self.task == "regression",
        )

    @property
    def layers(self) -> int:
        """Number of GNN layers."""
        return len(self.fanout)

    @property
    def num_trainers(self) -> int:
        """Trainers over all hosts; the world size of DDP."""
        return self.hosts * self.trainers_per_host


def _memory_file(choice: Path | None) -> Path | None:
    if choice is None:
        return default_memory()
    return None if choice == NO_MEMORY else choice.absolute()


def run_config(file: Path | None = None, **options: Any) -> RunConfig:
    """Build a config from a TOML file and options; an option that is not None wins.

    Raises ConfigError that names the field, the value and what is allowed.
    """
    values = _read_toml(file) if file is not None else {}
    values.update({name: value for name, value in options.items() if value is not None})
    hosts = values.get("hosts")
    if isinstance(hosts, str) and not hosts.strip().isdecimal():
        values.update(machine_settings(name.strip() for name in hosts.split(",")))
    try:
        config = RunConfig(**values)
    except ValidationError as error:
        source = f" (from {file} or the command line)" if file else ""
        raise as_config_error(error, RunConfig, source=source) from None
    OWN_POLICIES.check(config.policy, choices=POLICY_CHOICES)
    OWN_PLANNERS.check(config.planner)
    return config


def write_config(config: RunConfig, file: Path) -> None:
    """Write the effective config as TOML, in the form that `run_config` reads."""
    values = config.model_dump(exclude_none=True)
    plain = {name: _as_toml(value) for name, value in values.items()}
    plain["buffer"] = str(config.buffer)
    plain["checkpoint_every"] = str(config.checkpoint_every)
    file.write_text(tomli_w.dumps(plain))


def _as_toml(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except FileNotFoundError:
        raise ConfigError(
            f"there is no config file {file}", remedy="check the path given to --config"
        ) from None
    except (ValueError, RecursionError, OSError) as error:  # TOMLDecodeError is a ValueError
        raise ConfigError(
            f"config file {file} cannot be read: {error}",
            remedy="mend the file; `rudder train --help` lists the names it may set",
        ) from None

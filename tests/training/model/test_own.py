"""A person's own model: found, imported, tried, and its errors told with their line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from rudder.training.config import RunConfig, run_config
from rudder.training.errors import ConfigError
from rudder.training.launch.rehearsal import check_training, try_training
from rudder.training.model.inference import layers_of
from rudder.training.model.models import ModelOptions, build_model
from rudder.training.model.own import OwnModel
from tests.training.partitioned import partitioned_graph

GOOD = """
from pathlib import Path
import dgl.nn
import torch

class Net(torch.nn.Module):
    def __init__(self, in_dim, num_classes, options):
        super().__init__()
        widths = [in_dim, *[options.hidden] * (options.num_layers - 1), num_classes]
        self.layers = torch.nn.ModuleList(
            dgl.nn.SAGEConv(*pair, "mean") for pair in zip(widths, widths[1:])
        )

    def forward(self, blocks, x):
        for layer, block in zip(self.layers, blocks):
            x = layer(block, x)
        return x

def make(in_dim, num_classes, options):
    return Net(in_dim, num_classes, options)
"""

GRAPH = partitioned_graph(feature_dim=6, num_classes=4)


def write(folder: Path, text: str) -> str:
    file = folder / "mine.py"
    file.write_text(text)
    return f"{file}:make"


def config_of(spec: str) -> RunConfig:
    return run_config(model=spec)


def test_dgls_own_layers_work(tmp_path: Path) -> None:
    spec = write(tmp_path, GOOD)
    options = ModelOptions(hidden=8, num_layers=3)
    model = build_model(spec, in_dim=4, num_classes=2, options=options)
    assert model.num_layers == 3
    try_training(config_of(spec), GRAPH)


def test_the_model_of_the_documentation_trains_and_runs_layer_by_layer(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "own-model.md").read_text()
    spec = write(tmp_path, page.split("```python")[1].split("```")[0])
    try_training(config_of(spec), GRAPH)
    model = build_model(spec, in_dim=4, num_classes=2, options=ModelOptions(hidden=8))
    assert layers_of(model) is not None


def test_a_file_may_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "widths_of_mine.py").write_text("WIDTH = 7\n")
    text = (
        "from widths_of_mine import WIDTH\nimport torch\n"
        "def make(*a): return torch.nn.Linear(WIDTH, 1)"
    )
    options = ModelOptions()
    model = build_model(write(tmp_path, text), in_dim=4, num_classes=2, options=options)
    assert isinstance(model, torch.nn.Linear)
    assert model.in_features == 7


@pytest.mark.parametrize("spec", ["mlp", "mine.py", "mine.py:", "mine:make", "mine.py:2x", ""])
def test_what_names_no_model_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"sage, gat, gcn, gin or FILE\.py:FACTORY"):
        config_of(spec)


def test_a_path_is_kept_whole_so_that_it_holds_in_every_folder() -> None:
    assert config_of("mine.py:make").model == f"{Path('mine.py').absolute()}:make"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def make(:", "cannot be read: SyntaxError.*line 1"),
        ("x = 1\ndef other(): ...", "it has other"),
    ],
)
def test_a_file_is_checked_without_running_it(tmp_path: Path, text: str, message: str) -> None:
    own = OwnModel.parse(write(tmp_path, text))
    assert own is not None
    with pytest.raises(ConfigError, match=message):
        own.check()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.py.*No such file"):
        OwnModel(tmp_path / "nowhere.py", "make").check()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_package", r"(?s)imported: ModuleNotFoundError.*line 1, in <module>"),
        ("raise SystemExit(3)", "imported: SystemExit: 3"),
        ("def make(a, b):\n    pass", r"built: TypeError.*takes 2 positional"),
        ("def make(*a):\n    return [][3]", r"(?s)built: IndexError.*line 2, in make\n    return"),
        ("def make(*a):\n    return 3", "returns int, not a torch.nn.Module"),
        (
            "import torch\ndef make(*a):\n    return torch.nn.LazyLinear(3)",
            "has lazy layers",
        ),
        (
            GOOD.replace("x = layer(block, x)", "x = layer(block, x).nope"),
            r"(?s)run: AttributeError.*line 16, in forward\n    x = layer",
        ),
        (GOOD.replace("return x", "return x[:1]"), r"returns \(1, 4\) for 3 seeds, not \(3, 4\)"),
    ],
)
def test_an_error_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    spec = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as raised:
        try_training(config_of(spec), GRAPH)
    assert raised.value.remedy


def test_the_launcher_tries_a_model_in_another_process(tmp_path: Path) -> None:
    text = "print('hello')\nimport os\nopen(os.environ['SEEN'], 'w').write(str(os.getpid()))\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEEN", str(tmp_path / "pid"))
        check_training(config_of(write(tmp_path, text + GOOD)), GRAPH)
        bad = write(tmp_path, text + "def make(*a):\n    1 / 0")
        with pytest.raises(ConfigError, match=r"line 5, in make"):
            check_training(config_of(bad), GRAPH)
        with pytest.raises(ConfigError, match="ended the process that tried it"):
            check_training(config_of(write(tmp_path, "import os; os._exit(7)")), GRAPH)
    assert (tmp_path / "pid").read_text() != str(os.getpid())

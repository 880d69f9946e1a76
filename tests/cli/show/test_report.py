"""The page of a run: what is on it, and how it looks in a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from rudder.cli.after_run import keep_report
from rudder.cli.show.chart import Axis, Line, TimeUnit
from rudder.cli.show.report import report_page, write_report
from rudder.memory.run.run_folder import StoredRun
from rudder.memory.run.run_reader import run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.memory.sample import record, sample_episode, sample_window, sample_workload
from tests.cli.show.test_summary import epoch, report, summary_of

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
PROBE = """<script>
addEventListener("load", () => {
  const dots = [...document.querySelectorAll("a.dot[href]")];
  if (dots.length) dots[0].click();
  setTimeout(() => {
    const shown = [...document.querySelectorAll(".story")].filter(
      each => getComputedStyle(each).display === "block");
    const paths = [...document.querySelectorAll("path")];
    document.title = JSON.stringify({
      overflow: document.documentElement.scrollWidth - innerWidth,
      stories: shown.map(each => each.id),
      href: dots.length ? dots[0].getAttribute("href").slice(1) : null,
      flat: paths.filter(each => !/[Lh]/.test(each.getAttribute("d"))).length,
      paths: paths.length,
      paper: getComputedStyle(document.body).backgroundColor,
    });
  }, 50);
});
</script>"""


def write_run(folder: Path, *, ranks: int = 2, episodes: int = 2, epochs: int = 3) -> StoredRun:
    """A finished run, two ranks of which have a record."""
    for rank in range(2):
        workload = sample_workload(rank=rank).model_copy(update={"world_size": ranks})
        journal = SqliteJournal.open(run_file(folder, rank=rank), memory=None)
        journal.begin(workload)
        for number in range(episodes):
            for index in range(3 * number, 3 * number + 3):
                journal.add_window(sample_window(index, workload=workload))
            record(journal, sample_episode(number, workload=workload))
        journal.close()
    reports = [report(rank, *[epoch(number) for number in range(epochs)]) for rank in range(ranks)]
    (folder / "summary.json").write_text(summary_of(*reports).model_dump_json())
    (folder / "config.toml").write_text('dataset = "synthetic:tiny"\nhosts = 2\n')
    return StoredRun(folder)


@pytest.fixture(autouse=True)
def _own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def seen(page: str, *, width: int, dark: bool = False) -> dict[str, object]:
    """What a browser makes of a page: measured by a script that is added for that."""
    if BROWSER is None:
        pytest.skip("there is no Chromium on this machine")
    probed = re.sub(r"<meta http-equiv.*?>", "", page).replace("</body>", PROBE + "</body>")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "page.html"
        file.write_text(probed)
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--window-size={width},900", f"--user-data-dir={folder}/profile",
            "--virtual-time-budget=3000", *(["--force-dark-mode"] if dark else []),
        ]  # fmt: skip
        done = subprocess.run(
            [BROWSER, *options, "--dump-dom", file.as_uri()],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None
    found: dict[str, object] = json.loads(html.unescape(title[1]))
    return found


def test_a_browser_shows_the_page_whole_light_and_dark_wide_and_narrow(tmp_path: Path) -> None:
    one, other = write_run(tmp_path / "one"), write_run(tmp_path / "other")
    for page in (report_page([one]), report_page([one, other])):
        wide, narrow = seen(page, width=1400), seen(page, width=500, dark=True)
        for found in (wide, narrow):
            assert found["overflow"] == 0
            assert found["stories"] == [found["href"]]
            assert found["flat"] == 0
            assert isinstance(found["paths"], int)
            assert found["paths"] > 10
        assert (wide["paper"], narrow["paper"]) == ("rgb(255, 255, 255)", "rgb(20, 24, 29)")


def test_the_page_needs_no_network_and_has_all_that_is_known(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    page = report_page([run])
    assert re.findall(r'(?:src|href)="(?!#)', page) == []
    assert "default-src 'none'" in page
    text = html.unescape(page)
    for words in (
        "<b>Epoch</b>", "<b>Step</b>", "<b>Hits</b>", "<b>Buffer</b>", "<b>Lookahead</b>",
        "Seconds of each epoch's slowest rank", 'dataset = "synthetic:tiny"', "dgl 2.1.0",
        "rows hold, and", "Episode 5a4d91e0-1-0: decision 0 of rank 1",
    ):  # fmt: skip
        assert words in text, words
    stories = re.findall(r'class="story" id="(.*?)"', page)
    links = re.findall(r'class="dot \w+" style=".*?" title=".*?" href="#(.*?)"', page)
    assert sorted(links) == sorted(stories)
    assert len(stories) == 4


def test_text_of_a_record_cannot_become_part_of_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    workload = sample_workload()
    plan = sample_episode(0, workload=workload)
    bad = plan.plan.model_copy(update={"reason": "<script>alert(1)</script> sk-" + "a" * 20})
    journal = SqliteJournal.open(run_file(folder, rank=0), memory=None)
    journal.begin(workload)
    record(journal, plan.model_copy(update={"plan": bad}))
    journal.close()
    page = report_page([StoredRun(folder)])
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    assert "sk-aaaa" not in page


def test_a_record_that_was_edited_is_told_in_red(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    run.files[0].write_bytes(b"no database" * 500)
    page = report_page([run])
    assert '<span class="bad">BROKEN' in page
    assert "rank 1" in page


def test_a_run_that_failed_or_has_no_record_has_a_page(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.toml").write_text('loader = "stock"\n')
    (folder / "error.txt").write_text("rank 1 on host1 was killed\n")
    keep_report(folder)
    page = (folder / "report.html").read_text()
    assert "run failed: rank 1 on host1 was killed" in page
    assert "none: nobody steered" in page
    (folder / "summary.json").write_text(summary_of(report(0, epoch(0))).model_dump_json())
    assert "<b>Epoch</b>" in report_page([StoredRun(folder)])


def test_a_page_that_cannot_be_written_harms_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run")
    (run.folder / ".report.html.part").symlink_to("/dev/full")
    keep_report(run.folder)
    assert "no report.html was written: [Errno 28]" in capsys.readouterr().err
    keep_report(tmp_path / "nowhere")
    assert "not the folder of a run" in capsys.readouterr().err


def test_a_thousand_epochs_of_64_ranks_make_a_page_of_few_megabytes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ranks=64, episodes=1, epochs=1000)
    write_report([run], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert len(page) < 3_000_000
    assert "64 ranks; a pointer on a line" in page
    epochs = page.partition("<b>Epoch</b>")[2].partition("</svg>")[0]
    lines = re.findall(r' d="(.*?)"', epochs)
    assert len(lines) == 64
    assert all(100 < line.count(",") <= 400 for line in lines)


def test_axes_have_round_values_and_leave_out_a_first_slow_step() -> None:
    axis = Axis.of([0.0, 37.0])
    assert [text for _, text in axis.ticks()] == ["0", "10", "20", "30"]
    assert axis.place(0) == 0
    assert axis.place(axis.high) == 1000
    spiky = Axis.of([*[10.0] * 200, 5000.0])
    assert spiky.high < 20
    log = Axis.of([20.0, 500_000.0], is_log=True)
    assert [text for _, text in log.ticks()] == ["100", "1,000", "10 k", "100 k"]
    assert [text for _, text in Axis.of([]).ticks()] == ["0", "0.5", "1"]
    assert TimeUnit.fit(7300).name == "h"
    assert TimeUnit.fit(119).name == "s"


def test_a_line_is_broken_where_nothing_was_measured() -> None:
    x, y = Axis(0, 10), Axis(0, 10)
    line = Line("rank 0", 0, [0, 5, 6, 10], [0, 10, None, 5])
    assert line.path(x, y) == "M0,1000h0L500,0M1000,500h0"

"""The command line, end to end: what it prints, what it refuses, what it leaves behind."""

import io
import json
import os
import resource
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from processes import ROOT, command, environment, python
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import StandardScaler

from scaling_study import Problem
from scaling_study.cli import app as cli
from scaling_study.engine.optimizers import OPTIMIZERS
from scaling_study.study.scalers import SCALERS
from scaling_study.study.study import presets

REFERENCE = ROOT / "tests" / "reference"
SHORT = "epochs = 1\n"  # a study of one program
SUMMARY = {
    "study", "output_dir", "runs", "groups", "chunks", "devices", "platform", "compile_seconds",
    "run_seconds", "total_seconds", "runs_per_second", "updates_per_second", "peak_memory_bytes",
    "statuses",
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(here, capsys):
    """Return a function that runs the command in this process: exit code, output, errors."""

    def called(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return int(left.value.code or 0), printed.out, printed.err

    return called


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Path:
    """A folder in which the smoke study was reproduced by a process of its own."""
    folder = tmp_path_factory.mktemp("smoke")
    done = command("reproduce", "smoke", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "printed.txt").write_text(done.stdout)
    return folder


# What it does -------------------------------------------------------------------------------


def test_reproduce_runs_and_reports(smoke):
    summary = json.loads((smoke / "printed.txt").read_text().splitlines()[-1])
    assert set(summary) >= SUMMARY
    assert summary["runs"] == sum(summary["statuses"].values()) == 8 * 16
    assert summary["platform"] == "cpu"
    assert min(summary[k] for k in SUMMARY if k.endswith("second") or k.endswith("bytes")) > 0
    report = smoke / "reports" / "smoke"
    assert {"index.html", "report.md", "figures", "tables", "study.toml", "manifest.json"} <= set(
        os.listdir(report)
    )
    assert "http" not in (report / "index.html").read_text().split("<body")[0]


def test_run_again_trains_nothing_and_says_so(smoke, call):
    folder = smoke / "results" / "smoke"
    code, out, err = call("run", "smoke", "-o", folder, "--json")
    assert (code, err) == (0, "")
    first, *_, last = out.splitlines()
    assert "all were stored already" in first
    summary = json.loads(last)
    assert summary["runs_trained"] == 0
    assert summary["runs"] == 128


@pytest.mark.slow
def test_report_needs_no_jax(smoke, here):
    code = """
import sys
from importlib.abc import MetaPathFinder
class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "flax", "optax"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from scaling_study.cli.app import main
main(["report", sys.argv[1], "-o", "again", "-q"])
"""
    done = python("-c", code, str(smoke / "results" / "smoke"), cwd=here)
    assert done.returncode == 0, done.stderr
    for name in ("tables/conditions.csv", "report.md"):
        assert (here / "again" / name).exists()
    theirs = smoke / "reports" / "smoke" / "tables" / "conditions.csv"
    assert (here / "again" / "tables" / "conditions.csv").read_text() == theirs.read_text()


def test_quiet_says_nothing(call, here):
    (here / "short.toml").write_text(SHORT)
    assert call("run", "short.toml", "-q", "--seeds", "0:1", "-o", "x") == (0, "", "")


def test_plan_prints_the_estimated_cost_and_runs_nothing(call, here):
    code, out, _ = call("plan", "article")
    assert code == 0
    for words in (("conditions", "15"), ("groups", "3"), ("runs", "15,000")):
        assert any(all(word in line for word in words) for line in out.splitlines())
    plan = json.loads(call("plan", "article", "--json", "--seeds", "0:10")[1])
    assert (plan["conditions"], plan["runs"]) == (15, 150)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("what", "names"), [("optimizers", OPTIMIZERS), ("scalers", SCALERS), ("presets", presets())]
)
def test_list_names_everything_there_is(call, what, names):
    code, out, _ = call("list", what)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [*names]
    assert json.loads(call("list", what, "--json")[1])[what].keys() == set(names)
    assert all(f"  {name}" in call("list")[1] for name in names)


@pytest.mark.parametrize("name", ["keras", "torch"])
def test_verify_replays_a_reference_file(call, here, name):
    reference = json.loads((REFERENCE / f"{name}.json").read_text())
    reference["cases"] = reference["cases"][2:4]
    Path("few.json").write_text(json.dumps(reference))
    code, out, _ = call("verify", "few.json")
    assert code == 0
    assert "FAILS" not in out


def change_rate(reference):
    reference["cases"][0]["optimizer"]["learning_rate"] *= 1.5


def reverse_epoch(reference):
    reference["batch_order"][3].reverse()


def change_weight(reference):
    reference["cases"][0]["initial_params"][0][0][0] += 0.1


@pytest.mark.parametrize("change", [change_rate, reverse_epoch, change_weight])
def test_verify_exits_1_where_something_is_off(call, here, change):
    reference = json.loads((REFERENCE / "torch.json").read_text())
    reference["cases"] = reference["cases"][2:4]
    change(reference)
    Path("off.json").write_text(json.dumps(reference))
    code, out, _ = call("verify", "off.json")
    assert code == 1
    assert "FAILS" in out
    assert json.loads(call("verify", "off.json", "--json")[1])["failed"] > 0


def test_version_and_help(call):
    assert call("--version")[:2] == (0, f"scaling-study {cli.__version__}\n")
    for arguments in ([], ["--help"], ["run", "--help"]):
        code, out, _ = call(*arguments)
        assert code == 0
        assert "Usage" in out


def test_help_is_quick_and_does_not_import_jax(here):
    def seconds() -> float:  # of a core, so that other work does not count
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert command("--help", cwd=here).returncode == 0
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        return end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime

    assert min(seconds() for _ in range(3)) < 0.5
    code = "import sys\nfrom scaling_study.cli.app import main\ntry: main(['--help'])\n"
    code += "finally: print('jax' in sys.modules, file=sys.stderr)"
    assert python("-c", code, cwd=here).stderr.strip() == "False"


def _mine(x, y, **more):
    """A user's own table, as a problem."""
    ones = np.ones(2)
    names = ("age", "dose")
    return Problem(
        lambda seed: (x, y), ones, ones, scaled_feature=1, columns=names,
        signal=lambda u: np.zeros(u.shape[:-1]), **more,
    )  # fmt: skip


X, Y = np.random.default_rng(0).normal(size=(100, 2)), np.random.default_rng(1).normal(size=100)


def with_gaps():
    x = X.copy()
    x[10:17, 1] = np.nan
    return _mine(x, Y)


def in_text():
    return _mine([["old", dose] for dose in X[:, 1]], Y)


def from_1():
    return _mine(X, 1 + np.arange(100) % 2, classes=2)


def late_gaps():
    """Gaps in a seed that nobody looks at before it is drawn."""
    gaps = X.copy()
    gaps[10:17, 1] = np.nan
    whole = _mine(X, Y)
    return whole._replace(draw=lambda seed: (gaps if seed == 3 else X, Y))


def loses_a_column():
    return ColumnTransformer([("one", StandardScaler(), [0])])


def reorders():
    return ColumnTransformer(
        [("late", "passthrough", [7, 8, 9, 10]), ("n", StandardScaler(), [*range(7)])]
    )


# What it refuses ----------------------------------------------------------------------------

REFUSED = [
    (["run", "articel"], ["preset", "'article'"]),
    (["run", "nowhere.toml"], ["nowhere.toml"]),
    (["run", "malformed.toml"], ["malformed.toml", "line 1"]),
    (["run", "smoke", "--set", "learning_rat=1"], ["'learning_rate'"]),
    (["run", "unknown-key.toml"], ["unknown-key.toml", "'batch_size'"]),
    (["run", "smoke", "--set", "scaler=standrd"], ["scaler", "'standard'"]),
    (["run", "smoke", "--set", "optimizer=adm"], ["optimizer", "'adam'"]),
    (["run", "smoke", "--set", "model=linaer"], ["model", "'linear'"]),
    (["run", "smoke", "--set", "learning_rate=-1"], ["learning_rate", "above 0"]),
    (["run", "smoke", "--set", "learning_rate=0"], ["learning_rate", "above 0"]),
    (["run", "smoke", "--set", "epochs=0"], ["epochs"]),
    (["run", "smoke", "--set", "epochs=-3"], ["epochs"]),
    (["run", "smoke", "--set", "batch_size=0"], ["batch_size"]),
    (["run", "smoke", "--set", "batch_size=-1"], ["batch_size"]),
    (["run", "smoke", "--seeds", "3:3"], ["seeds", "A:B"]),
    (["run", "smoke", "--seeds", "abc"], ["seeds", "A:B"]),
    (["run", "smoke", "--seeds", "-1:5"], ["seeds", "A:B"]),
    (["run", "smoke", "-o", "a-file/below"], ["a-file"]),
    (["run", "smoke", "-o", "full"], ["full", "choose another"]),
    (["run", "smoke", "--devices", "99"], ["devices"]),
    (["run", "smoke", "--chunk-size", "0"], ["chunk-size"]),
    (["run", "smoke", "--set", "updates=7"], ["updates", "whole number of epochs"]),
    (["run"], ["Missing argument"]),
    (["run", "smoke", "--sedes", "0:3"], ["--sedes"]),
    (["rnu", "smoke"], ["rnu"]),
    (["plan", "articel"], ["preset", "'article'"]),
    (["plan", "smoke", "--set", "optimizer=adm"], ["optimizer", "'adam'"]),
    (["plan", "smoke", "--set", 'model={name="mlp",hidden="a"}'], ["hidden", "whole numbers"]),
    (["plan", "smoke", "--set", 'model={name="mlp",hidden=[8,8]}'], ["hidden=8", "[[16, 16]]"]),
    (["plan", "smoke", "--set", 'claims.X={quote="q",measure="largr"}'], ["--set", "claims"]),
    (["run", "smoke", "--set", "blocks=3"], ["blocks.NAME.key"]),
    (
        ["run", "smoke", "--set", "problem=test_cli:with_gaps"],
        ["problem 'test_cli:with_gaps'", "column 'dose': NaN in 7 of 100 rows of draw(0)"],
    ),
    (["plan", "smoke", "--set", "problem=test_cli:with_gaps"], ["NaN in 7 of 100 rows"]),
    (
        ["run", "smoke", "--set", "problem=test_cli:in_text"],
        ["column 'age': text in 100 of 100 rows of draw(0), such as 'old'"],
    ),
    (
        ["run", "smoke", "--set", "problem=test_cli:from_1", "--set", "target_scaler=none"],
        ["target: no label from 0 to 1 in 50 of 100 rows"],
    ),
    (
        ["run", "smoke", "--set", "scaler=test_cli:loses_a_column"],
        ["scaler 'test_cli:loses_a_column'", "returns 1 columns for 2"],
    ),
    (
        ["run", "smoke", "--set", 'model={name="mlp", activation="softmax"}'],
        ["activation 'softmax'", "across the units"],
    ),
    (["run", "smoke", "--set", "optimizer=myopt.clip_adam"], ["here myopt:clip_adam"]),
    (["rank", "myopt.clip_adam"], ["optimizer 'myopt:clip_adam' cannot be imported"]),
    (["rank", "adma", "--budget", "quick"], ["unknown optimizer 'adma'", "did you mean"]),
    (["rank", "adam", "--budget", "long"], ["unknown budget 'long'"]),
    (["rank", "adam", "--problems", "linear2"], ["'linear2'", "linear-2"]),
    (["list", "scaler"], ["list", "'scalers'"]),
    (["report", "nowhere"], ["nowhere", "no results"]),
    (["report", "full"], ["full", "no results"]),
    (["verify", "truncated.json"], ["truncated.json", "truncated"]),
    (["verify", "nowhere.json"], ["nowhere.json"]),
    (["reproduce", "smoke", "--seeds", "9:1"], ["seeds"]),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED, ids=lambda x: " ".join(x))
def test_bad_input_is_one_line_and_exit_code_2_and_nothing_is_written(call, here, arguments, words):
    Path("malformed.toml").write_text("learning_rate = \n")
    Path("unknown-key.toml").write_text("batch_sizes = 3\n")
    Path("a-file").write_text("")
    Path("full").mkdir()
    Path("full", "mine.txt").write_text("mine")
    text = (REFERENCE / "torch.json").read_text()
    Path("truncated.json").write_text(text[: len(text) // 2])
    before = sorted(here.rglob("*"))
    code, out, err = call(*arguments)
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("scaling-study: ")
    assert [word for word in words if word not in err] == []
    assert sorted(here.rglob("*")) == before


def test_bad_data_of_a_later_seed_stop_the_run_in_one_line(call, here):
    settings = ("problem=test_cli:late_gaps", "design=U", "data_seed=vary", "epochs=1")
    arguments = [word for setting in settings for word in ("--set", setting)]
    code, _, err = call("run", "smoke", "-q", "--seeds", "0:8", *arguments)
    assert code == 2
    assert len(err.splitlines()) == 1, err
    assert "problem 'test_cli:late_gaps': column 'dose': NaN in 7 of 100 rows of draw(3)" in err


def test_a_column_transformer_scales_eleven_columns(call, here):
    (here / "short.toml").write_text(SHORT)
    settings = ("problem={name='uniform', features=11}", "scaler=test_cli:reorders", "design=U")
    arguments = [word for setting in settings for word in ("--set", setting)]
    code, _, err = call("run", "short.toml", "-q", "--seeds", "0:2", *arguments)
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "smoke", "--set", "learning_rate=0.5"], "learning_rate is [0.001], not [0.5]"),
    ],
    ids=["run"],
)
def test_a_folder_that_holds_another_study_is_refused_and_left_alone(arguments, words, smoke, call):
    folder = smoke / "results" / "smoke"
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    code, _, err = call(*arguments, "-o", folder)
    assert code == 2
    assert words in err
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_a_report_is_named_as_its_results_are(smoke, here, call):
    shutil.copytree(smoke / "results" / "smoke", here / "mine")
    assert call("report", "mine", "-q")[0] == 0
    assert (here / "reports" / "mine" / "index.html").exists()


def test_what_cannot_be_printed_is_one_line(here):
    if not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "scaling_study", "list"],
            env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "scaling-study: standard output: No space left on device\n"


def test_a_process_shows_no_traceback(here):
    done = command("run", "articel", cwd=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("scaling-study: unknown preset 'articel'; did you mean 'article'?\n")


# Claims -------------------------------------------------------------------------------------

CLAIMS = """
name = "mine"
seeds = "0:8"
problem = "uniform"
updates = 40
scaler = ["none", "standard"]
[claims.HEAVY]
quote = "Raw weights end heavier."
measure = "last_weight_larger"
blocks = "main"
by = "scaler"
smallest = 0.1
"""


@pytest.fixture(scope="module")
def mined(tmp_path_factory) -> Path:
    """A folder in which a study with a claim was reproduced, which no test may change."""
    folder, printed = tmp_path_factory.mktemp("mined"), io.StringIO()
    (folder / "mine.toml").write_text(CLAIMS)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
        patch.chdir(folder)
        _simulate_few_studies(patch)
        with pytest.raises(SystemExit) as left:
            cli.main(["reproduce", "mine.toml", "-q"])
    assert (left.value.code or 0, printed.getvalue()) == (0, "")
    return folder


@pytest.fixture
def mine(mined, here) -> Path:
    """Work in a copy of that folder; return its report."""
    shutil.copytree(mined, here, dirs_exist_ok=True)
    return here / "reports" / "mine"


def _simulate_few_studies(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("scaling_study.report.paper.methods.COVERAGE_STUDIES", 5)


@pytest.fixture(autouse=True)
def _few_simulated_studies(monkeypatch):
    _simulate_few_studies(monkeypatch)


def test_claims_are_printed_and_compared(mine, call, here):
    ledger = json.loads((mine / "claims.json").read_text())
    status, out, _ = call("report", "results/mine", "--json", "-o", "elsewhere")
    assert status == 0
    assert json.loads(out) == ledger
    assert [entry["id"] for entry in ledger] == ["HEAVY"]
    status, out, _ = call("reproduce", "mine.toml", "--check")
    assert status == 0
    assert "all as in" in out
    ledger[0]["verdict"] = "supported" if ledger[0]["verdict"] != "supported" else "refuted"
    (mine / "claims.json").write_text(json.dumps(ledger))
    status, out, error = call("reproduce", "mine.toml", "--check")
    assert (status, error) == (1, "")
    assert "HEAVY: verdict" in out
    status, out, _ = call("reproduce", "mine.toml", "--check", "--json")
    assert (status, len(json.loads(out)["differences"])) == (1, 1)


def test_claims_of_a_file_join_those_of_the_study(mine, call, here):
    (here / "more.toml").write_text('[claims.MORE]\nquote = "x"\nmeasure = "diverged"\n'
                                    'blocks = "main"\nsmallest = 0.1\n')  # fmt: skip
    status, out, _ = call("report", "results/mine", "--claims", "more.toml", "--json", "-o", "r")
    assert status == 0
    assert [entry["id"] for entry in json.loads(out)] == ["HEAVY", "MORE"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("", ["more.toml", "claims"]), ("a = [", ["more.toml"]),
     ("[claims.X]\n", ["claims.X", "quote"]),
     ('[claims.X]\nquote = "x"\nmeasure = "nonsense"', ["claims.X", "nonsense"])],
)  # fmt: skip
def test_bad_claims_are_one_line(mine, call, here, text, words):
    (here / "more.toml").write_text(text)
    status, _, error = call("report", "results/mine", "--claims", "more.toml", "-o", "r")
    assert status == 2
    assert error.count("\n") == 1
    assert all(word in error for word in words), error


def test_bad_claims_of_a_study_stop_before_anything_runs(call, here):
    (here / "mine.toml").write_text(CLAIMS.replace('"last_weight_larger"', '"last_weight_largest"'))
    status, _, error = call("run", "mine.toml")
    assert status == 2
    assert "last_weight_largest" in error
    assert "'last_weight_larger'" in error
    assert not (here / "results").exists()


def test_claims_are_confirmed_on_fresh_seeds(mine, call, here):
    status, out, error = call("confirm", "mine.toml", "--seeds", "100:108")
    assert error == ""
    assert status in (0, 1)
    assert out.splitlines()[-1].startswith(f"{status} of 1 verdicts differ; ")
    assert (here / "results" / "mine-fresh").is_dir()
    status, out, _ = call("report", "results/mine", "--fresh", "results/mine-fresh", "-o", "both")
    assert status == 0
    assert "judged on seeds 100 to 107" in (here / "both" / "report.md").read_text()
    manifest = json.loads((here / "results" / "mine-fresh" / "manifest.json").read_text())
    assert len(manifest["claims"]) == 12


def test_seeds_that_were_seen_confirm_nothing(mine, call):
    status, _, error = call("confirm", "mine.toml", "--seeds", "0:8")
    assert status == 2
    assert "results/mine has seeds" in error
    assert "name others" in error


def test_there_is_nothing_to_check_against(call, here):
    status, _, error = call("reproduce", "smoke", "--check")
    assert status == 2
    assert "claims.json" in error


def wrong(learning_rate):
    """A user's own optimizer that fails."""
    raise RuntimeError("not today")


def test_an_own_optimizer_is_ranked_beside_committed_ones_and_a_wrong_one_is_named(call, here):
    code, out, err = call("rank", "test_cli:wrong", "sgd", "--problems", "linear-2", "-q")
    lines = [line for line in out.splitlines() if line.strip()]
    names = " ".join(lines)
    assert "* sgd" in names
    assert " adam " in names
    assert "* adam" not in names  # it was not trained
    assert "failed" in lines[-2]
    assert "test_cli:wrong" in lines[-2]
    assert "test_cli:wrong fails: RuntimeError: not today" in err
    assert len(err.splitlines()) == 1
    assert code == 1
    page = (here / "reports" / "rank" / "index.html").read_text()
    assert "test_cli:wrong" in page
    assert "committed results" in page

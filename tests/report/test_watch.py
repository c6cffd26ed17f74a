"""The page of a run: what is stored so far, from the files alone."""

import os
import time

import pytest
from tiny_study import LINEAR

from scaling_study.cli import app as cli
from scaling_study.report import watch as module
from scaling_study.report.watch import WATCH, Watch, page
from scaling_study.storage.reader import status


def test_it_counts_what_is_stored(results):
    stored = Watch(results.folder, 0.0).read()  # every chunk is of this run
    assert (stored.runs, stored.asked) == (results.count, results.count)
    assert stored.statuses == {k: n for k, n in results.statuses.items() if n}
    assert stored.left == 0
    assert stored.curves["condition"].nunique() == module.MOST_CURVES
    assert stored.curves["condition"].str.contains("standard").any()


def test_time_left_is_of_the_chunks_of_this_run(build):
    results = build({"linear": LINEAR}, seeds=(0, 4))
    begun = time.time() - 10
    first, *others = sorted((results.folder / "chunks").iterdir())
    for file in others[1:]:
        file.unlink()
    os.utime(first, (begun - 100, begun - 100))
    stored = Watch(results.folder, begun).read()
    assert 0 < stored.runs < stored.asked
    new = stored.runs / 2
    assert stored.left == pytest.approx((stored.asked - stored.runs) / new * 10, rel=0.2)
    assert "left at this pace" in page(stored, "x", finished=False)
    os.utime(others[0], (begun - 100, begun - 100))
    assert "left at this pace" not in page(Watch(results.folder, begun).read(), "x", finished=False)


def test_it_reloads_until_the_run_has_finished(results):
    stored = Watch(results.folder, time.time()).read()
    running, finished = (page(stored, "<b>", finished=over) for over in (False, True))
    assert 'http-equiv="refresh"' in running
    assert "refresh" not in finished
    for text in (running, finished):
        assert "http:" not in text.replace("http://www.w3.org", "")
        assert "&lt;b&gt;" in text
        assert 'alt="Median loss' in text


def test_it_is_written_at_most_every_other_second(build):
    results = build({"linear": {"scaler": "none"}})
    watch = Watch(results.folder, time.time())
    watch()
    first = (results.folder / WATCH).stat().st_mtime_ns
    watch()
    assert (results.folder / WATCH).stat().st_mtime_ns == first
    watch(finished=True)
    assert (results.folder / WATCH).stat().st_mtime_ns > first
    assert status(results.folder).complete  # a page is no fault of the folder


@pytest.mark.parametrize("place", [["-o", "here"], []])
def test_a_run_is_watched(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.toml").write_text("epochs = 1\n")
    for seeds in ("0:2", "0:3"):
        with pytest.raises(SystemExit) as left:
            cli.main(["run", "one.toml", "--watch", "-q", "--seeds", seeds, *place])
        assert left.value.code == 0
    folder = tmp_path / "here" if place else tmp_path / "results" / "one"
    text = (folder / WATCH).read_text()
    assert "3 of 3 runs are stored" in text
    assert "finished" in text

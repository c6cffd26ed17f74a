"""The report on what networks hold for important: fit first, then distortion where they fit."""

from pathlib import Path

import pandas as pd

from scaling_study.analysis import attribution
from scaling_study.analysis.attribution import DISTINCT, FEWEST, GOOD_FIT, NETWORKS
from scaling_study.report import importance_plates as plates
from scaling_study.report import importance_words as words
from scaling_study.report.importance_plates import TITLES, short, unique
from scaling_study.report.importance_words import DECOY, inputs_of, is_plain
from scaling_study.report.labels import MISSING, listing, number, percent
from scaling_study.report.sections import Plate, Section, write_sections
from scaling_study.storage.results import Results
from scaling_study.study.conditions import expand

DRAWN = ("weight", "integrated_gradients", "permutation")  # of the networks, to be legible
OTHER_FITS = (0.8, 0.95)  # thresholds, for how much hangs on the one that is used
INTERVALS = "lines are 95 % t intervals over seeds"


def write_importance(results: Results, folder: Path) -> None:
    """Write the report of a study that records importances into an empty folder.

    Parameters
    ----------
    results : Results
        From `scaling_study.load`, of design U.
    folder : Path
    """
    kept = attribution.tuned_runs(results.runs)
    cells = attribution.goodness_of_fit(kept)
    read = attribution.per_run(results.features, kept)
    found = {name: attribution.cell_means(read, cells, name) for name in attribution.MEASURES}
    found["differences"] = attribution.mean_differences(read, cells)
    cells, found = words.named(cells), {name: words.named(own) for name, own in found.items()}
    networks = {
        str(condition.model): words.network_name(condition.model)
        for condition in expand(results.study)
        if condition.block.startswith(NETWORKS)
    }
    sections = [
        Section("What is measured", words.measured(results.study)),
        _of_fit(inputs_of(cells)),
        _of_units(found),
        _of_decoy(found),
        _of_scalers(found, attribution.paired_differences(read)),
        _of_networks(cells, found, networks),
    ]
    answer = [
        *words.answer_of_fit(cells),
        *words.answer_of_units(found["differences"]),
        *words.answer_of_lean(found["lean"]),
        *words.answer_of_decoy(found["last"]),
        *words.answer_of_networks(found["distortion"]),
    ]
    tables = {f"tables/{name}.csv": frame for name, frame in {"fit": cells, **found}.items()}
    shown = [section for section in sections if section.plates or section.paragraphs]
    others = {good_fit: _differences(results, good_fit) for good_fit in OTHER_FITS}
    limits = words.limits(results.study, others)
    write_sections(results, folder, answer, shown, limits, tables)


def _differences(results: Results, good_fit: float) -> pd.DataFrame:
    kept = attribution.tuned_runs(results.runs, good_fit)
    return attribution.mean_differences(
        attribution.per_run(results.features, kept), attribution.goodness_of_fit(kept)
    )


def _numbers(frame: pd.DataFrame) -> str:
    """Return how many seeds the estimates of a frame rest on."""
    own = frame.loc[frame["value"].notna(), "n"]
    least, most = int(own.min()), int(own.max())
    return f"n = {most}" if least == most else f"n = {least} to {most}"


# Sections -------------------------------------------------------------------------------------


def _of_fit(cells: pd.DataFrame) -> Section:
    n = int(cells["n"].max())
    problems = unique(cells["problem"])
    rows = []
    for name in unique(cells["input"]):
        own = cells[cells["input"] == name].set_index("problem")
        row = {"last column": name}
        for problem in problems:
            row[short(problem)] = _fit_text(own.loc[problem]) if problem in own.index else MISSING
        rows.append(row)
    plate = Plate(
        "fit",
        "Where networks fit",
        f"Share of {n} runs a row whose R² on held-out rows is at least {GOOD_FIT}, with Wilson's"
        " 95 % interval, each with the rate that the other seeds chose. Raw: the last column as it"
        " comes, times a scale factor or plus an offset.",
        plates.draw_fit(cells),
        cells,
    )
    lost, edges = int(cells["lost"].sum()), int(cells["edge"].sum())
    paragraph = (
        f"{lost} of the {int(cells['n'].sum()):,} runs reported here diverged. The best rate is an"
        f" end of the grid in {edges} of {len(cells)} cells. Where no run fits, the table says so,"
        " and nothing is read from it below."
    )
    note = (
        "How many runs fit, whose share has its interval in figure 1; the median R² of all that"
        " did not diverge, with its 95 % interval by order statistics."
    )
    return Section("Where the networks fit", (paragraph,), pd.DataFrame(rows), note, (plate,))


def _fit_text(row: pd.Series) -> str:
    share = f"{int(row['fitting'])} of {int(row['n'])}"
    ends = f"[{number(row['r2_low'], 2)}, {number(row['r2_high'], 2)}]"
    return f"{share}; R² {number(row['r2'], 2)} {ends}"


def _of_units(found: dict[str, pd.DataFrame]) -> Section:
    own, difference = inputs_of(found["distortion"]), inputs_of(found["differences"])
    plain = own[is_plain(own) & (own["scaler"] == "standard")]
    raw = own[(own["scaler"] == "none") & (own["offset"] == 0)]
    shown = difference[difference["scaler"] == "none"]
    if raw["value"].isna().all() or shown["value"].isna().all():
        return Section("What a unit does")
    both = pd.concat([raw, plain], ignore_index=True)
    pair = (
        Plate(
            "scales",
            "Distortion over the unit of the last column, as it comes",
            f"Mean over the runs that fit ({_numbers(both)}); {INTERVALS}; dashed, the same on"
            " standardised columns. No point where fewer than"
            f" {FEWEST} runs fit. Points of a factor are set apart to be seen.",
            plates.draw_scales(raw, plain),
            both,
        ),
        Plate(
            "differences",
            "What raw inputs add to the distortion, within a seed",
            "Mean over the seeds where both the raw and the standardised run fit"
            f" ({_numbers(shown)}); bold where the 95 % t interval excludes 0; grey where"
            f" fewer than {FEWEST} seeds are left.",
            plates.draw_differences(shown),
            shown,
        ),
    )
    return Section("What a unit and an offset do", (), None, "", pair)


def _of_decoy(found: dict[str, pd.DataFrame]) -> Section:
    flips, last = (_raw_or_standard(found[name]) for name in ("flipped", "last"))
    ordered = flips[flips["value"].notna()]
    last = last[(last["problem"].map(short) == DECOY) & last["value"].notna()]
    heading = "The wrong way round"
    if not len(ordered) and not len(last):
        return Section(heading)
    alike = [short(p) for p in unique(flips["problem"]) if p not in set(ordered["problem"])]
    paragraph = (
        f"A ranking is flipped if, of two columns whose true shares are {DISTINCT} or more apart,"
        " the one that matters more is given less. What standardised columns show as often is not"
        " the unit's doing." + (f" No such pair was read of {listing(alike)}." if alike else "")
    )
    note = (
        "How many of the runs that fit have a ranking that is flipped, and Wilson's 95 % interval"
        " of their share in percent."
    )
    shown = (_decoy_plate(last),) if len(last) else ()
    return Section(heading, (paragraph,), _flip_table(ordered), note, shown)


def _raw_or_standard(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the inputs as they come, by scale factor, and the standardised ones."""
    own = inputs_of(frame)
    raw = (own["scaler"] == "none") & (own["offset"] == 0)
    return own[raw | ((own["scaler"] == "standard") & is_plain(own))]


def _decoy_plate(last: pd.DataFrame) -> Plate:
    return Plate(
        "decoy",
        "What is given to a column that does nothing",
        f"Its mean share over the runs that fit ({_numbers(last)}); {INTERVALS}; dotted, the"
        " truth, 0.",
        plates.draw_methods(last, "input", "share of the decoy", truth=0.0),
        last,
    )


def _flip_table(flips: pd.DataFrame) -> pd.DataFrame | None:
    rows = []
    for problem, method in dict.fromkeys(zip(flips["problem"], flips["method"], strict=True)):
        own = flips[(flips["problem"] == problem) & (flips["method"] == method)].set_index("input")
        row = {"problem": short(problem), "method": TITLES[method]}
        for name in unique(flips["input"]):
            row[name] = _flip_text(own.loc[name]) if name in own.index else "too few fit"
        rows.append(row)
    return pd.DataFrame(rows) if rows else None


def _flip_text(row: pd.Series) -> str:
    count = f"{round(row['value'] * row['n'])} of {int(row['n'])}"
    return f"{count} [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"


def _of_scalers(found: dict[str, pd.DataFrame], paired: pd.DataFrame) -> Section:
    own = inputs_of(found["distortion"])
    own = own[(own["scaler"] != "none") & (is_plain(own) | (own["scaler"] == "maxabs"))]
    if own["value"].isna().all():
        return Section("Scalers")
    plate = Plate(
        "scalers",
        "Distortion by scaler",
        f"Mean over the runs that fit ({_numbers(own)}); {INTERVALS}.",
        plates.draw_methods(own, "input", "distortion (total variation of shares)", truth=None),
        own,
    )
    undone = paired.loc[(paired["scaler"] == "standard") & (paired["part"] == "inputs"), "value"]
    if not len(undone):
        return Section("Scalers", (), None, "", (plate,))
    paragraph = (
        f"Standardising undoes a factor and an offset: over {len(undone):,} readings of runs with"
        " one and without, the largest difference of distortion is"
        f" {number(float(undone.abs().max()), 2)}. It is a check, and counts as no further"
        " evidence. maxabs divides, and leaves an offset where it is."
    )
    return Section("Scalers", (paragraph,), None, "", (plate,))


def _of_networks(
    cells: pd.DataFrame, found: dict[str, pd.DataFrame], names: dict[str, str]
) -> Section:
    heading = "Width, depth, activation and initialisation"
    own = found["distortion"]
    own = own[own["part"] == NETWORKS]
    own = own.assign(network=own["model"].map(names))
    if not len(own) or own["value"].isna().all():
        return Section(heading)
    places = {model: place for place, model in enumerate(names)}
    problems = {problem: place for place, problem in enumerate(unique(own["problem"]))}
    own = own.assign(first=own["problem"].map(problems), then=own["model"].map(places))
    own = own.sort_values(["first", "then"], kind="stable").drop(columns=["first", "then"])
    few = cells[(cells["part"] == NETWORKS) & (cells["fitting"] < FEWEST)]
    least = cells.loc[cells["part"] == NETWORKS, "value"].min()
    plate = Plate(
        "networks",
        "Distortion of other networks",
        f"Mean over the runs that fit ({_numbers(own)}); {INTERVALS}. Widths of the"
        " hidden layers, activation, and the initialisation where it is not Glorot's uniform one.",
        plates.draw_networks(own, tuple(m for m in DRAWN if m in set(own["method"]))),
        own,
    )
    paragraph = (
        f"Of {int((cells['part'] == NETWORKS).sum())} cells {len(few)} have fewer than {FEWEST}"
        f" runs that fit; the least share of runs that fit is {percent(float(least))}."
        " tables/fit.csv has each, and tables/distortion.csv the methods that are not drawn."
    )
    return Section(heading, (paragraph,), None, "", (plate,))

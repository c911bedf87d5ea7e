"""The model card of a surface, made of the facts of this moment; what belongs in it: Mitchell et al. 2019."""

from collections.abc import Mapping, Sequence

from headwater.console import moment
from headwater.features_page import feature_table
from headwater.models_text import heads_table, history, interval, segments_table, verdict
from online_models.ranking import ranking_registry
from state.models import HeadFacts, Lifecycle

_WHAT = {
    "click": "probability that a shown slot is taken: it earns a reward, or one of the heads below",
    "dwell": "probability that a taken slot leads to long dwell",
    "purchase": "probability that a taken slot leads to a purchase",
}
_KINDS = {
    "linear": "River logistic regression, AdaGrad",
    "fm": "River factorisation machine, AdaGrad and SGD",
}


def card_of(surface: str, lanes: Mapping[int, Lifecycle]) -> list[str]:
    """Return the card in Markdown, one line each."""
    lines = [f"# Click models of surface {surface}", ""]
    for lane, life in lanes.items():
        lines += [f"## Lane {lane}", ""] if len(lanes) > 1 else []
        lines += [*_model(life), *_training(life), *_measures(life), *_drift(life), *_life(life)]
    return [*lines, *_features(next(iter(lanes.values())))]


def _model(life: Lifecycle) -> list[str]:
    rows = [[head, _KINDS.get(one.kind, one.kind), _WHAT.get(head, "")] for head, one in life.heads.items()]
    return [
        "### What it is", "",
        *_table(["head", "model", "answers"], rows), "",
        "Learnt online from closed decisions, judged before each is learnt, scored by loops over the same",
        "weights. Its logit is an input of the exploring policy; it decides on nothing but order.", "",
    ]  # fmt: skip


def _training(life: Lifecycle) -> list[str]:
    click, window = life.heads.get("click"), f"{moment(life.began)} to {moment(life.updated)} (UTC)"
    rows, steps = (click.rows, click.steps) if click else (0, 0)
    return [
        "### Training", "",
        f"- data: {life.outcomes:,} outcomes that closed from {window}",
        f"- slots judged and learnt: {rows:,}, in {steps:,} steps",
        f"- champion since version {life.champion or '-'}; promotions: {life.promotes}",
        f"- crosses: {', '.join('*'.join(pair) for pair in life.crosses) or 'none'}",
        f"- hashed crosses: {', '.join('*'.join(parts) for parts in life.hashed) or 'none'}",
        f"- fingerprint of its rows: `{life.features}`", "",
    ]  # fmt: skip


def _measures(life: Lifecycle) -> list[str]:
    return [
        "### Measures", "",
        "Progressive validation; `recent` and what follows look at about the last 20,000 rows, segments at",
        "100,000. `ece` is the expected calibration error after, `ece before` before correction.", "",
        *_code(heads_table(life.heads)), "", "By segment:", "", *_code(segments_table(life.segments)), "",
    ]  # fmt: skip


def _drift(life: Lifecycle) -> list[str]:
    lines = [f"- {head}: {_alarms(one)}" for head, one in life.heads.items()]
    found = [f"- {moment(step.at)}: {step.detail}" for step in life.steps if step.what == "drift"]
    return ["### Drift", "", *lines, *found, ""]


def _alarms(one: HeadFacts) -> str:
    alarms = f"{one.calibration_alarms} alarms of calibration, {one.loss_alarms} of loss"
    return f"{alarms}; memory {one.memory_rows:,.0f} rows"


def _life(life: Lifecycle) -> list[str]:
    versions = [
        [str(one.number), one.label, moment(one.at), f"{one.rows:,}", f"{one.checksum:08x}", one.why]
        for one in life.versions
    ]
    shadows = [
        [name, str(one.document.get("kind", "")), f"{one.evidence.outcomes:,}", interval(one.evidence),
         verdict(one.evidence)]
        for name, one in life.shadows.items()
    ]  # fmt: skip
    return [
        "### Versions, shadows and history", "",
        *_table(["version", "name", "kept", "rows", "crc32", "for"], versions), "",
        *_table(["shadow", "kind", "outcomes", "log loss less champion's", "verdict"], shadows), "",
        *_code(history(life)), "",
    ]  # fmt: skip


def _features(life: Lifecycle) -> list[str]:
    registry = ranking_registry()
    note = "" if life.features == registry.fingerprint() else " of this version; the model has others"
    return [
        f"### Features{note}", "",
        "Profile features stay at their default for visitors without consent.", "",
        *feature_table(registry),
    ]  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["None."]
    return [_row(head), "|" + "---|" * len(head), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _code(lines: Sequence[str]) -> list[str]:
    return ["```", *lines, "```"]

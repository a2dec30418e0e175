"""The tables of the simulations and of the replay, from the documents in study/results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from marks import markdown

TREES = ("top2", "systematic", "systematic, fan_out 4", "systematic, fan_out 2")
NAMES = {"aime2024": "AIME 2024", "aime2025": "AIME 2025", "gpqa diamond": "GPQA-Diamond", "math500": "MATH-500"}
Row = dict[str, Any]
Documents = Mapping[str, dict[str, Any]]
"""By the script that wrote them."""


def table(documents: Documents, name: str) -> list[Row]:
    """One of the tables of `long_answers.py`."""
    kept_table = documents["long_answers"][name]
    return [dict(zip(kept_table["columns"], row, strict=True)) for row in kept_table["rows"]]


def pick(rows: Sequence[Row], **wanted: Any) -> Row:
    """The one row with these values."""
    (row,) = (row for row in rows if all(row[name] == value for name, value in wanted.items()))
    return row


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def gain(row: Row, figure: str) -> str:
    return f"{row[f'{figure}_gain']:+.3f} ± {row[f'{figure}_gain_error']:.3f}"


def law(documents: Documents) -> str:
    rows = table(documents, "law")
    head = ["tokens ≥ θ in an answer"]
    head += [f"M {most}, {name}" for most in (8, 32) for name in ("`top2`", "formula", "`systematic`", "`fan_out` 2")]
    head += ["last branch of `top2`, M 32"]
    body = []
    for tokens in sorted({row["uncertain_tokens"] for row in rows}):
        line = [f"{tokens:.0f}"]
        for most in (8, 32):
            found = {
                name: pick(rows, uncertain_tokens=tokens, max_sequences=most, design=name)
                for name in ("top2", "systematic", "systematic, fan_out 2")
            }
            formula = (sum(1 / k for k in range(1, most + 1)) - 1) / tokens
            line += [percent(found["top2"]["saved"]), percent(formula) if formula < 0.5 else "-"]
            line += [percent(found[name]["saved"]) for name in ("systematic", "systematic, fan_out 2")]
        line.append(percent(found["top2"]["last_branch"]))
        body.append(line)
    return markdown(head, body)


def grid(documents: Documents) -> str:
    rows = table(documents, "grid")
    lengths = sorted({row["length"] for row in rows})
    body = []
    for theta in sorted({row["theta"] for row in rows}):
        line = [f"{theta:g}"]
        for length in lengths:
            found = [pick(rows, theta=theta, length=length, max_sequences=32, design=name)["saved"] for name in TREES]
            line.append(" / ".join(percent(saved) for saved in found))
        body.append(line)
    return markdown(["θ", *(f"{length:,} tokens" for length in lengths)], body)


def by_budget(documents: Documents) -> str:
    rows = table(documents, "grid")
    body = []
    for most in sorted({row["max_sequences"] for row in rows}):
        found = [pick(rows, theta=2.0, length=10_000, max_sequences=most, design=name) for name in TREES]
        places = (f"{percent(row['median_branch'])}, {percent(row['last_branch'])}" for row in found)
        body.append(
            [str(most), *(f"{percent(row['saved'])} ({place})" for row, place in zip(found, places, strict=True))]
        )
    return markdown(["M", *(f"`{name}`" for name in TREES)], body)


def assumptions(documents: Documents) -> str:
    rows = table(documents, "assumptions")
    cells = [(3_000, 2.0), (30_000, 2.0), (30_000, 2.5)]
    body = []
    for name in dict.fromkeys(row["assumption"] for row in rows):
        line = [name]
        for length, theta in cells:
            found = [
                pick(rows, assumption=name, length=length, theta=theta, design=design)["saved"]
                for design in ("top2", "systematic", "systematic, fan_out 2")
            ]
            line.append(" / ".join(percent(saved) for saved in found))
        body.append(line)
    return markdown(["assumption", *(f"{length:,} tokens, θ {theta:g}" for length, theta in cells)], body)


def votes(documents: Documents) -> str:
    rows = [row for row in table(documents, "votes") if (row["length"], row["kind"]) == (10_000, "mixed")]
    body = []
    for name in dict.fromkeys(row["strategy"] for row in rows):
        anywhere = pick(rows, strategy=name, decided="anywhere")
        best = pick(rows, strategy=name, decided="where θ is reached")
        line = [name, percent(anywhere["saved"]), gain(anywhere, "vote"), gain(anywhere, "pass_at_max")]
        line += [gain(best, "vote"), gain(best, "pass_at_max"), f"{anywhere['sequences']:.1f}"]
        body.append([*line, f"{anywhere['rounds']:.1f}"])
    head = ["strategy, M 32", "saved", "vote", "pass@max", "vote, decided at θ", "pass@max, decided at θ"]
    return markdown([*head, "sequences", "rounds"], body)


def rounds(documents: Documents) -> str:
    rows = [row for row in table(documents, "votes") if row["decided"] == "anywhere"]
    names = [name for name in dict.fromkeys(row["strategy"] for row in rows) if name.startswith("rounds")]
    body = []
    for name in names:
        line = [name]
        for kind in dict.fromkeys(row["kind"] for row in rows):
            row = pick(rows, strategy=name, kind=kind, length=10_000)
            line.append(f"{percent(row['saved'])}, vote {gain(row, 'vote')}, pass@max {row['pass_at_max_gain']:+.3f}")
        body.append(line)
    return markdown(["saved and lost", *(f"{kind} questions" for kind in dict.fromkeys(r["kind"] for r in rows))], body)


def estimates(most: int, documents: Documents) -> str:
    rows = [row for row in documents["estimates"]["rows"] if row["max_sequences"] == most]
    if not rows:
        raise KeyError(f"estimates, M {most}")
    blocks = []
    for model in dict.fromkeys(row["model"] for row in rows):
        body = [
            [
                row["design"],
                f"{row['bias']:+.3f} ± {row['bias_error']:.3f}",
                f"{row['rms']:.3f}",
                f"{row['relative_squared_error']:.2f}",
                f"{row['relative_tokens']:.2f}",
                f"{row['product']:.2f} ± {row['product_error']:.2f}",
                f"{row['plain_bias']:+.3f} ± {row['plain_bias_error']:.3f}",
                f"{row['plain_rms']:.3f}",
                f"{row['sequences']:.1f}",
                f"{row['pass_at_max']:.3f}",
            ]
            for row in rows
            if row["model"] == model
        ]
        head = ["design", "bias", "rms", "error²", "tokens", "product", "plain bias", "plain rms", "sequences"]
        blocks.append(f"{model[0].upper()}{model[1:]}, M {most}:\n\n{markdown([*head, 'pass@max'], body)}")
    return "\n\n".join(blocks)


def replayed(row: Row) -> tuple[str, str]:
    """Which questions, and which model answered them."""
    questions, model = row["file"].removesuffix(".jsonl.gz").split("_", 1)
    if questions == "gpqa":
        questions, model = "gpqa diamond", model.removeprefix("diamond_")
    return NAMES[questions], model


def recorded(documents: Documents) -> str:
    """`study/replay.py` over recorded answers."""
    body = []
    for row in documents["replay"]["rows"]:
        questions, model = replayed(row)
        line = [f"{questions}, {model}", str(row["questions"]), f"{row['all']:.3f}", f"{row['race']:.3f}"]
        line += [f"{row['difference']:+.4f}", f"{row['tokens']:.2f}", f"{row['time']:.2f}", f"{row['settled']:.0%}"]
        body.append(line)
    rows = documents["replay"]["rows"]
    means = [sum(row[name] for row in rows) / len(rows) for name in ("difference", "tokens", "time", "settled")]
    body.append(["mean of the sets", "", "", "", f"{means[0]:+.4f}", *(f"{one:.2f}" for one in means[1:3])])
    body[-1].append(f"{means[3]:.0%}")
    head = [
        "questions, model",
        "questions",
        "vote of 64",
        "vote of the race",
        "difference",
        "tokens",
        "time",
        "settled",
    ]
    return markdown(head, body)


def recorded_by_questions(documents: Documents) -> str:
    """The same in short, over the models that answered."""
    by_questions: dict[str, list[Row]] = {}
    for row in documents["replay"]["rows"]:
        by_questions.setdefault(replayed(row)[0], []).append(row)
    body = []
    for name, rows in by_questions.items():
        tokens, changes = ([row[what] for row in rows] for what in ("tokens", "difference"))
        body.append([name, str(len(rows)), f"{min(tokens):.2f} to {max(tokens):.2f}"])
        low, high = (f"{round(change, 3) + 0.0:+.3f}".replace("-", "−") for change in (min(changes), max(changes)))
        body[-1].append(f"{low} to {high}")
    return markdown(["questions", "models", "tokens, of those of 64 answers", "change of the vote"], body)


TABLES: Mapping[str, Callable[[Documents], str]] = {
    "recorded answers": recorded,
    "recorded answers by questions": recorded_by_questions,
    "law": law,
    "grid": grid,
    "by budget": by_budget,
    "assumptions": assumptions,
    "votes": votes,
    "rounds": rounds,
    "estimates, M 8": partial(estimates, 8),
    "estimates, M 16": partial(estimates, 16),
}
"""By the name that a table has in its page."""

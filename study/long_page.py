"""The tables of docs/study-long.md, from the numbers in study/results.

python study/long_page.py      writes them into the page
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from marks import fill, markdown

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "study-long.md"
TREES = ("top2", "systematic", "systematic, fan_out 4", "systematic, fan_out 2")
NAMES = {"aime2024": "AIME 2024", "aime2025": "AIME 2025", "gpqa diamond": "GPQA-Diamond", "math500": "MATH-500"}
Row = dict[str, Any]


def kept(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ROOT / "study" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return document


def table(name: str) -> list[Row]:
    """One of the tables of `long_answers.py`."""
    kept_table = kept("long_answers")[name]
    return [dict(zip(kept_table["columns"], row, strict=True)) for row in kept_table["rows"]]


def pick(rows: Sequence[Row], **wanted: Any) -> Row:
    """The one row with these values."""
    (row,) = (row for row in rows if all(row[name] == value for name, value in wanted.items()))
    return row


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def gain(row: Row, figure: str) -> str:
    return f"{row[f'{figure}_gain']:+.3f} ± {row[f'{figure}_gain_error']:.3f}"


def law() -> str:
    rows = table("law")
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


def grid() -> str:
    rows = table("grid")
    lengths = sorted({row["length"] for row in rows})
    body = []
    for theta in sorted({row["theta"] for row in rows}):
        line = [f"{theta:g}"]
        for length in lengths:
            found = [pick(rows, theta=theta, length=length, max_sequences=32, design=name)["saved"] for name in TREES]
            line.append(" / ".join(percent(saved) for saved in found))
        body.append(line)
    return markdown(["θ", *(f"{length:,} tokens" for length in lengths)], body)


def by_budget() -> str:
    rows = table("grid")
    body = []
    for most in sorted({row["max_sequences"] for row in rows}):
        found = [pick(rows, theta=2.0, length=10_000, max_sequences=most, design=name) for name in TREES]
        places = (f"{percent(row['median_branch'])}, {percent(row['last_branch'])}" for row in found)
        body.append(
            [str(most), *(f"{percent(row['saved'])} ({place})" for row, place in zip(found, places, strict=True))]
        )
    return markdown(["M", *(f"`{name}`" for name in TREES)], body)


def assumptions() -> str:
    rows = table("assumptions")
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


def votes() -> str:
    rows = [row for row in table("votes") if (row["length"], row["kind"]) == (10_000, "mixed")]
    body = []
    for name in dict.fromkeys(row["strategy"] for row in rows):
        anywhere = pick(rows, strategy=name, decided="anywhere")
        best = pick(rows, strategy=name, decided="where θ is reached")
        line = [name, percent(anywhere["saved"]), gain(anywhere, "vote"), gain(anywhere, "pass_at_max")]
        line += [gain(best, "vote"), gain(best, "pass_at_max"), f"{anywhere['sequences']:.1f}"]
        body.append([*line, f"{anywhere['rounds']:.1f}"])
    head = ["strategy, M 32", "saved", "vote", "pass@max", "vote, decided at θ", "pass@max, decided at θ"]
    return markdown([*head, "sequences", "rounds"], body)


def rounds() -> str:
    rows = [row for row in table("votes") if row["decided"] == "anywhere"]
    names = [name for name in dict.fromkeys(row["strategy"] for row in rows) if name.startswith("rounds")]
    body = []
    for name in names:
        line = [name]
        for kind in dict.fromkeys(row["kind"] for row in rows):
            row = pick(rows, strategy=name, kind=kind, length=10_000)
            line.append(f"{percent(row['saved'])}, vote {gain(row, 'vote')}, pass@max {row['pass_at_max_gain']:+.3f}")
        body.append(line)
    return markdown(["saved and lost", *(f"{kind} questions" for kind in dict.fromkeys(r["kind"] for r in rows))], body)


def estimates(most: int) -> Callable[[], str]:
    def models() -> str:
        rows = [row for row in kept("estimates")["rows"] if row["max_sequences"] == most]
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

    return models


def recorded() -> str:
    """`study/replay.py` over recorded answers."""
    body = []
    for row in kept("replay")["rows"]:
        questions, model = row["file"].removesuffix(".jsonl.gz").split("_", 1)
        if questions == "gpqa":
            questions, model = "gpqa diamond", model.removeprefix("diamond_")
        line = [f"{NAMES[questions]}, {model}", str(row["questions"]), f"{row['all']:.3f}", f"{row['race']:.3f}"]
        line += [f"{row['difference']:+.4f}", f"{row['tokens']:.2f}", f"{row['time']:.2f}", f"{row['settled']:.0%}"]
        body.append(line)
    rows = kept("replay")["rows"]
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


TABLES: dict[str, Callable[[], str]] = {
    "recorded answers": recorded,
    "law": law,
    "grid": grid,
    "by budget": by_budget,
    "assumptions": assumptions,
    "votes": votes,
    "rounds": rounds,
    "estimates, M 8": estimates(8),
    "estimates, M 16": estimates(16),
}


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8"), TABLES), encoding="utf-8")

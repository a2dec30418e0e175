"""What several givers say of options, as one: other names, values that ask for nothing, and who wins (SPEC 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

__all__ = ["ALIASES", "NEUTRAL", "REMOVED", "contradictions", "merged", "overridden"]

ALIASES = {"max_completion_tokens": "max_gen_toks", "max_tokens": "max_gen_toks", "max_new_tokens": "max_gen_toks"}
"""The harness's other names for one option; of several, a later one wins, and the option's own name over all."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "early_stopping": (False,),
    "length_penalty": (0, 1),
    "repetition_penalty": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "no_repeat_ngram_size": (0,),
    "skip_special_tokens": (True,),
    "use_cache": (True,),
}
"""Of generation kwargs that task files carry for other models, the values that ask for nothing: these are accepted."""


class Removed(NamedTuple):
    """An option that there was."""

    version: str
    """The first one without it."""
    default: Any
    """What it was where nobody gave it."""
    instead: str
    """What to do, as an error ends."""


REMOVED: Mapping[str, Removed] = {
    "reallocation": Removed("0.2.0", "restart", "leave it out; restart, the paper's, is the one there is"),
    "round_sequences": Removed("0.2.0", None, "leave it out; strategy=consistency is a race, with first_lanes"),
    "signal": Removed(
        "0.2.0", "saturated", "leave it out for saturated; strategy=consistency goes by the vote for unsettled"
    ),
    "tie_margin": Removed("0.2.0", "auto", "leave it out; dtype=float64 gives equal sequences whatever the batch is"),
}
"""Given by a user, they are refused; runs that were made with them are still read."""


def contradictions(*layers: Mapping[str, Any]) -> list[str]:
    """What the givers (as for `resolve`) say against each other or themselves, and what of it counts."""
    given, found = merged(layers), []
    for layer in layers:
        lengths = {name: layer[name] for name in (*ALIASES, "max_gen_toks") if name in layer}
        if len(set(map(str, lengths.values()))) > 1:
            found.append(f"{_listed(lengths)} are one option: {merged([layer])['max_gen_toks']} counts")
    temperature = given.get("temperature", 0)
    if given.get("do_sample") is False and float(temperature) > 0:
        found.append(f"do_sample=False wins over temperature={temperature}: the most likely token is always taken")
    if given.get("do_sample") is True and float(temperature) == 0:
        found.append("do_sample=True at temperature 0 samples nothing: give a temperature, such as temperature=1.0")
    return found


def overridden(weak: Mapping[str, Any], strong: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``weak`` has no effect because ``strong`` gives the same options other values."""
    stronger = merged([strong])
    return {
        name: value for name, value in merged([weak]).items() if name in stronger and str(stronger[name]) != str(value)
    }


def merged(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One value an option, by its own name; the strongest giver, who comes first, wins."""
    given: dict[str, Any] = {}
    for layer in reversed(list(layers)):
        given |= {ALIASES[name]: layer[name] for name in ALIASES if name in layer}
        given |= {name: value for name, value in layer.items() if name not in ALIASES and not _is_neutral(name, value)}
    return given


def _is_neutral(name: str, value: Any) -> bool:
    return name in NEUTRAL and (value in NEUTRAL[name] or str(value).lower() in map(str.lower, map(str, NEUTRAL[name])))


def _listed(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in given.items())

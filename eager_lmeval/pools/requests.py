"""The harness's requests as pools (SPEC 1): who belongs together, with which options, M and prompt.

Everything that can be wrong with the input is found here, before anything is generated.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from eager_lmeval.algorithm.givers import contradictions, overridden
from eager_lmeval.algorithm.options import Options, resolve
from eager_lmeval.algorithm.tree import Prompt
from eager_lmeval.errors import UsageError
from eager_lmeval.pools.labels import document_options
from eager_lmeval.pools.marks import reads_tree

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

__all__ = ["Encoder", "Pool", "Request", "make_pools", "one_order", "unique_requests"]

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own


class Encoder(Protocol):
    """What turns a context into a prompt's token ids; ``max_length`` is the model's context in tokens."""

    max_length: int

    def encode(self, context: str, room: int) -> list[int]:
        """Token ids; where truncation was asked for, only the last ones, so that ``room`` tokens are left."""


@dataclass(eq=False)
class Request:
    """One Instance of the harness, which may stand in the call several times (``repeats``, padding)."""

    task: str
    doc_id: int | None
    repeats: int
    context: str
    gen_kwargs: Mapping[str, Any]
    from_doc: Mapping[str, Any]
    """The options that its document carries."""
    reads_tree: bool = False
    """Whether its task reads the whole tree and not only ``repeats`` texts of it."""
    rank: int = 0
    """The rank that has to answer it."""
    instance: Instance | None = None
    """On that rank alone."""
    places: list[int] = field(default_factory=list)
    """Where in that rank's call its responses go."""

    def for_others(self) -> Request:
        """What other ranks have to know of it."""
        return replace(self, instance=None, places=[])

    @property
    def doc(self) -> Mapping[str, Any]:
        """The document of one of this rank's requests."""
        assert self.instance is not None, "a request of another rank"
        return self.instance.doc if isinstance(self.instance.doc, Mapping) else {}


@dataclass
class Pool:
    """All requests of one task with equal options; ``prompts[i]`` is that of ``requests[i]``."""

    task: str
    options: Options
    visible_sequences: int | None = None
    """How many sequences of a prompt anything can see (SPEC 7); None: all."""
    requests: list[Request] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)

    @property
    def shortened_prompts(self) -> int:
        """Prompts whose sequences may not have ``max_gen_toks`` tokens, because the context has no room for them."""
        return sum(prompt.max_new_tokens < self.options.max_gen_toks for prompt in self.prompts)

    @property
    def docs(self) -> list[tuple[Prompt, Mapping[str, Any]]]:
        """This rank's prompts with their documents."""
        pairs = zip(self.prompts, self.requests, strict=True)
        return [(prompt, request.doc) for prompt, request in pairs if request.instance is not None]


def unique_requests(instances: Sequence[Instance], rank: int = 0) -> list[Request]:
    """The call's Instances, each once, told apart by identity: clones and padding are the same object."""
    requests: dict[int, Request] = {}
    for place, instance in enumerate(instances):
        if id(instance) not in requests:
            requests[id(instance)] = _request(instance, rank)
        requests[id(instance)].places.append(place)
    return list(requests.values())


def _request(instance: Instance, rank: int) -> Request:
    return Request(
        task=instance.task_name or "unnamed",
        doc_id=instance.doc_id,
        repeats=instance.repeats or 1,
        context=instance.args[0],
        gen_kwargs=instance.args[1] if len(instance.args) > 1 else {},
        from_doc=document_options(instance.doc) if isinstance(instance.doc, Mapping) else {},
        reads_tree=reads_tree(instance),
        rank=rank,
        instance=instance,
    )


def one_order(by_rank: Sequence[Sequence[Request]]) -> list[Request]:
    """All ranks' requests in the order in which one process would get them: by task, then by document.

    Of one rank alone the order is kept. The harness gives document d to rank d mod (number of ranks).
    """
    if len(by_rank) == 1:
        return list(by_rank[0])
    tasks = {task: None for requests in by_rank for task in dict.fromkeys(request.task for request in requests)}
    order = {task: place for place, task in enumerate(tasks)}
    keyed = [
        ((order[request.task], -1 if request.doc_id is None else request.doc_id, place, request.rank), request)
        for requests in by_rank
        for place, request in enumerate(requests)
    ]
    return [request for _, request in sorted(keyed, key=lambda pair: pair[0])]


def make_pools(
    requests: Sequence[Request], model_options: Mapping[str, Any], default_seed: int, encoder: Encoder
) -> list[Pool]:
    """Pools in the order of their first request. Raises UsageError for bad options and prompts that do not fit."""
    pools: dict[tuple[str, Options, int | None], Pool] = {}
    resolved: dict[str, tuple[Options, int | None]] = {}
    warned: set[tuple[str, str]] = set()
    for request in requests:
        task = request.task
        layers = _layers(request, model_options, default_seed)
        cache_key = f"{task} {request.reads_tree} {layers}"
        if cache_key not in resolved:
            options, visible, warnings = _resolve(request, layers)
            for warning in warnings:
                if (task, warning) not in warned:
                    warned.add((task, warning))
                    log.warning("task %r: %s", task, warning)
            _check_length(options, encoder.max_length, task)
            resolved[cache_key] = options, visible
        options, visible = resolved[cache_key]
        pool = pools.setdefault((task, options, visible), Pool(task, options, visible))
        pool.prompts.append(_prompt(request, len(pool.prompts), task, options, encoder))
        pool.requests.append(request)
    for pool in pools.values():
        if pool.shortened_prompts:
            log.warning(
                "task %r: %d of %d prompts leave less room in the model's context of %d tokens than max_gen_toks=%d: "
                "their sequences may be cut off earlier",
                *(pool.task, pool.shortened_prompts, len(pool.prompts), encoder.max_length, pool.options.max_gen_toks),
            )
    return list(pools.values())


def _layers(request: Request, model_options: Mapping[str, Any], default_seed: int) -> list[Mapping[str, Any]]:
    """Where a request's options come from, the strongest first (DESIGN, "The harness")."""
    repeats = {"max_sequences": request.repeats} if request.repeats > 1 else {}
    return [repeats, request.gen_kwargs, model_options, request.from_doc, {"seed": default_seed}]


def _resolve(request: Request, layers: list[Mapping[str, Any]]) -> tuple[Options, int | None, list[str]]:
    """The options of a request, how many of its sequences anything can see (None: all), and what to warn about.

    Where nothing reads more than the texts of a prompt and nothing chooses among its sequences, no more sequences than
    texts are paid for (SPEC 7).
    """
    origin = f"task {request.task!r}"
    texts = request.repeats
    asked = resolve(*layers, origin=origin, complete=False)
    if request.reads_tree or asked.respond == "vote":
        options = resolve(*layers, origin=origin)
        return options, None, _warnings(options, layers) + _outvoted(request, options)
    if asked.max_sequences > texts:  # one: repeats are M
        options = resolve({"max_sequences": 1}, *layers, origin=origin)
        return options, texts, [*_warnings(options, layers), _lowered(asked.max_sequences)]
    options = resolve(*layers, origin=origin)
    return options, texts, _warnings(options, layers) + _unseen(options, texts)


def _outvoted(request: Request, options: Options) -> list[str]:
    if options.respond == "first" or request.reads_tree or request.repeats == 1:
        return []
    return [
        f"respond=vote makes the {request.repeats} texts that the task reads of a document one and the same: its own "
        f"filters have nothing to choose among; leave respond out"
    ]


def _lowered(asked: int) -> str:
    return (
        f"max_sequences={asked} is lowered to 1: the task reads one text of a document, and nothing would see the "
        f"other sequences; respond=vote with verifier=math makes the winner of their vote the response, tasks that "
        f"score whole trees use them all (`eager-lmeval paths tasks`), and so does a task with repeats: {asked}"
    )


def _unseen(options: Options, texts: int) -> list[str]:
    """Where an option cannot do what it seems to, because the task reads no more than the texts of a document."""
    found = []
    if texts > 1 and options.strategy == "adapt":
        found.append(
            f"strategy=adapt does what init does: its second stage is for documents that have all of their {texts} "
            f"sequences, and the task reads no more than {texts} texts of one"
        )
    forks_both_ways = options.strategy != "parallel" and options.branching == "top2"
    if texts > 1 and (options.strategy == "consistency" or forks_both_ways):
        made = "a race's ended ones" if options.strategy == "consistency" else "both sides of each fork"
        found.append(
            f"the {texts} texts that the task reads of a document are {made}: its own mean over repeats is no estimate "
            f"of independent samples'; take strategy=parallel, or strategy=init,branching=systematic"
        )
    if texts > 1 and options.strategy != "parallel" and options.count == "active":
        found.append(
            f"count=active bounds the unfinished sequences only: a document may get more than the {texts} that the "
            f"task reads; give count=all"
        )
    return found


def _warnings(options: Options, layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is allowed but cannot do what it seems to; ``layers`` as `_layers` has them."""
    repeats, gen_kwargs, model_options, *_ = layers
    return [
        *contradictions(*layers),
        *options.warnings(),
        *(
            f"{name}={value} of {giver} has no effect, because {stronger}"
            for giver, weak, strong, stronger in (
                ("--model_args", model_options, repeats, "the task's repeats are M"),
                ("--gen_kwargs", gen_kwargs, repeats, "the task's repeats are M"),
                (
                    "--model_args",
                    model_options,
                    gen_kwargs,
                    "the task's generation_kwargs or --gen_kwargs say otherwise: type it as --gen_kwargs",
                ),
            )
            for name, value in overridden(weak, strong).items()
        ),
    ]


def _check_length(options: Options, max_length: int, task: str) -> None:
    if options.max_gen_toks >= max_length:
        raise UsageError(
            f"task {task!r}: max_gen_toks={options.max_gen_toks} leaves no room for a prompt in the model's context of "
            f"{max_length} tokens; give a smaller max_gen_toks, or max_length in --model_args if the model can do more"
        )


def _prompt(request: Request, index: int, task: str, options: Options, encoder: Encoder) -> Prompt:
    token_ids = encoder.encode(request.context, options.max_gen_toks)
    document = index if request.doc_id is None else request.doc_id
    if not token_ids:
        raise UsageError(
            f"task {task!r}: document {document} has an empty prompt; eager needs at least one token: "
            f"check doc_to_text, or give add_bos_token=True in --model_args"
        )
    room = encoder.max_length - len(token_ids)
    if room < 1:
        raise UsageError(
            f"task {task!r}: the prompt of document {document} has {len(token_ids)} tokens and the model's context "
            f"{encoder.max_length}; use fewer few-shot examples, a larger max_length, or truncation=True, the last two "
            f"in --model_args"
        )
    return Prompt(index, task, request.context, token_ids, request.doc_id, min(options.max_gen_toks, room))

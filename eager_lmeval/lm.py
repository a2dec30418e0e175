"""The harness's model `eager`: glue between its requests and the strategies. Knows no logits and no caches."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from eager_lmeval import __version__, paths
from eager_lmeval.decoding import Decoding
from eager_lmeval.engine.counts import EngineCounts
from eager_lmeval.engine.loop import Engine
from eager_lmeval.errors import UsageError
from eager_lmeval.identity import model_identity
from eager_lmeval.journal import NO_SHELF, Journal, Shelf, fingerprint, open_shelves
from eager_lmeval.labels import make_judge, read_labels
from eager_lmeval.options import Options, near_name, resolve
from eager_lmeval.pools import Pool, make_pools, one_order, unique_requests
from eager_lmeval.progress import Progress
from eager_lmeval.ranks import ALONE, HARNESS, ProcessGroup, Ranks
from eager_lmeval.response import deal
from eager_lmeval.strategy import Judge, PoolResult, PoolRun, grow_pools
from eager_lmeval.tree import Prompt, Sequence

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import CacheHook

__all__ = ["EagerLM"]

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own

_HF_ARGUMENTS = frozenset(inspect.signature(HFLM.__init__).parameters) - {"self", "kwargs"}
_ARGUMENTS = _HF_ARGUMENTS | {"journal"}
_WITHOUT_EFFECT = {"max_rows", "preset", "label", "verifier"}
"""Options that do not change what grows of a prompt: labels decide grants, and a grant stands in the journal itself."""


@register_model("eager")
class EagerLM(HFLM):
    """`hf` whose `generate_until` is EAGER generation; everything else, loglikelihood included, is the harness's own.

    Takes the options of `options.Options` and all arguments of `HFLM`. ``pretrained="demo"`` is the embedded model,
    ``journal`` a folder in which finished prompts are kept (SPEC 9). Started as several processes (accelerate launch,
    torchrun), each has the model, and all draw from one queue.
    """

    def __init__(self, pretrained: str | Any, **kwargs: Any) -> None:
        folder = kwargs.pop("journal", None)
        self._given = {name: kwargs.pop(name) for name in list(kwargs) if name in Options.model_fields}
        _refuse_misspelt(kwargs)
        _refuse_two_parallelisms(kwargs)
        resolve(self._given, origin="--model_args")
        name = pretrained if isinstance(pretrained, str) else type(pretrained).__name__
        about = {"model": name, "version": __version__}
        rank = int(os.environ.get("RANK", "0")) if _processes() > 1 else 0
        self._journal = Journal(str(folder), rank, about) if folder is not None else None
        if self._given.get("think_end_token", "auto") != "auto":
            kwargs["think_end_token"] = self._given["think_end_token"]
        elif kwargs.get("enable_thinking"):
            kwargs["think_end_token"] = "</think>"
        identifying = dict(kwargs)
        kwargs["device"] = _device(kwargs.get("device"))
        super().__init__(str(paths.demo_model_dir()) if pretrained == "demo" else pretrained, **kwargs)
        self._ranks = self._join_ranks()
        self._decoding = Decoding(self.model, self.tokenizer, self.mixed_precision_dtype)
        self._identity = model_identity(self.model, name, identifying) if self._journal else {}
        self._pools: list[dict[str, Any]] = []
        self._truncated_prompts = 0
        self._padded: list[Instance] = []

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """One text a request: for a document its first root's, for the clones of ``repeats`` one sequence's each."""
        with _failing_together(self._ranks):
            return self._generate(requests, disable_tqdm or self.rank != 0)

    def _generate(self, requests: list[Instance], quiet: bool) -> list[str]:
        ranks = self._ranks
        own = unique_requests(requests, ranks.rank)
        self._padded = [r.instance for r in own if r.instance is not None and len(r.places) > r.repeats]
        gathered = ranks.gather((torch.initial_seed(), [request.for_others() for request in own]))
        by_rank = [own if rank == ranks.rank else theirs for rank, (_, theirs) in enumerate(gathered)]
        pools = make_pools(one_order(by_rank), self._given, gathered[0][0], self)
        runs, engines = [], []
        for pool, judge, shelf in zip(pools, self._judges(pools), self._shelves(pools), strict=True):
            progress = Progress(pool.task, quiet)
            engines.append(self._engine(pool.options, progress))
            owners = [request.rank for request in pool.requests]
            runs.append(PoolRun(pool.prompts, pool.options, engines[-1], judge, progress, ranks, owners, shelf))
        results = grow_pools(runs, ranks)
        spent = ranks.gather([(run.seconds, engine.stats) for run, engine in zip(runs, engines, strict=True)])
        responses: list[str | None] = [None] * len(requests)
        for number, (pool, result) in enumerate(zip(pools, results, strict=True)):
            self._report(pool, result, [of_rank[number] for of_rank in spent])
            mine = [request for request in pool.requests if request.rank == ranks.rank]
            for request, tree in zip(mine, result.trees, strict=True):
                texts = [self._text(sequence, pool.options) for sequence in tree.sequences]
                for place, response in zip(
                    request.places, deal(tree, texts, len(request.places), _context(pool, result)), strict=True
                ):
                    responses[place] = response
        return [response for response in responses if response is not None]

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Called for `--use_cache`, whose key knows neither options nor seeds nor repeats; see `_keep_out_texts`."""
        super().set_cache_hook(cache_hook)
        if getattr(cache_hook, "dbdict", None) is not None:
            _keep_out_texts(cache_hook.dbdict)
            log.info("--use_cache keeps loglikelihoods only; journal=DIR in --model_args keeps what eager generates")

    # What the harness lets ranks do together: they wait for each other here, not in a collective that may time out.

    def all_gather(self, tensor: Any) -> Any:
        self._ranks.meet(HARNESS)
        return super().all_gather(tensor)

    def gather_object(self, obj: Any, dst: int = 0) -> Any:
        self._ranks.meet(HARNESS)
        return super().gather_object(obj, dst)

    def barrier(self) -> None:
        """Comes after the responses were handed out; takes those to padding back, which only ranks with less got."""
        for instance in self._padded:
            del instance.resps[instance.repeats or 1 :]
        self._padded = []
        self._ranks.meet(HARNESS)
        super().barrier()

    def _join_ranks(self) -> Ranks:
        """`hf` takes its rank from accelerate only where it sees several GPUs, and then the one within the node."""
        accelerator = getattr(self, "accelerator", None)
        if accelerator is None or accelerator.num_processes == 1:
            return ALONE
        self._rank, self._world_size = accelerator.process_index, accelerator.num_processes
        ranks = ProcessGroup()
        _announce_uncaught(ranks)
        if self._rank:
            logging.getLogger("lm_eval.eager_lmeval.pools").setLevel(logging.ERROR)  # rank 0 warns of the same
        return ranks

    def _judges(self, pools: Seq[Pool]) -> list[Judge | None]:
        """Each rank reads the labels of its own documents; they go to all, because any may grow any prompt."""
        judged = [pool for pool in pools if pool.options.strategy == "eager"]
        own = [read_labels(pool.task, pool.docs, pool.options) for pool in judged]
        by_rank = self._ranks.gather(own) if judged else []
        judges = {}
        for number, pool in enumerate(judged):
            labels = {index: label for of_rank in by_rank for index, label in of_rank[number].items()}
            judges[id(pool)] = make_judge(pool.task, labels, pool.options)
        return [judges.get(id(pool)) for pool in pools]

    def _shelves(self, pools: Seq[Pool]) -> Seq[Shelf]:
        if self._journal is None:
            return [NO_SHELF] * len(pools)
        keys = [[self._key(pool, prompt) for prompt in pool.prompts] for pool in pools]
        about = [[{"task": prompt.task, "doc_id": prompt.doc_id} for prompt in pool.prompts] for pool in pools]
        return open_shelves(self._journal, keys, about, self._ranks)

    def _key(self, pool: Pool, prompt: Prompt) -> str:
        """The journal's key of a prompt. A root of `parallel` is the same whatever M is, so its key leaves M out."""
        options = pool.options.model_dump(mode="json", exclude=_WITHOUT_EFFECT)
        if pool.options.strategy == "parallel":
            del options["max_sequences"]
        return fingerprint(
            {
                "model": self._identity,
                "eos": sorted(self._decoding.eos_ids(pool.options)),
                "task": prompt.task,
                "context": prompt.context,
                "token_ids": prompt.token_ids,
                "max_new_tokens": prompt.max_new_tokens,
                "options": options,
            }
        )

    def encode(self, context: str, room: int) -> list[int]:
        """Token ids of a prompt, as `hf` makes them; with ``truncation=True`` the last that leave ``room`` tokens."""
        if not context:
            return []
        ids: list[int] = self.tok_batch_encode([context])[0][0].tolist()
        longest = self.max_length - room
        if self.truncation and len(ids) > longest:
            self._truncated_prompts += 1
            log.log(
                logging.DEBUG if self.rank else logging.WARNING,
                "truncation: a prompt of %d tokens is cut to its last %d",
                len(ids),
                longest,
            )
            ids = ids[-longest:]
        return ids

    def get_model_info(self) -> dict[str, Any]:
        """What `hf` reports, and per pool: the resolved options with the seed, the ledger, costs and speed."""
        info: dict[str, Any] = super().get_model_info()
        own = {"version": __version__, "pools": self._pools, "truncated_prompts": self._truncated_prompts}
        return info | {"eager": own}

    def _engine(self, options: Options, progress: Progress) -> Engine:
        def on_step(engine: Engine) -> None:
            progress.step(engine)
            self._ranks.check()

        return self._decoding.engine(options, on_step)

    def _text(self, sequence: Sequence, options: Options) -> str:
        """What `hf` would return: all of it, or what follows the thinking part if a marker was given for it."""
        if options.think_end_token in ("auto", None):
            return sequence.text
        return (sequence.answer or "").lstrip()

    def _report(self, pool: Pool, result: PoolResult, ranks: Seq[tuple[float, EngineCounts]]) -> None:
        """``ranks``: what each rank spent on the pool, seconds and steps."""
        totals = result.totals
        seconds = max(seconds for seconds, _ in ranks)
        decoded = totals.tokens - totals.tokens_reused
        thinking = self._decoding.thinking(pool.options)
        journal = None
        if self._journal is not None:
            journal = {"prompts_reused": totals.prompts_reused, "tokens_reused": totals.tokens_reused}
            if self.rank == 0:
                log.info(
                    "journal %s: %d of %d prompts of %s and %d tokens were done and have been reused",
                    self._journal.folder,
                    totals.prompts_reused,
                    len(pool.prompts),
                    pool.task,
                    totals.tokens_reused,
                )
        self._pools.append(
            {
                "task": pool.task,
                "options": pool.options.model_dump(mode="json"),
                "thinking_ends_with": thinking.end if thinking else None,
                "labels_used": result.labels_used,
                "ledger": result.ledger.to_record(),
                "sequences": totals.sequences,
                "branches": totals.branches,
                "tokens": totals.tokens,
                "tokens_independent": totals.tokens_independent,
                "prefill_tokens": totals.prefill_tokens,
                "seconds": seconds,
                "tokens_per_second": decoded / seconds if seconds else None,
                "processes": len(ranks),
                "journal": journal,
                "engine": EngineCounts.joined(stats for _, stats in ranks).to_record(),
            }
        )


@contextmanager
def _failing_together(ranks: Ranks) -> Iterator[None]:
    """Tells the other ranks what ended this one."""
    try:
        yield
    except BaseException as error:
        ranks.fail(_first_line(error))
        raise


def _announce_uncaught(ranks: Ranks) -> None:
    """The same for errors of the harness, between our own calls."""
    before = sys.excepthook

    def announce(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        before(kind, error, traceback)
        ranks.fail(_first_line(error))
        if "did not find any docs" in str(error):
            print(
                f"eager_lmeval: rank {ranks.rank} of {ranks.size} got no document: a task has fewer documents than "
                f"there are processes; start fewer processes",
                file=sys.stderr,
                flush=True,
            )

    sys.excepthook = announce


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _keep_out_texts(cache: Any) -> None:
    """Makes the harness's response cache hold no texts: none is found in it, and none is written to it.

    The harness writes a response under its context and gen_kwargs alone, and one for all clones of a document, so what
    it found would be of other options, another seed or another repeat. Nothing but the class of the open cache
    reaches between its lookup and us.
    """

    class LoglikelihoodsOnly(type(cache)):  # type: ignore[misc]  # the cache's class is the harness's choice
        def __contains__(self, key: str) -> bool:
            return super().__contains__(key) and not isinstance(self[key], str)

        def __setitem__(self, key: str, value: Any) -> None:
            if not isinstance(value, str):
                super().__setitem__(key, value)

    cache.__class__ = LoglikelihoodsOnly


def _context(pool: Pool, result: PoolResult) -> dict[str, Any]:
    """What a tree's record says of the run that it comes from."""
    options = pool.options
    return {
        "task": pool.task,
        "strategy": options.strategy,
        "max_sequences": options.max_sequences,
        "entropy_threshold": options.entropy_threshold,
        "temperature": options.temperature,
        "seed": options.seed,
        "labels_used": result.labels_used,
    }


def _refuse_misspelt(arguments: Mapping[str, Any]) -> None:
    """Other arguments go to the model's constructor, as `hf` does it; what looks like a misspelt option does not."""
    for name in arguments:
        if name not in _HF_ARGUMENTS and (near := near_name(name, {*Options.model_fields, *_ARGUMENTS})):
            raise UsageError(f"--model_args: unknown option {name!r}; did you mean {near!r}?")


def _processes() -> int:
    """How many processes the launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _refuse_two_parallelisms(arguments: Mapping[str, Any]) -> None:
    if _processes() == 1:
        return
    for name in ("parallelize", "tp_plan"):
        if arguments.get(name):
            raise UsageError(
                f"{name}={arguments[name]} with {_processes()} processes: eager gives each process the whole model; "
                f"leave {name} out, or start one process and give parallelize=True to spread one model over its GPUs"
            )


def _device(asked: str | None) -> str:
    """The device to load on. The harness asks for ``cuda:0`` when its user asked for nothing."""
    if torch.cuda.is_available():
        return asked or "cuda"
    if asked and asked.startswith("cuda"):
        log.warning("there is no CUDA device here: running on the CPU instead of %s", asked)
        return "cpu"
    return asked or "cpu"

"""What this package's models of the harness share: their requests' way to responses. Knows no engine and no logits."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from lm_eval.api.model import LM

from eager_lmeval import __version__
from eager_lmeval.algorithm.options import Options, is_option, none_words, resolve
from eager_lmeval.algorithm.strategy import Judge
from eager_lmeval.algorithm.streams import shuffled
from eager_lmeval.algorithm.tree import Sequence
from eager_lmeval.errors import UsageError, near_name
from eager_lmeval.harness.command import print_below_the_table
from eager_lmeval.harness.loglikelihood_cache import keep_out_texts
from eager_lmeval.harness.request_cache import tell_options_apart
from eager_lmeval.journal.identity import prompt_key
from eager_lmeval.journal.journal import Journal
from eager_lmeval.journal.pool_journal import NO_JOURNAL, PoolJournal, open_for_pools
from eager_lmeval.pools.decoding import Decoding, PoolEngine
from eager_lmeval.pools.labels import make_judge, read_labels
from eager_lmeval.pools.marks import UPPER_BOUND, LabelMarks
from eager_lmeval.pools.progress import Progress
from eager_lmeval.pools.record import Spent, pool_record, settings, tree_context
from eager_lmeval.pools.requests import Pool, make_pools, one_order, unique_requests
from eager_lmeval.pools.response import Response, TreeRecord, deal
from eager_lmeval.pools.result import PoolResult
from eager_lmeval.pools.run import Job, PoolRun, grow_pools
from eager_lmeval.pools.token_texts import TokenTexts
from eager_lmeval.pools.vote import elect, get_classify, get_voter
from eager_lmeval.processes.failures import announce_uncaught, end_interrupted_in_one_line, failing_together
from eager_lmeval.processes.ranks import HARNESS, ProcessGroup, Ranks
from eager_lmeval.verify import Verifier

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import CacheHook

__all__ = ["EagerModel", "Generation", "Given", "processes", "take_options"]

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own


def processes() -> int:
    """How many processes the launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class Given(NamedTuple):
    """What of ours stands in ``--model_args``."""

    options: dict[str, Any]
    journal: Journal | None


def take_options(name: str, arguments: dict[str, Any], known: Collection[str]) -> Given:
    """Takes what is ours out of ``--model_args``, and opens the journal: all that can be wrong before loading.

    ``known`` are the names of arguments that the harness's model takes; others go to its model's constructor, but
    for what looks like a misspelt option.
    """
    folder = _journal_folder(arguments.pop("journal", None))
    given = {option: arguments.pop(option) for option in list(arguments) if is_option(option)}
    for argument in arguments:
        near = near_name(argument, (*Options.model_fields, "journal"), cutoff=0.8)
        if near and argument not in known:
            raise UsageError(f"--model_args: unknown option {argument!r}; did you mean {near!r}?")
    resolve(given, origin="--model_args", complete=False)
    tell_options_apart()
    if given.get("think_end_token", "auto") != "auto":
        arguments["think_end_token"] = given["think_end_token"]
    elif arguments.get("enable_thinking"):
        arguments["think_end_token"] = "</think>"
    about = {"model": name, "version": __version__}
    rank = int(os.environ.get("RANK", "0")) if processes() > 1 else 0
    journal = Journal(folder, rank, about) if folder is not None else None
    end_interrupted_in_one_line(partial(_how_to_go_on, journal) if rank == 0 else None)
    return Given(given, journal)


@dataclass
class Generation:
    """What a model of ours has beside the harness's model, and what it has made so far."""

    given: Given
    decoding: Decoding
    ranks: Ranks
    identity: Mapping[str, Any]
    """What stands in the journal's keys for the model."""
    token_texts: TokenTexts
    pools: list[dict[str, Any]] = field(default_factory=list)
    """The record of each."""
    truncated_prompts: int = 0
    padded: list[Instance] = field(default_factory=list)
    """Those whose responses stand for padding too, until the harness's next barrier."""
    marks: LabelMarks = field(default_factory=LabelMarks)


class EagerModel(LM):
    """A model of the harness, before it in the order of bases, whose `generate_until` is EAGER generation.

    Its class makes the `Generation` once the harness's model is loaded, and says how a context becomes token ids
    (`encode`). Everything else, loglikelihood included, is the harness's own.
    """

    _eager: Generation

    def _join(self) -> Ranks:
        """The ranks of the initialised default group of `torch.distributed`, of which this is one for the harness."""
        ranks = ProcessGroup()
        self._rank, self._world_size = ranks.rank, ranks.size
        announce_uncaught(ranks)
        if ranks.rank:
            logging.getLogger("lm_eval.eager_lmeval.pools.requests").setLevel(logging.ERROR)  # rank 0 warns of the same
        return ranks

    def encode(self, context: str, room: int) -> list[int]:
        """Token ids of a prompt, as the harness's model makes them."""
        raise NotImplementedError

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """One text a request: of a document its first root's or the winner's of a vote, of clones a sequence's each."""
        with failing_together(self._eager.ranks):
            try:
                return self._generate(requests, disable_tqdm or self.rank != 0)
            finally:
                self._eager.decoding.release()

    def _generate(self, requests: list[Instance], quiet: bool) -> list[str]:
        ranks = self._eager.ranks
        own = unique_requests(requests, ranks.rank)
        self._eager.padded = [r.instance for r in own if r.instance is not None and len(r.places) > r.repeats]
        gathered = ranks.gather((torch.initial_seed(), [request.for_others() for request in own]))
        by_rank = [own if rank == ranks.rank else theirs for rank, (_, theirs) in enumerate(gathered)]
        truncated_before = self._eager.truncated_prompts
        pools = make_pools(one_order(by_rank), self._eager.given.options, gathered[0][0], self)
        truncated = self._eager.truncated_prompts - truncated_before
        if truncated and not self.rank:
            log.warning("truncation: %d prompts are cut so that max_gen_toks tokens have room", truncated)
        voters = [get_voter(pool.task, pool.options) for pool in pools]
        classifiers = [get_classify(pool.task, pool.options) for pool in pools]
        runs, engines = [], []
        given = zip(pools, self._judges(pools), classifiers, self._journals(pools), strict=True)
        for pool, judge, classify, journal in given:
            progress = Progress(pool.task, quiet, ranks.size)
            engines.append(self._engine(pool.options, progress))
            owners = [request.rank for request in pool.requests]
            job = Job(pool.prompts, pool.options, judge, classify, owners, pool.visible_sequences)
            runs.append(PoolRun(job, engines[-1], progress, ranks, journal))
        results = grow_pools(runs, ranks)
        responses, empty_votes = self._responses(len(requests), pools, voters, results)
        spent = ranks.gather(
            [
                Spent(run.seconds, engine.stats, self._eager.decoding.devices, empty)
                for run, engine, empty in zip(runs, engines, empty_votes, strict=True)
            ]
        )
        for number, (pool, result) in enumerate(zip(pools, results, strict=True)):
            self._report(pool, result, [of_rank[number] for of_rank in spent])
        return responses

    def _responses(
        self, count: int, pools: Seq[Pool], voters: Seq[Verifier | None], results: Seq[PoolResult]
    ) -> tuple[list[str], list[int]]:
        """This rank's responses, each at its request's place, and by pool how many of its votes were empty."""
        by_place: dict[int, str] = {}
        empty_votes = []
        for pool, voter, result in zip(pools, voters, results, strict=True):
            mine = [request for request in pool.requests if request.rank == self._eager.ranks.rank]
            empty_votes.append(0)
            for place, (request, tree) in enumerate(zip(mine, result.trees, strict=True)):
                record = TreeRecord(tree.to_record() | tree_context(pool, result, place))
                for said, sequence in zip(record["sequences"], tree.sequences, strict=True):
                    said["token_chars"] = self._eager.token_texts.lengths(sequence)
                sequences = [sequence for sequence in tree.sequences if sequence.finish != "cut"]
                if voter is not None:
                    elected = elect(tree, record, voter)
                    empty_votes[-1] += elected is None
                    sequences = [tree.sequences[elected or 0]]
                texts = [self._text(sequence, pool.options) for sequence in sequences]
                if request.repeats > 1:
                    order = partial(shuffled, seed=pool.options.seed, task=pool.task, context=request.context)
                    texts = deal(texts, [one.copies or 1 for one in sequences], request.repeats, order)
                for number, at in enumerate(request.places):  # those beyond the repeats are padding
                    by_place[at] = Response(texts[number % request.repeats], record)
        return [by_place[place] for place in range(count)], empty_votes

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Called for `--use_cache`, whose key knows neither options nor seeds nor repeats; see `keep_out_texts`."""
        super().set_cache_hook(cache_hook)
        if getattr(cache_hook, "dbdict", None) is not None:
            keep_out_texts(cache_hook.dbdict)
            log.info("--use_cache keeps loglikelihoods only; journal=DIR in --model_args keeps what eager generates")

    def barrier(self) -> None:
        """Comes after the responses were handed out; takes those to padding back, which only ranks with less got."""
        for instance in self._eager.padded:
            del instance.resps[instance.repeats or 1 :]
        self._eager.padded = []
        self._eager.ranks.meet(HARNESS)
        super().barrier()

    def _judges(self, pools: Seq[Pool]) -> list[Judge | None]:
        """Each rank reads the labels of its own documents; they go to all, because any may grow any prompt."""
        judged = [pool for pool in pools if pool.options.strategy == "eager"]
        instances = [request.instance for pool in pools for request in pool.requests if request.instance is not None]
        self._eager.marks.texts(instances, {pool.task for pool in judged})
        own = [read_labels(pool.docs, pool.options) for pool in judged]
        by_rank = self._eager.ranks.gather(own) if judged else []
        judges = {}
        for number, pool in enumerate(judged):
            labels = {index: label for of_rank in by_rank for index, label in of_rank[number].items()}
            judges[id(pool)] = make_judge(pool.task, labels, pool.options)
        return [judges.get(id(pool)) for pool in pools]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """The harness's own; of a task whose texts were made with labels these say so too."""
        self._eager.marks.loglikelihoods(requests)
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)  # type: ignore[no-any-return]

    def _journals(self, pools: Seq[Pool]) -> Seq[PoolJournal]:
        if self._eager.given.journal is None:
            return [NO_JOURNAL] * len(pools)
        keys = [self._keys(pool) for pool in pools]
        about = [[{"task": prompt.task, "doc_id": prompt.doc_id} for prompt in pool.prompts] for pool in pools]
        return open_for_pools(
            self._eager.given.journal, keys, about, self._eager.ranks, self._eager.decoding.vocabulary
        )

    def _keys(self, pool: Pool) -> list[str]:
        eos_ids, thinking = self._eager.decoding.eos_ids(pool.options), self._eager.decoding.thinking(pool.options)
        return [prompt_key(self._eager.identity, prompt, pool.options, eos_ids, thinking) for prompt in pool.prompts]

    def get_model_info(self) -> dict[str, Any]:
        """What the harness's model reports, and per pool: resolved options with the seed, the ledger, costs and speed.

        The harness asks when all figures are there, so the last line of its log but its table is written here; below
        the table, which its command prints last, stands how each pool was made. UsageError where figures were
        made with labels and do not say so.
        """
        self._eager.marks.check()
        for task in dict.fromkeys(pool["task"] for pool in self._eager.pools if pool["labels_used"]):
            log.warning("task %r was %s; its figures stand under filters named oracle", task, UPPER_BOUND)
        print_below_the_table(map(settings, self._eager.pools))
        reported = getattr(super(), "get_model_info", dict)  # not every model of the harness reports something
        info: dict[str, Any] = reported()
        own = {"version": __version__, "pools": self._eager.pools, "truncated_prompts": self._eager.truncated_prompts}
        return info | {"eager": own}

    def _engine(self, options: Options, progress: Progress) -> PoolEngine:
        def on_step(engine: PoolEngine) -> None:
            progress.step(engine)
            self._eager.ranks.check()

        return self._eager.decoding.engine(options, on_step)

    def _text(self, sequence: Sequence, options: Options) -> str:
        """As the harness's models do it: all of it, or what follows the thinking part if a marker was given for it."""
        if options.think_end_token in ("auto", None):
            return sequence.text
        return (sequence.answer or "").lstrip()

    def _report(self, pool: Pool, result: PoolResult, ranks: Seq[Spent]) -> None:
        """``ranks``: what each rank spent on the pool."""
        if (empty := sum(spent.empty_votes for spent in ranks)) and not self.rank:
            log.warning(
                "task %r: in %d of %d documents no sequence has an answer that verifier=%s reads, so nothing was voted "
                "on and the response is the first sequence's text",
                *(pool.task, empty, len(pool.prompts), pool.options.verifier),
            )
        if self._eager.given.journal is not None and self.rank == 0:
            log.info(
                "journal %s: %d of %d prompts of %s and %d tokens were done and have been reused",
                self._eager.given.journal.folder,
                result.prompts_reused,
                len(pool.prompts),
                pool.task,
                result.totals.tokens_reused,
            )
        thinking = self._eager.decoding.thinking(pool.options)
        self._eager.pools.append(pool_record(pool, result, ranks, thinking, self._eager.given.journal is not None))


def _journal_folder(given: Any) -> str | None:
    try:
        folder = none_words(given)
    except ValueError as error:
        raise UsageError(f"--model_args: journal= should be a folder, such as journal=out/journal: {error}") from error
    if isinstance(folder, bool):
        raise UsageError(f"--model_args: journal={folder} should be a folder, such as journal=out/journal, or none")
    return None if folder is None else str(folder)


def _how_to_go_on(journal: Journal | None) -> str:
    if journal is None:
        return (
            "nothing was kept, and the same command begins again; journal=DIR in --model_args keeps what has finished"
        )
    if not journal.prompts:
        return f"no prompt had finished, so journal={journal.folder} holds none; the same command begins again"
    kept = "1 finished prompt" if journal.prompts == 1 else f"{journal.prompts:,} finished prompts"
    return f"{kept} of this run kept in journal={journal.folder}; the same command goes on from there"

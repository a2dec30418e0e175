"""A run picks up what a journal holds of it, and nothing else: of other options, models, strategies, processes."""

from __future__ import annotations

import gc
import itertools
import json
import pickle
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.model import CachingLM
from process_runs import Call, Plan, essence, kill_when, make_calls
from torch.distributed import HashStore

from eager_lmeval.algorithm.tree import Tree
from eager_lmeval.engine.loop import Engine
from eager_lmeval.errors import UsageError
from eager_lmeval.journal.journal import Journal
from eager_lmeval.journal.pool_journal import open_for_pools
from eager_lmeval.lm import EagerLM
from eager_lmeval.processes.ranks import Board


def call(strategy: str, docs: int = 6, **options: Any) -> Call:
    given = {"strategy": strategy, "branching": "top2", "max_sequences": 4, "entropy_threshold": 1.6}
    if strategy == "consistency":
        del given["branching"]
    return Call(docs, gen_kwargs=given | {"verifier": "math"} | {name: one for name, one in options.items() if one})


@pytest.fixture
def decoded(monkeypatch) -> Counter[str]:
    """Tokens that engines decode from here on, by context."""
    counted: Counter[str] = Counter()
    grow = Engine._grow

    def counting(self: Engine, readouts: Any) -> Any:
        counted.update(placed.row.tenant.growth.run.prompt.context for placed in self._incoming)
        counted.update(placed.row.tenant.growth.run.prompt.context for placed in self.rows)
        return grow(self, readouts)

    monkeypatch.setattr(Engine, "_grow", counting)
    return counted


def made(calls: list[Call], **model_args: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What a run of its own makes, and what it reports of the pools."""
    torch.manual_seed(model_args.pop("harness_seed", 1234))
    lm = EagerLM(**{"pretrained": "demo", "dtype": "float64"} | model_args)
    responses = [essence(by_document) for by_document in make_calls(lm, calls)]
    if lm._eager.given.journal is not None:
        lm._eager.given.journal.close()
    return responses, lm._eager.pools


@pytest.mark.parametrize(
    ("strategy", "branching"),
    [
        ("eager", "top2"),
        ("eager", "systematic"),
        *(
            pytest.param(strategy, branching, marks=pytest.mark.slow("what it journals, eager does too"))
            for strategy in ("init", "adapt")
            for branching in ("top2", "systematic")
        ),
        ("parallel", "systematic"),
        ("consistency", None),
    ],
)
def test_a_finished_run_is_not_generated_again(tmp_path, decoded, caplog, strategy, branching):
    calls = [call(strategy, branching=branching)]
    first, reported = made(calls, journal=str(tmp_path))
    assert sum(decoded.values()) > 0
    decoded.clear()
    with caplog.at_level("INFO", logger="lm_eval"):
        again, of_again = made(calls, journal=str(tmp_path))
    assert again == first == made(calls)[0]
    assert of_again[0]["ledger"] == reported[0]["ledger"]
    assert of_again[0]["journal"] == {"prompts_reused": 6, "tokens_reused": reported[0]["tokens"]}
    assert f"6 of 6 prompts of some_task and {reported[0]['tokens']} tokens were done" in caplog.text


def test_nothing_is_decoded_for_what_the_journal_holds(tmp_path, decoded):
    made([call("init", docs=3)], journal=str(tmp_path))
    of_three = set(decoded)
    decoded.clear()
    made([call("init", docs=5)], journal=str(tmp_path))
    assert len(of_three) == 3
    assert len(decoded) == 2
    assert not of_three & set(decoded)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 99},
        {"entropy_threshold": 1.61},
        {"temperature": 0.7},
        {"strategy": "parallel"},
        {"max_sequences": 5},
        {"max_gen_toks": 59},
        {"branch_window": 7},
        {"branching": "systematic"},
        {"until": ["q"]},
    ],
    ids=lambda other: next(iter(other)),
)
def test_other_options_never_find_the_record(tmp_path, other):
    made([call("init", docs=2)], journal=str(tmp_path))
    _, reported = made([call(**{"strategy": "init", "docs": 2} | other)], journal=str(tmp_path))
    assert reported[0]["journal"]["prompts_reused"] == 0


def test_neither_do_another_seed_of_the_harness_another_dtype_or_other_weights(tmp_path):
    calls = [call("init", docs=2)]
    made(calls, journal=str(tmp_path))
    for other in ({"harness_seed": 4321}, {"dtype": "bfloat16"}):
        assert made(calls, journal=str(tmp_path), **other)[1][0]["journal"]["prompts_reused"] == 0

    from eager_lmeval.journal.identity import model_identity

    lm = EagerLM(pretrained="demo")
    before = model_identity(lm.model, lm.tokenizer, "demo", {})
    assert model_identity(lm.model, lm.tokenizer, "demo", {"batch_size": 3}) == before
    lm.model.config.rope_parameters["rope_theta"] *= 2  # not in the weights, but it changes every logit
    assert model_identity(lm.model, lm.tokenizer, "demo", {}) != before
    lm.model.config.rope_parameters["rope_theta"] /= 2
    assert model_identity(lm.model, lm.tokenizer, "demo", {}) == before
    with torch.no_grad():
        lm.model.get_input_embeddings().weight.mul_(1.001)
    assert model_identity(lm.model, lm.tokenizer, "demo", {}) != before


def test_neither_does_another_tokenizer_that_gives_the_prompts_the_same_ids():
    from eager_lmeval.journal.identity import model_identity

    lm = EagerLM(pretrained="demo")
    before = model_identity(lm.model, lm.tokenizer, "demo", {})
    lm.tokenizer("padded", padding="max_length", max_length=20, truncation=True)  # as a batch does it
    assert model_identity(lm.model, lm.tokenizer, "demo", {}) == before
    lm.tokenizer.add_special_tokens({"additional_special_tokens": ["<|new|>"]})
    assert model_identity(lm.model, lm.tokenizer, "demo", {}) != before


def test_a_folder_that_other_machines_do_not_share_is_named(tmp_path):
    """Two ranks as threads; one has a folder of the same name on another machine, here another folder."""
    store = HashStore()

    class Gathering(Board):
        def gather(self, item: Any) -> list[Any]:
            self.meet()
            place = next(self.exchanges)
            store.set(f"{place} {self.rank}", pickle.dumps(item).hex())
            self.meet()
            return [pickle.loads(bytes.fromhex(store.get(f"{place} {rank}").decode())) for rank in range(2)]

    def said(rank: int) -> str:
        board = Gathering(store, rank, 2)
        board.exchanges = itertools.count()
        with pytest.raises(UsageError) as caught:
            open_for_pools(Journal(tmp_path / str(rank), rank), [], [], board, vocabulary=40)
        return str(caught.value)

    with ThreadPoolExecutor(2) as pool:
        for line in pool.map(said, range(2)):
            assert "on the machine of rank 1 is not the folder that rank 0 uses" in line


def test_none_is_no_journal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert EagerLM(pretrained="demo", journal="none")._eager.given.journal is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["", " ", True, False])
def test_a_journal_that_is_no_folder_is_refused(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"journal=.* should be a folder, such as journal=out/journal") as caught:
        EagerLM(pretrained="a/model/that/does/not/exist", journal=given)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def ending(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **model_args: Any) -> list[str]:
    """What stands on stderr when SIGINT comes after a run of two prompts."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    made([call("init", docs=2)], **model_args)
    capsys.readouterr()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    return capsys.readouterr().err.splitlines()


def test_an_interrupted_run_says_in_one_line_what_is_kept(tmp_path, monkeypatch, capsys):
    assert ending(monkeypatch, capsys, journal=str(tmp_path)) == [
        "",  # the terminal has written ^C
        f"eager_lmeval: interrupted; 2 finished prompts of this run kept in journal={tmp_path}; the same command "
        f"goes on from there",
    ]
    assert "nothing was kept, and the same command begins again" in ending(monkeypatch, capsys)[1]


def test_other_errors_still_show_where_they_happened(tmp_path, monkeypatch, capsys):
    ending(monkeypatch, capsys)
    error = ValueError("a mistake")
    sys.excepthook(ValueError, error, error.__traceback__)
    assert "ValueError: a mistake" in capsys.readouterr().err


INTERRUPTED = """
import os, signal, sys
from eager_lmeval.algorithm.tree import Tree
from eager_lmeval.engine.loop import Engine
from eager_lmeval.lm import EagerLM
from lm_eval.api.instance import Instance

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
lm = EagerLM(pretrained="demo", journal=sys.argv[1])
Engine.run = lambda self, source: os.kill(os.getpid(), signal.SIGINT)
request = Instance("generate_until", {}, ("<|user|>Add 1+2.<|assistant|>", {"max_gen_toks": 60}), 0, ("a_task", 0, 1))
lm.generate_until([request], disable_tqdm=True)
"""


def test_sigint_ends_the_process_with_that_line_and_no_traceback(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED, encoding="utf-8")
    folder = tmp_path / "journal"
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == (
        f"eager_lmeval: interrupted; no prompt had finished, so journal={folder} holds none; "
        f"the same command begins again"
    )
    assert "Traceback" not in done.stderr


def test_strategies_share_what_they_have_in_common(tmp_path, decoded):
    """Stage 1 of init, adapt and eager is one tree; what was granted with another decay of θ is told apart."""
    made([call("init")], journal=str(tmp_path))
    of_init = sum(decoded.values())
    for strategy, again in (("adapt", {}), ("eager", {"extra_cap": "1M"}), ("adapt", {"threshold_decay": 0.7})):
        decoded.clear()
        resumed, reported = made([call(strategy, **again)], journal=str(tmp_path))
        expected, of_expected = made([call(strategy, **again)])
        assert resumed == expected
        assert reported[0]["ledger"] == of_expected[0]["ledger"]
        assert reported[0]["journal"]["prompts_reused"] == 6
        assert reported[0]["journal"]["tokens_reused"] >= of_init


@pytest.mark.parametrize("other", [{"settled_at": 0.8}, {"first_lanes": 2}, {"verifier": "exact"}])
def test_races_are_found_again_by_the_same_rule_alone(tmp_path, other):
    made([call("consistency", docs=2)], journal=str(tmp_path))
    for given, reused in ((other, 0), ({"entropy_threshold": 2.5, "extra_cap": "1M"}, 2)):
        _, reported = made([call("consistency", docs=2, **given)], journal=str(tmp_path))
        assert reported[0]["journal"]["prompts_reused"] == reused


@pytest.mark.parametrize("after", [1, 9, 25])
def test_a_race_that_was_stopped_goes_on_without_decoding_again_what_had_ended(tmp_path, decoded, monkeypatch, after):
    """Stopped in the middle of its writing, after some roots: it ends as it would have."""
    calls = [call("consistency", max_sequences=8, first_lanes=3)]
    undisturbed, of_undisturbed = made(calls)
    whole = sum(decoded.values())
    append, written = Journal.append, []

    def failing(self: Journal, key: str, part: str, prompt: Any, grown: Tree) -> None:
        if len(written) == after:
            raise KeyboardInterrupt
        append(self, key, part, prompt, grown)
        written.append((part, grown.tokens))

    monkeypatch.setattr(Journal, "append", failing)
    with pytest.raises(KeyboardInterrupt):
        made(calls, journal=str(tmp_path))
    monkeypatch.setattr(Journal, "append", append)
    decoded.clear()
    gc.collect()  # closes the journal of the run that was stopped
    resumed, reported = made(calls, journal=str(tmp_path))
    assert resumed == undisturbed
    assert reported[0]["ledger"] == of_undisturbed[0]["ledger"]
    kept = sum(tokens for part, tokens in written if part != "race")
    assert reported[0]["journal"]["tokens_reused"] >= 1
    assert sum(decoded.values()) <= whole - kept, "a root that had ended was decoded again"


def test_roots_of_parallel_are_found_whatever_the_gate(tmp_path):
    made([call("parallel", docs=2)], journal=str(tmp_path))
    other = call("parallel", docs=2, entropy_threshold=0.1, think_gate=False)
    assert made([other], journal=str(tmp_path))[1][0]["journal"]["prompts_reused"] == 2


def test_what_changes_no_result_still_finds_the_record(tmp_path):
    made([call("init", docs=2)], journal=str(tmp_path))
    _, reported = made([call("init", docs=2, max_rows=5)], journal=str(tmp_path), batch_size=7)
    assert reported[0]["journal"]["prompts_reused"] == 2


def test_raising_max_sequences_of_parallel_keeps_the_roots_that_there_are(tmp_path, decoded):
    made([call("parallel", max_sequences=3)], journal=str(tmp_path))
    of_three = sum(decoded.values())
    for m, reused in ((5, of_three), (2, None)):
        decoded.clear()
        resumed, reported = made([call("parallel", max_sequences=m)], journal=str(tmp_path))
        newly = sum(decoded.values())
        expected, of_expected = made([call("parallel", max_sequences=m)])
        for document, of_document in expected[0].items():
            assert resumed[0][document]["sequences"] == of_document["sequences"]
        if reused is None:
            assert newly == 0
        else:
            assert reported[0]["journal"] == {"prompts_reused": 6, "tokens_reused": reused}
            assert newly == of_expected[0]["tokens"] - reused


def test_a_journal_and_the_cache_of_the_harness_work_together(tmp_path):
    def responses(seed: int) -> Any:
        lm = EagerLM(pretrained="demo", seed=seed, journal=str(tmp_path / "journal"))
        caching = CachingLM(lm, str(tmp_path / "cache.db"))
        readable = Call(2, repeats=3, gen_kwargs={"do_sample": None})  # the harness would read it from its cache
        made_here = [essence(by_document) for by_document in make_calls(caching, [readable])]
        lm._eager.given.journal.close()
        return made_here, lm._eager.pools[0]["journal"]["prompts_reused"]

    first, _ = responses(seed=1)
    assert any(len(set(answered["texts"])) > 1 for answered in first[0].values())
    assert responses(seed=1) == (first, 2)
    other, reused = responses(seed=2)
    assert other != first
    assert reused == 0


def journaled_prompts(folder: Path) -> int:
    """Prompts of which there are whole records."""
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_bytes().splitlines(keepends=True)]
    return len({json.loads(line)["key"] for line in lines if b'"key"' in line and line.endswith(b"}\n")})


@pytest.mark.parametrize(
    ("strategy", "branching", "records"),
    [
        ("eager", "top2", 7),
        *(
            pytest.param(*killed, marks=pytest.mark.slow("two processes; other strategies resume as this one does"))
            for killed in (
                ("adapt", "top2", 3),
                ("adapt", "systematic", 4),
                ("consistency", None, 3),
                ("consistency", None, 20),
            )
        ),
    ],
)
def test_a_run_of_two_processes_that_was_killed_is_finished_by_one(tmp_path, decoded, strategy, branching, records):
    """Killed in stage 1, and in stage 2 or near it: six documents make six records in stage 1."""
    calls = [call(strategy, branching=branching)]
    plan = Plan(str(tmp_path / "killed"), calls, {"journal": str(tmp_path / "journal")})
    assert kill_when(plan, 2, records), "the run ended before it could be killed"
    written = journaled_prompts(tmp_path / "journal")
    resumed, reported = made(calls, journal=str(tmp_path / "journal"))
    undisturbed, of_undisturbed = made(calls)
    assert resumed == undisturbed
    assert reported[0]["ledger"] == of_undisturbed[0]["ledger"]
    assert reported[0]["journal"]["prompts_reused"] >= written > 0
    names = Counter()
    for path in (tmp_path / "journal").glob("*.jsonl"):
        lines = path.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"}\n")]
        assert len(whole) >= len(lines) - 1
        names.update((record["key"], record["part"]) for record in map(json.loads, whole[1:]))
    assert set(names.values()) == {1}, "a finished prompt was generated again"

"""Records of Every Eval Ever (schema 0.3.0): a file a run and task, and beside it its documents, a line each."""

from __future__ import annotations

import hashlib
import json
import math
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eager_lmeval.commands.writing import save_text
from eager_lmeval.errors import UsageError
from eager_lmeval.pools.marks import UPPER_BOUND
from eager_lmeval.runs.documents import Document, documents

if TYPE_CHECKING:
    from eager_lmeval.runs.run import Run

__all__ = ["write_records"]

SCHEMA = "0.3.0"
_SCORES = re.compile(r"(pass|cons|cons_w)@(max|\d+)|pass\^\d+|pass_rate(_w)?|exact_match|acc(_norm)?")
_LED = ("cons_w@max", "pass_rate_w", "pass@max")
"""The score that documents are given with: the first that a task has."""


def write_records(runs: Sequence[Run], folder: Path, organisation: str) -> str:
    """Writes all tasks of all runs below ``folder``; UsageError for a task without a score between 0 and 1."""
    written = []
    for run in runs:
        for task in run.tasks:
            written.append(_write(run, task, folder, organisation))
    return "\n".join(map(str, written))


def _write(run: Run, task: str, folder: Path, organisation: str) -> Path:
    model_id = _model_id(run.model)
    made = str(int(float(run.results.get("date") or 0)))
    evaluation_id = f"{_component(task)}/{model_id.replace('/', '_')}/{made}"
    digest = hashlib.sha256(f"{evaluation_id} {run.results_file.name}".encode()).digest()
    name = str(uuid.UUID(bytes=digest[:16], version=4))
    place = Path("data") / _component(task) / model_id
    results = list(_results(run, task))
    if not results:
        raise UsageError(f"{run.results_file}: task {task} has no score between 0 and 1 that could be exported")
    ids = {one["metric_config"]["metric_id"]: one["evaluation_result_id"] for one in results}
    led = next((metric for metric in _LED if metric in ids), next(iter(ids)))
    about = {"evaluation_id": evaluation_id, "model_id": model_id, "evaluation_result_id": ids[led]}
    rows = [row for document in _of_first_filter(run, task) if (row := _row(document, led, about, task)) is not None]
    samples = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    record = {
        "schema_version": SCHEMA,
        "evaluation_id": evaluation_id,
        "evaluation_timestamp": made,
        "retrieved_timestamp": made,
        "source_metadata": {
            "source_type": "evaluation_run",
            "source_organization_name": organisation,
            "evaluator_relationship": "other",
        },
        "eval_library": {
            "name": "lm_eval",
            "version": str(run.results.get("lm_eval_version") or "unknown"),
            "additional_details": {"eager_lmeval": str((run.config.get("eager") or {}).get("version") or "not used")},
        },
        "model_info": {
            "name": run.model,
            "id": model_id,
            "additional_details": {"deployment_type": "self_deployed", "model_availability": "unknown"},
        },
        "evaluation_results": results,
    }
    if rows:
        record["detailed_evaluation_results"] = {
            "format": "jsonl",
            "file_path": (place / f"{name}_samples.jsonl").as_posix(),
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(samples.encode()).hexdigest(),
            "total_rows": len(rows),
        }
        save_text(folder / place / f"{name}_samples.jsonl", samples)
    file = folder / place / f"{name}.json"
    save_text(file, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return file


def _results(run: Run, task: str) -> Iterator[dict[str, Any]]:
    """Every score of a task, with both its errors and its interval."""
    config = (run.results.get("configs") or {}).get(task) or {}
    figures: Mapping[str, Any] = {**(run.results["results"].get(task) or {}), **(config.get("figures") or {})}
    pools = run.pools(task)
    options: Mapping[str, Any] = pools[0]["options"] if pools else {}
    dataset = {"dataset_name": str(config.get("dataset_path") or task), "source_type": "other"}
    for (metric, variant), value in run.values(task).items():
        if not _SCORES.fullmatch(metric) or not 0 <= value <= 1:
            continue
        error, low_high = figures.get(f"{metric}_stderr,{variant}"), figures.get(f"{metric}_ci95,{variant}")
        details = {"filter": variant} | ({"labels": UPPER_BOUND} if run.labels_used else {})
        sampling = figures.get(f"{metric}_stderr_sampling,{variant}")
        if isinstance(sampling, float) and math.isfinite(sampling):
            bounded = metric in (figures.get(f"sampling_bounds,{variant}") or [])
            details["standard_error_of_these_documents" + ("_at_most" if bounded else "")] = repr(sampling)
        uncertainty: dict[str, Any] = {"num_samples": run.documents(task)}
        if isinstance(error, float) and math.isfinite(error):
            uncertainty["standard_error"] = {"value": error, "method": "analytic"}
        if isinstance(low_high, list) and all(map(math.isfinite, low_high)):
            low, high = low_high
            uncertainty["confidence_interval"] = {
                **{"lower": low, "upper": high, "confidence_level": 0.95, "method": "Wilson, over documents"}
            }
        k = re.search(r"\d+$", metric)
        yield {
            "evaluation_result_id": f"{task}/{metric}/{variant}",
            "evaluation_name": task,
            "source_data": dataset,
            "metric_config": {
                "metric_id": metric,
                "metric_name": metric,
                "metric_kind": metric.partition("@")[0],
                "metric_unit": "proportion",
                "metric_parameters": {"k": float(k[0] if k else options.get("max_sequences", 1))},
                "lower_is_better": False,
                "score_type": "continuous",
                "min_score": 0,
                "max_score": 1,
            },
            "score_details": {"score": value, "details": details, "uncertainty": uncertainty},
            "generation_config": {
                "generation_args": {
                    name: given
                    for name, given in (
                        ("temperature", options.get("temperature")),
                        ("top_p", options.get("top_p")),
                        ("top_k", options.get("top_k")),
                        ("max_tokens", options.get("max_gen_toks")),
                    )
                    if given is not None
                },
                "additional_details": {name: str(given) for name, given in options.items()},
            },
        }


def _of_first_filter(run: Run, task: str) -> Iterator[Document]:
    first = None
    for document in documents(run, task):
        first = first or document.filter
        if document.filter == first:
            yield document


def _row(document: Document, metric: str, about: Mapping[str, Any], task: str) -> dict[str, Any] | None:
    """A document with all of its sequences; None where it is unscored, which is not wrong."""
    value = document.metrics.get(metric, math.nan)
    if math.isnan(value):
        return None
    prompt, question = document.sample.prompt, document.question
    asked = prompt[question.start : question.end] or prompt
    reference = [document.label] if document.label is not None else [str(document.sample.logged.get("target") or "")]
    sequences = document.record["sequences"]
    answers = [grade.answer for grade in document.grades if grade is not None and grade.answer is not None]
    row: dict[str, Any] = {
        "schema_version": SCHEMA,
        **about,
        "evaluation_name": task,
        "sample_id": str(document.doc_id),
        "sample_hash": hashlib.sha256("".join([asked, *reference]).encode("utf-8", "replace")).hexdigest(),
        "interaction_type": "single_turn",
        "input": {"raw": asked, "formatted": prompt, "reference": reference},
        "output": {"raw": [str(sequence["text"]) for sequence in sequences]},
        "answer_attribution": [
            {
                "turn_idx": 0,
                "source": "output.raw",
                "extracted_value": answer,
                "extraction_method": str(document.sample.column.get("verifier") or "task"),
                "is_terminal": True,
            }
            for answer in dict.fromkeys(answers)
        ],
        "evaluation": {"score": value, "is_correct": value > 0.5},  # of a vote: more than half of the tied classes
        "metadata": {"weights": [sequence.get("weight") for sequence in sequences], "metric": metric},
    }
    if document.record.get("tokens") is not None:
        used = {"input": int(document.record.get("prompt_tokens") or 0), "output": int(document.record["tokens"])}
        total = sum(used.values())
        row["token_usage"] = {**{f"{kind}_tokens": number for kind, number in used.items()}, "total_tokens": total}
    return row


def _model_id(model: str) -> str:
    """``organisation/model`` as on the Hub; a folder of this machine is ``local/FOLDER``."""
    parts = [part for part in re.split(r"[\\/]", model) if part]
    named = (
        parts
        if len(parts) == 2 and not model.startswith((".", "/", "~"))
        else ["local", parts[-1] if parts else "model"]
    )
    return "/".join(map(_component, named))


def _component(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text).strip("._") or "unnamed"

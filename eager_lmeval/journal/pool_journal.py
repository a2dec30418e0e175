"""The journal as pools see it: prompts by their place in the pool, parts by name, and which rank has read what."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any

from eager_lmeval.algorithm.tree import Tree
from eager_lmeval.errors import UsageError
from eager_lmeval.journal.journal import Journal, Record
from eager_lmeval.processes.ranks import Ranks

__all__ = ["NO_JOURNAL", "PoolJournal", "open_for_pools"]


@dataclass(frozen=True)
class PoolJournal:
    """The journal as one pool sees it: prompts by their place in the pool, parts by name. Empty without one."""

    journal: Journal | None = None
    keys: Seq[str] = ()
    """Each prompt's key, by place."""
    prompts: Seq[Mapping[str, Any]] = ()
    """What a record says of its prompt, by place."""
    records: Mapping[str, Mapping[str, Record]] = field(default_factory=dict)
    """What this rank has read."""
    holders: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Which rank has read which part of which key."""

    def parts(self, place: int) -> Mapping[str, int]:
        """Which rank has read which part of a prompt; the same on all ranks."""
        return self.holders.get(self.keys[place], {}) if self.journal else {}

    def load(self, place: int, part: str) -> Record:
        """A part that this rank has read."""
        return self.records[self.keys[place]][part]

    def keep(self, place: int, part: str, grown: Tree) -> None:
        """Returns when the part is on disk."""
        if self.journal:
            self.journal.append(self.keys[place], part, self.prompts[place], grown)


NO_JOURNAL = PoolJournal()


def open_for_pools(
    journal: Journal, keys: Seq[Seq[str]], prompts: Seq[Seq[Mapping[str, Any]]], ranks: Ranks, vocabulary: int
) -> list[PoolJournal]:
    """One a pool. Each rank reads its share of the files that rank 0 sees; all learn who has read what.

    ``vocabulary``: how many token ids the model has, none of which a record may exceed.
    """
    files, mark = ranks.gather((journal.files(), journal.mark()) if ranks.rank == 0 else ([], ""))[0]
    elsewhere = [rank for rank, here in enumerate(ranks.gather(journal.holds(mark))) if not here]
    if elsewhere:
        raise UsageError(
            f"journal={journal.folder} on the machine of rank {elsewhere[0]} is not the folder that rank 0 uses: "
            f"give a folder on a file system that all machines share"
        )
    journal.unmark(mark)
    wanted = {key for of_pool in keys for key in of_pool}
    records = journal.read(files[ranks.rank :: ranks.size], wanted, vocabulary)
    holders: dict[str, dict[str, int]] = {}
    for rank, read in enumerate(ranks.gather({key: list(parts) for key, parts in records.items()})):
        for key, parts in read.items():
            for part in parts:
                holders.setdefault(key, {}).setdefault(part, rank)
    return [
        PoolJournal(journal, of_pool, about, records, holders) for of_pool, about in zip(keys, prompts, strict=True)
    ]

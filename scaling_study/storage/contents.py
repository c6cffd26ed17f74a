"""The rows that the file of each chunk must hold, by a plan or by a stored manifest."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from scaling_study.files import checksum_of
from scaling_study.study.chunk_shapes import ChunkShape
from scaling_study.study.conditions import Group, problem_of
from scaling_study.study.plan import check_size


class Content(NamedTuple):
    """The rows of a chunk: one for each condition and seed, in this order."""

    conditions: int
    digest: str  # of the conditions' ids
    seeds: range

    def runs_within(self, seeds: tuple[int, int]) -> int:
        """Return the number of its runs with seeds in [first, last)."""
        first, last = max(seeds[0], self.seeds.start), min(seeds[1], self.seeds.stop)
        return self.conditions * max(0, last - first)


def digest_of(ids: Iterable[str]) -> str:
    """Return sixteen hexadecimal digits that identify conditions in their order."""
    return checksum_of("\n".join(ids).encode())


def block_digests(group: Group) -> list[str]:
    """Return the digest of each block of a planned group's conditions."""
    ids = [condition.id for condition in group.conditions]
    width = group.shape.conditions
    return [digest_of(ids[k : k + width]) for k in range(0, len(ids), width)]


def manifest_groups(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return what a manifest says of each group, from which `stored_contents` reads."""
    return [
        {
            **{key: str(value) for key, value in group.static._asdict().items()},
            "shape": list(group.shape),
            "conditions": len(group.conditions),
            "members": block_digests(group),
            "features": list(problem_of(group.static.problem).columns),
        }
        for group in groups
    ]


def planned_contents(groups: Sequence[Group], seeds: tuple[int, int]) -> dict[str, Content]:
    """Return the content of each chunk of planned groups, for seeds in [first, last)."""
    return _contents(groups, [block_digests(group) for group in groups], seeds)


def stored_contents(manifest: Mapping[str, Any], seeds: tuple[int, int]) -> dict[str, Content]:
    """Return the content of each chunk by the groups in a manifest.

    A plan would need a user's own code, where the study names some.
    """
    static: Any = None  # which a manifest does not hold
    groups = []
    for index, entry in enumerate(manifest["groups"]):
        conditions: Any = range(entry["conditions"])
        groups.append(Group(index, static, conditions, ChunkShape(*entry["shape"])))
    return _contents(groups, [entry["members"] for entry in manifest["groups"]], seeds)


def _contents(
    groups: Sequence[Group], digests: Sequence[Sequence[str]], seeds: tuple[int, int]
) -> dict[str, Content]:
    check_size(groups, seeds)
    contents = {}
    for group, blocks in zip(groups, digests, strict=True):
        for chunk in group.chunks(seeds):
            members, digest = group.members(chunk), blocks[chunk.condition_block]
            contents[str(chunk)] = Content(len(members), digest, group.seeds(chunk))
    return contents

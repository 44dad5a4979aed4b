"""The journal of SQLite beside a database (its write-ahead log), read as the documentation of its format says."""

from collections.abc import Iterator

_HEADER, _FRAME_HEADER = 32, 24  # bytes


def frames(journal: bytes) -> Iterator[tuple[int, int, bool]]:
    """Yield the frames that belong to a journal, in order.

    A journal is written from its beginning again after a checkpoint. Frames behind the new ones are those of before;
    they have another salt.

    Yields:
        The position at which the frame begins, the one at which it ends, and whether it ends a commit.
    """
    size = int.from_bytes(journal[8:12], "big")
    salt, position = journal[16:24], _HEADER
    while (end := position + _FRAME_HEADER + size) <= len(journal) and journal[position + 8 : position + 16] == salt:
        yield position, end, journal[position + 4 : position + 8] != bytes(4)
        position = end


def end_of_commits(journal: bytes) -> int:
    """Return the position behind the last commit in a journal, 0 if there is none."""
    return max((end for _, end, commits in frames(journal) if commits), default=0)

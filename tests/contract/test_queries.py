"""The documented protocol, end to end: every test runs in both colours over both transports.

F1 to F9 are the conformance fixtures of protocol §15; the other names say which part of the protocol they hold.
"""

from typing import Any

import numpy as np
import pytest

from nextk import AsyncIndex, Vector
from nextk.errors import QueryNotFound, RefusedError, TooManyQueries
from nextk.types import (
    Data,
    DenseIndexInfo,
    FetchResult,
    FusionAlgorithm,
    QueryMode,
    QueryResult,
    SparseIndexInfo,
    SparseVector,
    WeightingStrategy,
)
from tests.support.query_results import ids, pages, scored, seen, sparse
from tests.support.transports import Opener

IDF, RRF, DBSF = WeightingStrategy.IDF, FusionAlgorithm.RRF, FusionAlgorithm.DBSF
PAIR = [("p", [1.0, 0.0]), ("q", [0.0, 1.0])]

F1 = {
    "a": ([0.1, 0.2], {0: 0.1, 1: 0.2}),
    "b": ([0.2, 0.3], {1: 0.2, 2: 0.3}),
    "c": ([0.3, 0.4], {2: 0.3, 3: 0.4}),
}


class TestFixtures:
    """The conformance fixtures: what the official SDKs' tests assert against the live service."""

    async def hybrid(self, open_index: Opener, records: dict[str, tuple[list[float], dict[int, float]]]) -> AsyncIndex:
        """A hybrid index that fuses as the service does, filled."""
        index = open_index(dimension=2, fusion_order="batch")
        await index.upsert([(id_, dense, sparse(part)) for id_, (dense, part) in records.items()])
        return index

    async def test_f1_sparse_resumable(self, open_index: Opener) -> None:
        """F1: a sparse search serves its hits in order of their IDF-weighted products, and only hits."""
        index = open_index("sparse")
        await index.upsert([(id_, sparse(part)) for id_, (_, part) in F1.items()])
        query = sparse({0: 0.1, 1: 0.2})
        page, handle = await index.resumable_query(sparse_vector=query, top_k=1, weighting_strategy=IDF)
        async with handle:
            assert scored(("a", 0.028608438)) == seen(page)
            assert scored(("b", 0.018800145)) == seen(await handle.fetch_next(1))
            assert [] == await handle.fetch_next(1)

    async def test_f1_hybrid_resumable(self, open_index: Opener) -> None:
        """F1: every page of a hybrid search is fused of its own candidates."""
        index = await self.hybrid(open_index, F1)
        page, handle = await index.resumable_query(
            [0.1, 0.1], 2, sparse_vector=sparse({0: 0.1}), weighting_strategy=IDF, fusion_algorithm=DBSF
        )
        async with handle:
            assert scored(("c", 0.617851), ("a", 0.5)) == seen(page)
            assert scored(("b", 0.5)) == seen(await handle.fetch_next(1))
            assert [] == await handle.fetch_next(1)

    async def test_f1_hybrid_one_shot(self, open_index: Opener) -> None:
        """F1: a plain query fuses candidates deeper than `top_k`, by reciprocal ranks from 0 unless told otherwise."""
        index = await self.hybrid(open_index, F1)
        third = await index.query([0.1, 0.1], 1, sparse_vector=sparse({3: 0.1, 4: 0.2}), fusion_algorithm=RRF)
        first = await index.query([0.5, 0.1], 1, sparse_vector=sparse({0: 0.5, 1: 0.1}))
        assert scored(("c", 0.033333335)) == seen(third)
        assert scored(("a", 0.032795697)) == seen(first)

    async def test_f1_hybrid_single_component(self, open_index: Opener) -> None:
        """F1: with one component there is nothing to fuse, and its raw score is served."""
        index = await self.hybrid(open_index, F1)
        query = sparse({2: 0.5, 3: 0.5})
        page = await index.query(sparse_vector=query, top_k=1, weighting_strategy=IDF, fusion_algorithm=DBSF)
        assert scored(("c", 0.26666638)) == seen(page)

    async def test_f2_hybrid_idf_dbsf_resumable(self, open_index: Opener) -> None:
        """F2: IDF never turns negative, and a later page may score higher than an earlier one."""
        records = {
            "x": ([0.9, 0.9], {0: 0.3, 1: 0.1}),
            "y": ([0.8, 0.9], {0: 0.2, 2: 0.1}),
            "z": ([0.7, 0.9], {0: 0.1, 3: 0.1}),
        }
        index = await self.hybrid(open_index, records)
        page, handle = await index.resumable_query(
            [0.1, 0.1], 2, sparse_vector=sparse({0: 0.1}), weighting_strategy=IDF, fusion_algorithm=DBSF
        )
        async with handle:
            assert [("x", pytest.approx(1.2357, abs=1e-4)), ("y", pytest.approx(0.7643, abs=1e-4))] == seen(page)
            assert scored(("z", 1.0)) == seen(await handle.fetch_next(1))

    async def test_f3_hybrid_dbsf_one_shot(self, open_index: Opener) -> None:
        """F3: distribution-based fusion lets one component's outlier outweigh the other's best."""
        records = {
            "r": ([0.8, 0.9], {0: 0.1, 1: 0.1}),
            "s": ([0.9, 0.9], {1: 0.1, 2: 0.1}),
            "t": ([0.3, 0.9], {2: 0.1, 3: 0.1}),
        }
        index = await self.hybrid(open_index, records)
        query = sparse({0: 0.1, 1: 0.1, 3: 100})
        assert ["s", "t", "r"] == ids(await index.query([0.9, 0.9], sparse_vector=query, fusion_algorithm=DBSF))

    async def test_f4_idf_order(self, open_index: Opener) -> None:
        """F4: IDF lets rare dimensions decide between hits that would tie without it."""
        index = open_index("sparse")
        await index.upsert([("u", ([0, 1], [0.1, 0.1])), ("v", ([1, 2], [0.1, 0.1])), ("w", ([2, 3], [0.1, 0.1]))])
        query = sparse({0: 0.2, 1: 0.1, 3: 0.1})
        assert ["u", "w", "v"] == ids(await index.query(sparse_vector=query, weighting_strategy=IDF))
        plain = await index.query(sparse_vector=query)
        assert ["u", "v", "w"] == ids(plain)
        assert plain[1].score == plain[2].score

    async def test_f5_dense_resumable(self, open_index: Opener) -> None:
        """F5: pages follow each other to the empty one; then the query is still there to stop, once."""
        index = open_index("dense", dimension=2)
        rows = [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [0.7, 0.8], [0.9, 1.0]]
        await index.upsert([(str(place), row) for place, row in enumerate(rows, 1)])
        page, handle = await index.resumable_query(rows[0], 2)
        assert ["1", "2"] == ids(page)
        assert [["3", "4"], ["5"], []] == [ids(await handle.fetch_next(size)) for size in (2, 1, 1)]
        assert await handle.stop() is None  # type: ignore[func-returns-value]
        with pytest.raises(RefusedError):
            await handle.fetch_next(1)
        with pytest.raises(RefusedError):
            await handle.stop()

    async def test_f6_missing_namespace(self, open_index: Opener) -> None:
        """F6: a search in a namespace that does not exist finds nothing and makes nothing."""
        index = open_index("dense", dimension=2)
        page, handle = await index.resumable_query([1.0, 0.0], namespace="nowhere")
        assert ([], [], []) == (page, await handle.fetch_next(1), await handle.fetch_next(1))
        await handle.stop()
        await handle.stop()
        assert [""] == await index.list_namespaces()
        assert 0 == open_index.engine(index).open_queries()

    async def test_f7_range(self, open_index: Opener) -> None:
        """F7: a range is read in insertion order, and a full last page already says that it is the last."""
        index = open_index("dense", dimension=1)
        names = [f"id-{number}" for number in range(20)]
        await index.upsert([(name, [1.0]) for name in names])
        found: list[str | None] = []
        cursor, cursors = "", []
        for limit in (4, 8, 8):
            stretch = await index.range(cursor, limit)
            found += ids(stretch.vectors)
            cursor = stretch.next_cursor
            cursors.append(bool(cursor))
        assert (names, [True, True, False]) == (found, cursors)

    async def test_f8_batches(self, open_index: Opener) -> None:
        """F8: `query_many` answers with one list per query, also for a single one."""
        index = open_index("dense", dimension=2)
        await index.upsert(PAIR)
        one = await index.query_many(queries=[{"vector": [1.0, 0.0], "top_k": 1}])
        two = await index.query_many(queries=[{"vector": [0.0, 1.0], "top_k": 1}, {"vector": [1.0, 0.0]}])
        assert [["p"]] == [ids(page) for page in one]
        assert [["q"], ["p", "q"]] == [ids(page) for page in two]

    @pytest.mark.parametrize(
        ("filter", "expected"),
        [
            ("n != 5", ["second"]),
            ("f != 1", []),
            ("HAS FIELD f", ["first"]),
            ("HAS NOT FIELD f", ["second"]),
            ("tags[#-1] = 'q'", ["first"]),
            ('tags CONTAINS "p" or n = 7', ["first", "second"]),
        ],
    )
    async def test_f9_filters(self, open_index: Opener, filter: str, expected: list[str]) -> None:
        """F9: filters see missing fields, nulls, array elements and both quotes as SQLite does."""
        index = open_index("dense", dimension=1)
        first: dict[str, Any] = {"n": 5, "f": None, "tags": ["p", "q"]}
        await index.upsert([("first", [1.0], first), ("second", [1.0], {"n": 7})])
        assert expected == ids(await index.query([1.0], filter=filter))
        page, handle = await index.resumable_query([1.0], 1, filter=filter)
        assert expected == ids(page) + (await pages(handle, 5))[0]

    @pytest.mark.parametrize("name", [r"a\b", r"a\\b", r"a\'b"])
    async def test_q10_backslashes(self, open_index: Opener, name: str) -> None:
        """Q10: a value with backslashes that stands as it is between quotes finds itself, and nobody else's records."""
        index = open_index("dense", dimension=1)
        names = [r"a\b", r"a\\b", r"a\'b", "ab", "a'b"]
        await index.upsert([(each, [1.0], {"u": each}) for each in names])
        assert [name] == ids(await index.query([1.0], filter=f'u = "{name}"'))
        page, handle = await index.resumable_query([1.0], 1, filter=f'u = "{name}"')
        assert [name] == ids(page) + (await pages(handle, 5))[0]
        with pytest.raises(RefusedError, match="a backslash escapes the quote") as caught:
            await index.delete(filter='u = "a\\"')
        assert 422 == caught.value.status
        assert 1 == (await index.delete(filter=f'u = "{name}"')).deleted

    async def test_f9_bad_filters(self, open_index: Opener) -> None:
        """F9: a filter that cannot be read is refused with the line and the column."""
        index = open_index("dense", dimension=1)
        await index.upsert([("first", [1.0], {"n": 5})])
        with pytest.raises(RefusedError, match=r"Invalid filter\. "):
            await index.query([1.0], filter="tags[] = 'p'")
        with pytest.raises(RefusedError) as caught:
            await index.query([1.0], filter="n IN [5]")
        assert str(caught.value).startswith("Invalid filter. At line 1:5 token recognition error at: '['")
        assert 422 == caught.value.status


class TestSearch:
    """Queries, resumable or not."""

    async def test_scores_of_the_metrics(self, open_index: Opener) -> None:
        """The three metrics score by the published formulas."""
        rows = [("a", [3.0, 4.0]), ("b", [0.0, 2.0]), ("c", [0.0, 0.0])]
        for metric, expected in {
            "cosine": [("a", 1.0), ("b", 0.9), ("c", 0.5)],
            "euclidean": [("a", 1.0), ("b", 1 / 14), ("c", 1 / 26)],
            "dot_product": [("a", 13.0), ("b", 4.5), ("c", 0.5)],
        }.items():
            index = open_index("dense", dimension=2, similarity=metric)
            await index.upsert(rows)
            assert scored(*expected) == seen(await index.query([3.0, 4.0]))

    async def test_self_match_is_exactly_one(self, open_index: Opener) -> None:
        """A vector under cosine matches itself with exactly 1, and the zero vector with exactly one half."""
        index = open_index("dense", dimension=384)
        row = np.random.default_rng(0).normal(size=384)
        await index.upsert([("self", row), ("zero", np.zeros(384))])
        assert [("self", 1.0), ("zero", 0.5)] == seen(await index.query(row))
        assert [("self", 0.5), ("zero", 0.5)] == seen(await index.query(np.zeros(384)))

    async def test_ties_keep_insertion_order(self, open_index: Opener) -> None:
        """Equal scores are served in the order in which their records first came."""
        index = open_index("dense", dimension=1)
        await index.upsert([(name, [1.0]) for name in "zyx"])
        await index.upsert([("y", [2.0])])
        await index.upsert([("a", [1.0])])
        assert ["z", "y", "x", "a"] == ids(await index.query([1.0]))
        page, handle = await index.resumable_query([1.0], 1)
        assert [["z"], ["y", "x"], ["a"]] == [ids(page), *await pages(handle, 2, 2)]

    async def test_include_flags_shape_every_page(self, open_index: Opener) -> None:
        """What the first page carries, every page carries, and nothing else."""
        index = open_index(dimension=1)
        rows = [Vector(name, [0.125], {"of": name}, f"text of {name}", sparse({7: 0.125})) for name in "ab"]
        await index.upsert(rows)
        for vectors, metadata, data in [(False, False, False), (True, False, False), (False, True, True)]:
            page, handle = await index.resumable_query(
                [0.125], 1, include_vectors=vectors, include_metadata=metadata, include_data=data
            )
            async with handle:
                for match, name in zip(page + await handle.fetch_next(1), "ab", strict=True):
                    expected = QueryResult(
                        id=name,
                        score=1.0,
                        vector=[0.125] if vectors else None,
                        sparse_vector=SparseVector([7], [0.125]) if vectors else None,
                        metadata={"of": name} if metadata else None,
                        data=f"text of {name}" if data else None,
                    )
                    assert expected == match

    async def test_filter_holds_for_every_page(self, open_index: Opener) -> None:
        """The filter of the start applies to every page."""
        index = open_index("dense", dimension=1)
        await index.upsert([(str(number), [1.0], {"even": number % 2 == 0}) for number in range(9)])
        page, handle = await index.resumable_query([1.0], 2, filter="even = true")
        assert [["0", "2"], ["4"], ["6", "8"], []] == [ids(page), *await pages(handle, 1, 5, 1)]

    async def test_only_the_first_page_has_top_k(self, open_index: Opener) -> None:
        """Every page has a size of its own, up to 1,000."""
        index = open_index("dense", dimension=1)
        names = [str(number) for number in range(1_500)]
        for start in (0, 1_000):
            await index.upsert([(name, [1.0]) for name in names[start : start + 1_000]])
        page, handle = await index.resumable_query([1.0], 1)
        assert [1, 1000, 3, 496, 0] == [len(page), *map(len, await pages(handle, 1_000, 3, 1_000, 1_000))]

    async def test_exhaustion_does_not_end_the_query(self, open_index: Opener) -> None:
        """After the empty page the query is still open, keeps answering with empty pages, and is stopped as any."""
        index = open_index("dense", dimension=2)
        await index.upsert(PAIR)
        page, handle = await index.resumable_query([1.0, 0.0], 2)
        assert [2, 0, 0] == [len(page), len(await handle.fetch_next(1)), len(await handle.fetch_next(1000))]
        assert 1 == open_index.engine(index).open_queries()
        await handle.stop()
        assert 0 == open_index.engine(index).open_queries()

    async def test_empty_results_are_real_queries(self, open_index: Opener) -> None:
        """An empty namespace, or a filter that nothing passes, opens a query with an empty first page."""
        index = open_index("dense", dimension=2)
        empty, on_empty = await index.resumable_query([1.0, 0.0])
        await index.upsert([("late", [1.0, 0.0])])
        unmatched, on_unmatched = await index.resumable_query([1.0, 0.0], filter="none = 1")
        assert ([], []) == (empty, unmatched)
        assert 2 == open_index.engine(index).open_queries()
        assert [[]] == await pages(on_empty, 5)
        assert [[]] == await pages(on_unmatched, 5)

    async def test_namespaces_are_isolated(self, open_index: Opener) -> None:
        """A search, and every page of it, sees the records of its own namespace only."""
        index = open_index("dense", dimension=2)
        await index.upsert(PAIR)
        await index.upsert([("p", [0.0, 1.0]), ("r", [1.0, 0.0])], namespace="other")
        page, handle = await index.resumable_query([1.0, 0.0], 1, namespace="other")
        assert [["r"], ["p"], []] == [ids(page), *await pages(handle, 5, 5)]
        assert ["p", "q"] == ids(await index.query([1.0, 0.0]))
        assert [] == await index.query([1.0, 0.0], namespace="nowhere")

    async def test_idf_statistics_are_of_the_namespace(self, open_index: Opener) -> None:
        """IDF counts the records of the query's own namespace: others do not change its scores, nor does a filter."""
        index = open_index("sparse")
        rows = [(id_, sparse(part), {"id": id_}) for id_, (_, part) in F1.items()]
        await index.upsert(rows)
        for number in range(3):
            await index.upsert([(f"{number}-{id_}", part) for id_, part, _ in rows], namespace="other")
        query = sparse({0: 0.1, 1: 0.2})
        expected = scored(("a", 0.028608438), ("b", 0.018800145))
        assert expected == seen(await index.query(sparse_vector=query, weighting_strategy=IDF))
        filtered = await index.query(sparse_vector=query, weighting_strategy=IDF, filter="id = 'b'")
        assert expected[1:] == seen(filtered)

    async def test_duplicate_sparse_indices(self, open_index: Opener) -> None:
        """Repeated indices are kept as given, and every pair of them adds to the score."""
        index = open_index("sparse")
        twice = SparseVector([9, -(2**31), 9], [1.0, 2.0, 3.0])
        await index.upsert([("twice", twice), ("once", ([2**31 - 1], [1.0]))])
        [match] = await index.query(sparse_vector=SparseVector([9, 9], [1.0, 10.0]), include_vectors=True)
        assert (44.0, twice) == (match.score, match.sparse_vector)
        assert ["once"] == ids(await index.query(sparse_vector=([2**31 - 1], [-5.0])))

    async def test_fusion_is_ignored_without_two_components(self, open_index: Opener) -> None:
        """Fusion, weighting and mode are accepted where they mean nothing."""
        index = open_index("dense", dimension=2)
        await index.upsert(PAIR)
        page = await index.query([1.0, 0.0], fusion_algorithm=DBSF, weighting_strategy=IDF, query_mode=QueryMode.SPARSE)
        assert [("p", 1.0), ("q", 0.5)] == seen(page)

    async def test_pages_of_different_queries_are_independent(self, open_index: Opener) -> None:
        """Each query has its own position."""
        index = open_index("dense", dimension=1)
        await index.upsert([(name, [1.0]) for name in "abcd"])
        _, first = await index.resumable_query([1.0], 1)
        _, second = await index.resumable_query([1.0], 2)
        assert ["b"] == ids(await first.fetch_next(1))
        assert [["c", "d"]] == await pages(second, 5)
        assert [["c"], ["d"], []] == await pages(first, 1, 5, 5)

    async def test_exhaustive_listing(self, open_index: Opener) -> None:
        """A namespace is listed by paging to the empty page, as mem0 does."""
        index = open_index("dense", dimension=2)
        await index.upsert([(str(number), [1.0, number], {"user": number % 3}) for number in range(250)])
        page, handle = await index.resumable_query(
            [1.0, 1.0], 100, include_metadata=True, filter='user = 1 AND user != "x"'
        )
        async with handle:
            found = page
            while page := await handle.fetch_next(100):
                found += page
        assert {str(number) for number in range(1, 250, 3)} == set(ids(found))
        assert len(found) == len(set(ids(found)))


class Letters:
    """A text model whose vectors can be worked out by hand: how often each of "abc" occurs."""

    def dense(self, texts: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """One row per text."""
        return np.array([[text.count(letter) for letter in "abc"] for text in texts], dtype=float)

    def sparse(self, texts: list[str]) -> list[SparseVector]:
        """One vector per text: its letters."""
        return [SparseVector([ord(letter) for letter in sorted(set(text))], [1.0] * len(set(text))) for text in texts]


class TestText:
    """Indexes that embed text."""

    def text_index(self, open_index: Opener, type: str = "hybrid") -> AsyncIndex:
        """An index over the letter model."""
        models: dict[str, Any] = {"embedding": Letters().dense, "sparse_embedding": Letters().sparse}
        if type == "dense":
            del models["sparse_embedding"]
        if type == "sparse":
            del models["embedding"]
        return open_index(type, **models)

    async def test_query_modes(self, open_index: Opener) -> None:
        """A text searches both halves, or the one that `query_mode` names, with raw scores then."""
        index = self.text_index(open_index)
        await index.upsert([Data("aab", "aab"), ("cz", "cz", {"last": True})])
        dense, sparse_, both = [
            await index.query(data="az", query_mode=mode) for mode in (QueryMode.DENSE, QueryMode.SPARSE, None)
        ]
        assert scored(("aab", (1 + 2 / 5**0.5) / 2), ("cz", 0.5)) == seen(dense)
        assert scored(("aab", 1.0), ("cz", 1.0)) == seen(sparse_)
        assert scored(("aab", 2 / 60), ("cz", 2 / 61)) == seen(both)
        page, handle = await index.resumable_query(data="az", top_k=1, query_mode=QueryMode.SPARSE)
        assert [["aab"], ["cz"], []] == [ids(page), *await pages(handle, 1, 1)]

    async def test_text_is_kept_as_data(self, open_index: Opener) -> None:
        """The text of an embedded record is its data, and raw vectors live beside it."""
        index = self.text_index(open_index, "dense")
        await index.upsert([Data("t", "abc", {"k": 1}), Data("u", "b")])
        await index.upsert([Vector("v", [1.0, 1.0, 1.0], data="opaque")])
        found = await index.query(data="cab", include_data=True, include_vectors=True, top_k=2)
        assert [("t", "abc", [1.0, 1.0, 1.0]), ("v", "opaque", [1.0, 1.0, 1.0])] == [
            (match.id, match.data, match.vector) for match in found
        ]

    async def test_update_embeds_anew(self, open_index: Opener) -> None:
        """New data moves the record; explicit vectors win over it."""
        index = self.text_index(open_index, "dense")
        await index.upsert([Data("t", "a", {"kept": True})])
        assert await index.update("t", data="b")
        [record] = await index.fetch("t", include_vectors=True, include_metadata=True, include_data=True)
        assert FetchResult("t", [0.0, 1.0, 0.0], {"kept": True}, "b") == record
        assert await index.update("t", data="c", vector=[9.0, 9.0, 9.0])
        [record] = await index.fetch("t", include_vectors=True, include_data=True)
        assert FetchResult("t", [9.0, 9.0, 9.0], None, "c") == record

    async def test_query_many_by_text(self, open_index: Opener) -> None:
        """Several texts are asked in one request, each with its own mode."""
        index = self.text_index(open_index)
        await index.upsert([Data("a", "a"), Data("z", "z")])
        found = await index.query_many(
            queries=[{"data": "z", "query_mode": QueryMode.SPARSE}, {"data": "a", "query_mode": QueryMode.DENSE}]
        )
        assert [["z"], ["a", "z"]] == [ids(page) for page in found]

    @pytest.mark.parametrize("type", ["dense", "sparse", "hybrid"])
    async def test_info_names_the_models(self, open_index: Opener, type: str) -> None:
        """`info` gives each half that exists, with its model."""
        index = self.text_index(open_index, type)
        await index.upsert([Data("a", "a")])
        info = await index.info()
        dense = DenseIndexInfo(3, "COSINE", "custom")
        assert (dense if type != "sparse" else None) == info.dense_index
        assert (SparseIndexInfo("custom") if type != "dense" else None) == info.sparse_index

    async def test_bm25_shape(self, open_index: Opener) -> None:
        """Longer overlaps rank higher, and a word of one text finds that text alone (protocol §6)."""
        index = open_index("sparse", sparse_embedding="bm25")
        texts = ["river stone", "river stone harbour", "river stone harbour violin"]
        await index.upsert([Data(str(len(text.split())), text) for text in texts])
        assert ["4", "3", "2"] == ids(await index.query(data=texts[-1], query_mode=QueryMode.SPARSE))
        assert ["4"] == ids(await index.query(data="violin"))


class TestLimits:
    """What bounds resumable queries."""

    async def test_idle(self, open_index: Opener) -> None:
        """A query that nobody touches for `max_idle` seconds is gone; every page is a touch."""
        now = [0.0]
        index = open_index("dense", dimension=2, clock=lambda: now[0])
        await index.upsert(PAIR)
        _, handle = await index.resumable_query([1.0, 0.0], 1, max_idle=60)
        for expected in (["q"], [], []):
            now[0] += 60
            assert expected == ids(await handle.fetch_next(1))
        now[0] += 60.5
        with pytest.raises(QueryNotFound, match=r"Resumable query with uuid .* does not exist"):
            await handle.fetch_next(1)
        assert 0 == open_index.engine(index).open_queries()

    async def test_cap(self, open_index: Opener) -> None:
        """A query too many is refused; stopping one makes room, and so does the expiry of one."""
        now = [0.0]
        index = open_index("dense", dimension=2, max_open_queries=4, clock=lambda: now[0])
        await index.upsert(PAIR)
        _, first = await index.resumable_query([1.0, 0.0], max_idle=10)
        _, second = await index.resumable_query([1.0, 0.0], max_idle=100)
        with pytest.raises(TooManyQueries, match="Exceeded max active resumable query limit: 2") as caught:
            await index.resumable_query([1.0, 0.0])
        assert 403 == caught.value.status
        now[0] += 11
        _, third = await index.resumable_query([1.0, 0.0])
        for handle in (second, third):
            await handle.stop()
        with pytest.raises(QueryNotFound):
            await first.stop()


class TestWrites:
    """Writes while a query is open; `tests/engine/test_open_queries.py` has all of them for every type of index."""

    async def test_writes(self, open_index: Opener) -> None:
        """Deleted and revoked records are hidden, new ones do not enter, and no id comes twice."""
        index = open_index("dense", dimension=2)
        await index.upsert([(str(number), [1.0, number], {"may": True}) for number in range(8)])
        page, handle = await index.resumable_query([1.0, 0.0], 2, filter="may = true", include_metadata=True)
        await index.delete(["2", "0"])
        await index.update("4", metadata={"may": False})
        await index.update("5", metadata={"may": True, "new": 1})
        await index.upsert([("new", [1.0, 2.5], {"may": True}), ("1", [1.0, 6.5], {"may": True})])
        async with handle:
            page += await handle.fetch_next(2)
            page += await handle.fetch_next(9)
        assert ["0", "1", "3", "5", "6", "7"] == ids(page)
        assert {"may": True, "new": 1} == page[3].metadata

    async def test_reset(self, open_index: Opener) -> None:
        """A reset leaves an open query nothing to serve, but it is stopped as usual."""
        index = open_index("dense", dimension=2)
        await index.upsert(PAIR)
        _, handle = await index.resumable_query([1.0, 0.0], 1)
        await index.reset()
        await index.upsert(PAIR)
        assert [[], []] == await pages(handle, 1, 1)

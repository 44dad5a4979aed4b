"""The queries that a model writes for LangChain's `SelfQueryRetriever`, with their conditions as a filter."""

from collections.abc import Mapping
from typing import Any, Final

from langchain_core.structured_query import (
    Comparator,
    Comparison,
    FilterDirective,
    Operation,
    Operator,
    StructuredQuery,
    Visitor,
)

from nextk.arguments import written
from nextk.errors import ClientError

__all__ = ["StructuredQueryTranslator"]


class StructuredQueryTranslator(Visitor):
    """The translator with which a `SelfQueryRetriever` searches an index of nextk.

    A model divides a question into a text and conditions on the metadata; this class makes the conditions a filter, as
    a dict of the operators that `filter=` takes. The model may use every comparator but `like`, joined by `and`, `or`
    and `not`.

    A date that the model writes is compared as its ISO text, such as `"2024-05-01"`, and can only be equal or not. The
    index orders numbers alone, so what questions are to order, such as a year or a timestamp, has to be stored as one,
    and described to the model as one.

    Example:
        ```python
        from langchain_classic.chains.query_constructor.schema import AttributeInfo
        from langchain_classic.retrievers import SelfQueryRetriever
        from nextk.langchain import ResumableVectorStore, StructuredQueryTranslator

        retriever = SelfQueryRetriever.from_llm(
            llm,
            ResumableVectorStore(index=index),
            "Summaries of films",
            [AttributeInfo(name="year", description="The year of the film", type="integer")],
            structured_query_translator=StructuredQueryTranslator(),
        )
        retriever.invoke("films about dinosaurs from the nineties")
        ```

    Attributes:
        allowed_comparators: The comparators that the model is told of.
        allowed_operators: The logical operators that the model is told of.
    """

    allowed_comparators = (
        Comparator.EQ,
        Comparator.NE,
        Comparator.GT,
        Comparator.GTE,
        Comparator.LT,
        Comparator.LTE,
        Comparator.CONTAIN,
        Comparator.IN,
        Comparator.NIN,
    )
    allowed_operators = (Operator.AND, Operator.OR, Operator.NOT)

    def visit_operation(self, operation: Operation) -> dict[str, Any]:
        """Return the filter that joins or negates others; `not` of several lets through what none of them does."""
        parts = [part.accept(self) for part in operation.arguments]
        return {"$nor" if operation.operator is Operator.NOT else f"${operation.operator.value}": parts}

    def visit_comparison(self, comparison: Comparison) -> dict[str, Any]:
        """Return the filter of one comparison.

        Raises:
            ClientError: The comparator is `like`, or the comparison orders dates.
        """
        comparator, value = comparison.comparator, comparison.value
        name = f"{comparator.value}({written(comparison.attribute)}, ...)"
        if comparator not in self.allowed_comparators:
            allowed = ", ".join(each.value for each in self.allowed_comparators)
            message = f"{name} is no comparison that a filter can express: use one of {allowed}"
            raise ClientError(message)
        if comparator in _ORDERS and _date(value) is not None:
            message = (
                f"{name} orders dates, and the index orders numbers alone: store a number, such as a year or a "
                "timestamp, and describe it to the model as one"
            )
            raise ClientError(message)
        if comparator in _OF_LISTS and not isinstance(value, list | tuple):
            value = [value]
        return {comparison.attribute: {_OPERATORS.get(comparator, f"${comparator.value}"): _plain(value)}}

    def visit_structured_query(self, structured_query: StructuredQuery) -> tuple[str, dict[str, Any]]:
        """Return the text of the query, and the arguments of the search: `filter`, if there are conditions.

        Where the model leaves no text beside the conditions, as for "films of 1994", the text is the words of these,
        "year 1994", because a search needs one. With `use_original_query=True`, a `SelfQueryRetriever` searches by the
        question as it was asked instead.
        """
        text, conditions = structured_query.query, structured_query.filter
        if conditions is None:
            return text, {}
        return text if text.strip() else _words(conditions), {"filter": conditions.accept(self)}


_ORDERS: Final = (Comparator.GT, Comparator.GTE, Comparator.LT, Comparator.LTE)
_OF_LISTS: Final = (Comparator.IN, Comparator.NIN)
_NEGATIONS: Final = (Comparator.NE, Comparator.NIN)
_OPERATORS: Final[Mapping[Comparator, str]] = {Comparator.CONTAIN: "$contains"}


def _words(conditions: FilterDirective, *, negated: bool = False) -> str:
    """Return the attributes of conditions as a text, each with its values, unless these are to be absent."""
    if isinstance(conditions, Comparison):
        value = [] if negated or conditions.comparator in _NEGATIONS else _plain(conditions.value)
        return " ".join(map(str, [conditions.attribute, *(value if isinstance(value, list) else [value])]))
    if isinstance(conditions, Operation):
        negated = negated or conditions.operator is Operator.NOT
        return " ".join(_words(part, negated=negated) for part in conditions.arguments)
    return ""


def _plain(value: Any) -> Any:
    """Return a value with the ISO texts of its dates in their place."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    date = _date(value)
    return value if date is None else date


def _date(value: Any) -> str | None:
    """Return the text of a date or a time as LangChain's parser has them: `{"date": "2024-05-01", "type": "date"}`."""
    kind = value.get("type") if isinstance(value, Mapping) else None
    text = value.get(kind) if kind in ("date", "datetime") else None
    return text if isinstance(text, str) else None

"""The fields of request bodies: how a flag, an id, a text or a list is read, and how long it may be.

A list is refused as too long before any of its elements is read, and of its elements only the first that is wrong is
reported. Thus a list of a million faults costs no more than one fault.
"""

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Strict,
    StrictStr,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

_JSON_INTEGERS = range(-(2**63), 2**64)  # what every reader of JSON keeps as a whole number
_FLOAT32_END = 3.4028235677973366e38  # the least number that is no finite float32 after rounding
_MOST_BYTES = 4  # that UTF-8 needs for a character


def _flag(value: object) -> object:
    """Read the spelt-out booleans that one documented sample sends; anything else must be a boolean."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def text_id(value: object) -> object:
    """Return an id as text: ids may arrive as numbers, and they are stored and returned as text.

    Args:
        value: The id. What is no whole number is returned as it is.

    Raises:
        ValueError: It is a whole number of more than 64 bits.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if value not in _JSON_INTEGERS:
        message = "an id of more than 64 bits has to be a text"
        raise ValueError(message)
    return str(value)


def id_schema(**limits: int) -> JsonSchemaValue:
    """Return the JSON schema of an id, which may be a text or a whole number of 64 bits.

    Args:
        limits: The keywords of the schema that limit the length of the text.
    """
    number = {"type": "integer", "minimum": _JSON_INTEGERS[0], "maximum": _JSON_INTEGERS[-1]}
    return {"anyOf": [{"type": "string", **limits}, number]}


Flag: TypeAlias = Annotated[
    bool,
    Strict(),
    BeforeValidator(_flag),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": ["true", "false"]}]}),
]
Id: TypeAlias = Annotated[StrictStr, BeforeValidator(text_id), WithJsonSchema(id_schema())]


@dataclass(frozen=True, slots=True)
class Limit:
    """Marks a text or a list whose length is limited, for its validation and for its JSON schema.

    Attributes:
        validator: Refuses what is too long.
        keyword: The keyword of the limit in a JSON schema.
        count: The greatest length.
    """

    validator: AfterValidator | BeforeValidator
    keyword: str
    count: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema that validates the length."""
        return self.validator.__get_pydantic_core_schema__(source, handler)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON schema, with the limit."""
        return {**handler(schema), self.keyword: self.count}


def bytes_up_to(count: int, advice: str) -> Limit:
    """Return the annotation of a text that has at most so many bytes in UTF-8.

    Args:
        count: The number of bytes.
        advice: What to do about a text that is longer, for the error.
    """

    def require(text: str) -> str:
        if len(text) * _MOST_BYTES > count and (size := len(text.encode(errors="surrogatepass"))) > count:
            message = f"it has {size} bytes of UTF-8, and at most {count} are allowed: {advice}"
            raise ValueError(message)
        return text

    return Limit(AfterValidator(require), "maxLength", count)  # a character has at least one byte


def items_up_to(count: int, advice: str = "") -> Limit:
    """Return the annotation of a list that has at most so many elements.

    Args:
        count: The number of elements.
        advice: What to do about a list that is longer, for the error. Default `""`, for nothing.
    """

    def require(items: object) -> object:
        if isinstance(items, list) and len(items) > count:
            message = f"has {len(items)} entries; at most {count} are allowed" + (advice and f": {advice}")
            raise ValueError(message)
        return items

    return Limit(BeforeValidator(require), "maxItems", count)


@dataclass(frozen=True, slots=True)
class Float32Array:
    """Marks a list of floats that is read as a new float32 array; it may also be a numpy array of floats.

    What float32 cannot hold is refused: it would be stored as infinity.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema that reads the list, and makes an array of it."""
        return core_schema.no_info_wrap_validator_function(_float32_array, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON schema of the list, with the range of float32."""
        bounds = {"exclusiveMinimum": -_FLOAT32_END, "exclusiveMaximum": _FLOAT32_END}
        return {**handler(schema), "items": {"type": "number", **bounds}}


def _float32_array(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    import numpy as np  # not at the top: the client over HTTP imports this file, and needs no numpy

    if not (isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind == "f"):
        value = validate(value.tolist() if isinstance(value, np.ndarray) else value)
    array = float32_of(value)
    if np.count_nonzero(np.isfinite(array)) < len(array):
        position = int(np.isfinite(array).argmin())
        message = f"value {float(value[position])} at position {position} is out of the range of float32"
        raise ValueError(message)
    return array


def float32_of(values: Any) -> "Floats":
    """Return a list of floats, or a one-dimensional numpy array of floats, as a new float32 array.

    What float32 cannot hold becomes infinity.

    Args:
        values: The floats.
    """
    import numpy as np

    if isinstance(values, list):
        return np.frombuffer(bytearray(struct.pack(f"{len(values)}f", *values)), np.float32)
    if values.dtype.char == "f":
        return np.array(values, np.float32)
    with np.errstate(over="ignore"):
        return np.array(values, np.float32)

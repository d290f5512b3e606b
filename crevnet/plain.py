"""Configs as plain values and back, every key and type looked at: a header is not trusted."""

from __future__ import annotations

from dataclasses import asdict, fields
from math import isfinite
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_plain(config: Any) -> dict[str, Any]:
    """Return a config's values by name; tuples become lists."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}


def from_plain(kind: type[T], value: Any) -> T:
    """Return a config from plain values, those left out at their defaults.

    Raises:
        ValueError: `value` is not a mapping; a key is unknown, lists those there are; a value is of
            another type, or not allowed.
    """
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__}, expected the values of a {kind.__name__}")
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    unknown = [key for key in value if key not in known]
    if unknown:
        raise ValueError(f"{kind.__name__} has no {unknown}; it has {known}")
    return kind(**{key: _checked(key, item, hints[key]) for key, item in value.items()})


def _checked(name: str, value: Any, hint: Any) -> Any:
    value = _frozen(value)
    if not _is(value, hint):
        raise ValueError(
            f"{name}: {str(value)[:80]!r} is not {hint if get_origin(hint) else hint.__name__}"
        )
    return value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _is(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(value == known and type(value) is type(known) for known in arguments)
    if origin in (Union, UnionType):
        return any(_is(value, one) for one in arguments)
    if origin is tuple:
        if not isinstance(value, tuple) or (
            arguments[-1] is not ... and len(value) != len(arguments)
        ):
            return False
        return all(_is(item, arguments[0]) for item in value)
    if hint is float:
        return type(value) in (int, float) and isfinite(value)
    if hint is int:
        return type(value) is int and abs(value) < 2**31
    return type(value) is (origin or hint)

"""YAML as a person types it, checked whole before work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import PipelineError

T = TypeVar("T")


def read_yaml(path: Path, error: type[PipelineError]) -> dict[str, Any]:
    """Return the mapping in a YAML 1.2 file; a key given twice is refused.

    YAML 1.2 spares the traps of 1.1: `no` is a word, `010` is ten, `1e-4` is a number.

    Raises:
        error: The file is missing, is not YAML, or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as fault:
        raise error(f"{path}: cannot be read as text: {fault}") from None
    value = parse_yaml(text, str(path), error)
    if not isinstance(value, dict):
        raise error(f"{path}: holds {type(value).__name__}, expected a mapping of keys to values")
    return value


def parse_yaml(text: str, where: str, error: type[PipelineError]) -> Any:
    """Return the value of a YAML 1.2 text.

    Raises:
        error: It is not YAML; `where` begins the message.
    """
    try:
        return YAML(typ="safe", pure=True).load(text)
    except RecursionError:
        raise error(f"{where}: nested too deep") from None
    except (YAMLError, ValueError) as fault:
        raise error(f"{where}: not YAML: {_one_line(fault)}") from None


def validate(kind: type[T], value: Any, where: str, error: type[PipelineError]) -> T:
    """Return `value` as a `kind`, or raise with every fault, a line each.

    Unknown keys are refused. `where` names the file, and the entry in it.
    """
    try:
        return TypeAdapter(kind).validate_python(value, extra="forbid")
    except ValidationError as faults:
        lines = [
            f"{where}: {'.'.join(map(str, fault['loc'])) or 'value'}: {_said(fault['msg'])}"
            + ("" if fault["type"] == "missing" else f" (found {_short(fault['input'])})")
            for fault in faults.errors(include_url=False)
        ]
        raise error("\n".join(lines)) from None


def _said(message: str) -> str:
    return message.removeprefix("Value error, ")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _one_line(fault: Exception) -> str:
    mark = getattr(fault, "problem_mark", None)
    problem = getattr(fault, "problem", None) or str(fault).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)

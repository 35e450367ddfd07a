"""Scalar functions by name: overloads chosen by exact data types, nothing converted."""

from dataclasses import dataclass

from .values import NAMES, PxlError


@dataclass(frozen=True)
class Overload:
    name: str
    kinds: str
    result: str
    function: object
    contextual: bool  # called as function(env, upid of the scanned row, *args)
    node_only: bool
    constants: tuple


SCALARS = {}


def scalar(name, *signatures, contextual=False, node_only=False, constants=()):
    """Registers a function under `ARGS:RESULT` signatures, for example `"II:I"`."""

    def register(function):
        for signature in signatures:
            kinds, result = signature.split(":")
            SCALARS.setdefault(name, {})[kinds] = Overload(
                name, kinds, result, function, contextual, node_only, tuple(constants)
            )
        return function

    return register


def resolve(name, kinds):
    overloads = SCALARS.get(name)
    if overloads is None:
        raise PxlError(f"could not find function '{name}'")
    if kinds not in overloads:
        types = ", ".join(NAMES[kind] for kind in kinds)
        raise PxlError(f"could not find UDF '{name}' with arguments [{types}]")
    return overloads[kinds]

"""All scalar functions: importing this module fills the registry."""

from . import (functions_math, functions_metadata, functions_protocol, functions_text,  # noqa: F401
               pii, sql)
from .registry import SCALARS

__all__ = ["SCALARS"]

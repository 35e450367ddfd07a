"""SQL normalisation by tokens: every literal becomes a placeholder, its text a parameter.

This does not parse statements: a text that starts with no statement's keyword, or that has an
unfinished quote, counts as one that does not parse.
"""

import re

from .jsontext import to_text
from .registry import scalar

_STATEMENTS = set(
    "select insert update delete with create drop alter begin commit rollback set show explain"
    " replace truncate values call use start savepoint release lock unlock grant revoke analyze"
    " vacuum copy declare fetch close prepare deallocate discard execute listen notify".split())
_TOKEN = re.compile(
    r"""
      (?P<blank>\s+|--[^\n]*|/\*.*?\*/)
    | (?P<string>[eExXbB]?'(?:[^'\\]|''|\\.)*')
    | (?P<dollar>\$\d+)
    | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<name>[A-Za-z_\u0080-\uffff][A-Za-z0-9_$\u0080-\uffff]*)
    | (?P<quoted>"(?:[^"]|"")*"|`[^`]*`)
    | (?P<at>@@?[A-Za-z0-9_.$]+)
    | (?P<other>[^'"`])
    """,
    re.VERBOSE | re.DOTALL,
)


class _Unparsable(Exception):
    pass


def _tokens(sql, double_quotes_are_strings):
    position, tokens = 0, []
    while position < len(sql):
        match = _TOKEN.match(sql, position)
        if not match:
            raise _Unparsable
        kind = match.lastgroup
        if kind == "quoted" and double_quotes_are_strings and match[0][0] == '"':
            kind = "string"
        tokens.append((kind, match[0]))
        position = match.end()
    words = [text.lower() for kind, text in tokens if kind not in ("blank",)]
    if not words or words[0].lstrip("(") not in _STATEMENTS and words[0] != "(":
        raise _Unparsable
    return tokens


def _execute_parts(sql):
    head, found, tail = sql.rpartition("] params=[")
    if not found or not head.startswith("query=[") or not tail.endswith("]"):
        raise _Unparsable
    values = tail[:-1]
    return head[len("query=["):], [part.strip() for part in values.split(",")] if values else []


def _normalized(sql, values, postgres):
    params, out, given = [], [], iter(values)
    for kind, text in _tokens(sql, not postgres):
        word = text.lower()
        if kind in ("string", "number") or (kind == "name" and word in ("true", "false")):
            params.append(text)
        elif postgres and kind == "dollar":
            index = int(text[1:]) - 1
            if not 0 <= index < len(values):
                raise _Unparsable
            params.append(values[index])
        elif not postgres and text == "?":
            value = next(given, None)
            if value is None:
                raise _Unparsable
            params.append(value)
        else:
            out.append(text)
            continue
        out.append(f"${len(params)}" if postgres else "?")
    return to_text({"query": "".join(out), "params": params}).encode()


def _normalize(sql, execute, known, postgres):
    try:
        text = sql.decode()
        if not known:
            raise _Unparsable
        query, values = _execute_parts(text) if execute else (text, [])
        return _normalized(query, values, postgres)
    except (_Unparsable, UnicodeDecodeError):
        return b'{"error":"not parsed"}'


scalar("normalize_pgsql", "SS:S")(
    lambda sql, cmd: _normalize(sql, cmd == b"Execute", cmd in (b"Query", b"Execute"), True))
scalar("normalize_mysql", "SI:S")(
    lambda sql, cmd: _normalize(sql, cmd == 0x17, cmd in (3, 0x17), False))

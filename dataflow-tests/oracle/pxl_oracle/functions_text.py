"""Strings, regular expressions, JSON, URIs, addresses and request paths."""

import ipaddress
import json
import re
import urllib.parse

from . import paths
from .jsontext import parse_or, quoted, to_text
from .registry import scalar
from .values import I64_MAX, I64_MIN

_BLANKS = b" \t\n\v\f\r"

scalar("contains", "SS:B")(lambda text, needle: needle in text)
scalar("find", "SS:I")(lambda text, needle: text.find(needle))
scalar("length", "S:I")(len)
scalar("tolower", "S:S")(lambda text: text.lower())
scalar("toupper", "S:S")(lambda text: text.upper())
scalar("trim", "S:S")(lambda text: text.strip(_BLANKS))
scalar("strip_prefix", "SS:S")(lambda prefix, text: text.removeprefix(prefix))
scalar("itoa", "I:S")(lambda number: b"%d" % number)


@scalar("substring", "SII:S")
def substring(text, position, length):
    if position < 0 or position > len(text) or length < 0:
        return b""
    return text[position:position + length]


@scalar("hex_to_ascii", "S:S")
def hex_to_ascii(text):
    if len(text) % 2 or not re.fullmatch(rb"[0-9a-fA-F]*", text):
        return b""
    return bytes.fromhex(text.decode())


scalar("bytes_to_hex", "S:S")(lambda text: "".join(f"\\x{b:02X}" for b in text).encode())


@scalar("atoi", "SI:I")
def atoi(text, default):
    text = text.strip(_BLANKS)
    if not re.fullmatch(rb"[+-]?[0-9]+", text):
        return default
    number = int(text)
    return number if I64_MIN <= number <= I64_MAX else default


_POSIX = {"alnum": "0-9A-Za-z", "alpha": "A-Za-z", "digit": "0-9", "lower": "a-z",
          "upper": "A-Z", "xdigit": "0-9A-Fa-f", "space": r"\s", "word": r"\w",
          "punct": r"!-/:-@\[-`{-~"}


def _compiled(pattern):
    text = re.sub(r"\[:(\w+):\]", lambda match: _POSIX.get(match[1], match[0]),
                  pattern.decode("utf-8", "surrogateescape"))
    try:
        return re.compile(text, re.DOTALL | re.ASCII)
    except re.error:
        return None


def _loose(text):
    return text.decode("utf-8", "surrogateescape")


@scalar("regex_match", "SS:B", constants=[0])
def regex_match(pattern, text):
    regex = _compiled(pattern)
    return regex is not None and regex.fullmatch(_loose(text)) is not None


@scalar("replace", "SSS:S", constants=[0])
def replace(pattern, text, substitute):
    regex = _compiled(pattern)
    if regex is None:
        return b"Invalid regex: " + pattern
    replaced = regex.sub(lambda match: _substituted(match, _loose(substitute)), _loose(text))
    return replaced.encode("utf-8", "surrogateescape")


def _substituted(match, substitute):
    return re.sub(r"\\(\d|\\)", lambda m: "\\" if m[1] == "\\" else match[int(m[1])] or "",
                  substitute)


@scalar("_match_regex_rule", "SS:S", constants=[0])
def match_regex_rule(rules, text):
    for name, pattern in parse_or(rules, {}).items():
        if regex_match(pattern.encode(), text):
            return name.encode()
    return b""


# JSON


def _member_text(value):
    if value is None:
        return b""
    return (value if isinstance(value, str) else to_text(value)).encode("utf-8", "surrogatepass")


def _member(text, key):
    document = parse_or(text, None)
    return document.get(_loose(key)) if isinstance(document, dict) else None


scalar("pluck", "SS:S")(lambda text, key: _member_text(_member(text, key)))


@scalar("pluck_int64", "SS:I")
def pluck_int64(text, key):
    value = _member(text, key)
    fits = isinstance(value, int) and not isinstance(value, bool) and I64_MIN <= value <= I64_MAX
    return value if fits else 0


@scalar("pluck_float64", "SS:F")
def pluck_float64(text, key):
    value = _member(text, key)
    return value if isinstance(value, float) else 0.0


@scalar("pluck_array", "SI:S")
def pluck_array(text, index):
    document = parse_or(text, None)
    if not isinstance(document, list) or not 0 <= index < len(document):
        return b""
    return _member_text(document[index])


@scalar("split", "SS:S")
def split(text, delimiter):
    characters = text.decode("utf-8", "replace")
    parts = text.split(delimiter) if delimiter else [c.encode() for c in characters]
    return to_text([part.decode("utf-8", "replace") for part in parts]).encode()


@scalar("_script_reference", *("SS" + "SS" * pairs + ":S" for pairs in range(9)))
def script_reference(label, script, *pairs):
    texts = [quoted(text.decode("utf-8", "replace")) for text in (label, script, *pairs)]
    args = ",".join(f"{key}:{value}" for key, value in zip(texts[2::2], texts[3::2]))
    return f'{{"label":{texts[0]},"script":{texts[1]},"args":{{{args}}}}}'.encode()


# Addresses and paths


@scalar("cidrs_contain_ip", "SS:B")
def cidrs_contain_ip(cidrs, address):
    entries = parse_or(cidrs, None)
    try:
        ip = ipaddress.ip_address(_loose(address))
    except ValueError:
        return False
    if not isinstance(entries, list):
        return False
    return any(_holds(entry, ip) for entry in entries if isinstance(entry, str))


def _holds(entry, ip):
    try:
        return "/" in entry and ip in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


scalar("_match_endpoint", "SS:B")(paths.matches_endpoint)


@scalar("_predict_request_path_cluster", "SS:S")
def predict_request_path_cluster(path, clusters):
    return paths.predict(path, parse_or(clusters, []) or [])


@scalar("uri_parse", "S:S")
def uri_parse(text):
    try:
        uri = urllib.parse.urlsplit(_loose(text))
        port = uri.port
    except ValueError:
        return b""
    user, _, _ = uri.netloc.rpartition("@")
    return json.dumps({"scheme": uri.scheme, "userInfo": user, "host": uri.hostname or "",
                       "port": port or 0, "path": uri.path, "query": uri.query,
                       "fragment": uri.fragment}, separators=(",", ":")).encode()

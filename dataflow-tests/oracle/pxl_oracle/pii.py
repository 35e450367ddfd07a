"""Redaction of personal data: each kind's pattern and check, then the longest of overlaps."""

import ipaddress
import re

from .registry import scalar

_IBAN_LENGTHS = dict(
    AD=24, AE=23, AL=28, AT=20, AZ=28, BA=20, BE=16, BG=22, BH=22, BR=29, BY=28, CH=21, CR=22,
    CY=28, CZ=24, DE=22, DK=18, DO=28, EE=20, EG=29, ES=24, FI=18, FO=18, FR=27, GB=22, GE=22,
    GI=23, GL=18, GR=27, GT=28, HR=21, HU=28, IE=22, IL=23, IQ=23, IS=26, IT=27, JO=30, KW=30,
    KZ=20, LB=28, LC=32, LI=21, LT=20, LU=20, LV=21, MC=27, MD=24, ME=22, MK=19, MR=27, MT=31,
    MU=30, NL=18, NO=15, PK=24, PL=28, PS=29, PT=25, QA=29, RO=24, RS=22, SA=24, SC=31, SE=24,
    SI=19, SK=24, SM=27, ST=25, SV=28, TL=23, TN=24, TR=26, UA=29, VA=22, VG=24, XK=20)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b")
_EMAIL = re.compile(r"[A-Za-z0-9.!#$&'*+/=?^_`{|}~-]+(?:@|%40)"
                    r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)+")
_IPV6 = re.compile(r"(?<![0-9A-Fa-f:.])[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"\b{_OCTET}(?:\.{_OCTET}){{3}}\b")
_MAC = re.compile(r"\b[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}\b")
_IMEI = re.compile(r"\b\d{2}-\d{6}-\d{6}-\d\b")
_IMEISV = re.compile(r"\b\d{2}-\d{6}-\d{6}-\d{2}\b")
_CARD = re.compile(r"\b\d(?:[ -]?\d){12,18}\b")
_SSN = re.compile(r"\b(?!000|666|9)\d{3}([ -])(?!00)\d{2}\1(?!0000)\d{4}\b")


def luhn(digits):
    total = 0
    for index, digit in enumerate(reversed(digits)):
        doubled = int(digit) * 2 if index % 2 else int(digit)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def _digits(text):
    return re.sub(r"\D", "", text)


def _is_iban(text):
    text = text.replace(" ", "")
    if _IBAN_LENGTHS.get(text[:2]) != len(text):
        return False
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def _is_ipv6(text):
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


_KINDS = [
    ("IBAN", _IBAN, _is_iban),
    ("EMAIL", _EMAIL, lambda text: True),
    ("IPV6", _IPV6, _is_ipv6),
    ("IPV4", _IPV4, lambda text: True),
    ("MAC_ADDR", _MAC, lambda text: True),
    ("IMEI", _IMEI, lambda text: luhn(_digits(text))),
    ("IMEI", _IMEISV, lambda text: True),
    ("CC_NUMBER", _CARD, lambda text: 13 <= len(_digits(text)) <= 19 and luhn(_digits(text))),
    ("SSN", _SSN, lambda text: True),
]


@scalar("redact_pii_best_effort", "S:S")
def redact(data):
    text = data.decode("utf-8", "surrogateescape")
    hits = [(match.start(), match.end(), name) for name, pattern, check in _KINDS
            for match in pattern.finditer(text) if check(match[0])]
    hits.sort(key=lambda hit: hit[0])
    out, position, index = [], 0, 0
    while index < len(hits):
        group = [hits[index]]
        while index + len(group) < len(hits) and hits[index + len(group)][0] < hits[index][1]:
            group.append(hits[index + len(group)])
        start, end, name = max(group, key=lambda hit: hit[1] - hit[0])
        out += [text[position:start], f"<REDACTED_{name}>"]
        position = end
        index += len(group)
        while index < len(hits) and hits[index][0] < position:
            index += 1
    return ("".join(out) + text[position:]).encode("utf-8", "surrogateescape")

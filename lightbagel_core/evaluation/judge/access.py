"""Where a judge may be asked, and with which key; and how the key is kept out of every text."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

OURS, OPENAIS, OPENAI = "LIGHTBAGEL_JUDGE_KEY", "OPENAI_API_KEY", "api.openai.com"
HIDDEN = "[key]"
SECRET = 8  # letters; what is shorter ("EMPTY") is a placeholder for a server that wants some key, and no secret
LOCAL_NAMES = (".local", ".lan", ".internal", ".home.arpa")
PATH = "/chat/completions"


def checked_url(url: str) -> str:
    """A judge's address as it is used: without a slash, or `/chat/completions`, at its end.

    `https://` may lead anywhere. `http://` shows pictures and key to everybody on the way, so it may lead to this
    machine and within a local network only: to private addresses, names without a dot, and names in `.local`, `.lan`,
    `.internal`, `.home.arpa`.

    Raises:
        ValueError: it is no such address, or holds a name, a password or a query. What may be secret is not repeated.
    """
    if not re.fullmatch(r"[!-~]+", url) or "\\" in url:
        raise ValueError("the judge's address is empty or has characters that no address has; like https://host/v1")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise ValueError("the judge's address cannot be read; it looks like https://host/v1") from None
    if "@" in parts.netloc:
        raise ValueError(f"the judge's address holds a name or a password; put the key into {OURS} instead")
    if "?" in url or "#" in url:
        raise ValueError("the judge's address has a query or a '#'; it ends with its path, like https://host/v1")
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"the judge's address {url} does not begin with https://host or http://host")
    if parts.scheme == "http" and reach(host) == "public":
        raise ValueError(
            f"{url} would show the pictures to everybody on the way; use https://, or a tunnel to http://localhost"
        )
    return url.rstrip("/").removesuffix(PATH).rstrip("/")


def reach(host: str) -> str:
    """How far away a host is: "here", "private" (a local network) or "public"."""
    try:
        ip = ip_address(host)
    except ValueError:
        if host == "localhost":
            return "here"
        # A name without a dot begins with a letter: resolvers take 134744072 and 0x08080808 for addresses.
        return "private" if re.fullmatch(r"[a-z][a-z0-9-]*", host) or host.endswith(LOCAL_NAMES) else "public"
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback:
        return "here"
    return "public" if ip.is_global or ip.is_multicast else "private"


class Key:
    """A judge's key, or none. It appears in no repr; `scrub` takes it out of what a server says."""

    def __init__(self, value: str = "") -> None:
        self._value = value
        self._forms = sorted(_forms(value), key=len, reverse=True) if len(value) >= SECRET else []

    def __repr__(self) -> str:
        return f"Key({HIDDEN if self._value else ''})"

    def __bool__(self) -> bool:
        return bool(self._value)

    def header(self) -> str:
        """Gives what the header `Authorization` says; there must be a key."""
        return f"Bearer {self._value}"

    def scrub(self, text: str) -> str:
        """A text in which the key, as it is, in base64 or escaped, is replaced by `[key]`."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return text


def _forms(key: str) -> set[str]:
    forms = {key, quote(key, safe=""), html.escape(key), json.dumps(key)[1:-1], repr(key)[1:-1]}
    for before in range(3):  # base64 of a text with the key in it: the letters in which nothing but the key is
        code = base64.b64encode(b"\0" * before + key.encode())
        inner = code[(0, 2, 3)[before] : (before + len(key)) * 8 // 6].decode()
        forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    return forms


def key_for(url: str) -> Key:
    """The key that a judge's (checked) address gets, from the environment: `LIGHTBAGEL_JUDGE_KEY`; where that is not
    set, `OPENAI_API_KEY` for https://api.openai.com alone, since it was meant for no other host; else none.

    Raises:
        ValueError: it has characters that no key has. It is not repeated.
    """
    parts = urlsplit(url)
    openai = parts.scheme == "https" and parts.hostname == OPENAI and parts.port in (None, 443)
    for variable in (OURS, OPENAIS) if openai else (OURS,):
        key = os.environ.get(variable, "").strip()
        if key:
            if not re.fullmatch(r"[!-~]+", key):
                raise ValueError(f"{variable} has characters that no key has (blanks, line ends, quotes “”)")
            return Key(key)
    return Key()

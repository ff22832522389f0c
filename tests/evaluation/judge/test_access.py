"""Where pictures and keys may go, and that a key is found in whatever form a server sends it back."""

from __future__ import annotations

import base64
import json

import pytest

from lightbagel_core.evaluation.judge.access import Key, checked_url, key_for, reach

SECRET = "sk-Va\"1'/ue+of=a-key"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://api.example.com/v1", "https://api.example.com/v1"),
        ("https://api.example.com/v1/chat/completions/", "https://api.example.com/v1"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("http://192.168.1.7:8000/v1", "http://192.168.1.7:8000/v1"),
        ("http://gpu-7/v1", "http://gpu-7/v1"),
        ("http://box.lan/v1", "http://box.lan/v1"),
    ],
)
def test_addresses_that_may_be_asked(given: str, used: str):
    assert checked_url(given) == used


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "empty"),
        ("https://host/v 1", "characters"),
        ("http://localhost\\@evil.example/v1", "characters"),
        ("https://gepardé.example/v1", "characters"),
        ("https://me:hunter22@host/v1", "name or a password"),
        ("http://localhost@evil.example/v1", "name or a password"),
        ("https://host/v1?api-key=hunter22", "query"),
        ("https://host/v1#x", "'#'"),
        ("ftp://host/v1", "begin with"),
        ("localhost:8000/v1", "begin with"),
        ("https:///v1", "begin with"),
        ("https://host:port/v1", "cannot be read"),
        ("https://[::1/v1", "cannot be read"),
        ("http://api.example.com/v1", "everybody on the way"),
        ("http://8.8.8.8/v1", "everybody on the way"),
        ("http://134744072/v1", "everybody on the way"),  # 8.8.8.8, as resolvers read it
        ("http://0x08080808/v1", "everybody on the way"),
        ("http://localhost.example.com/v1", "everybody on the way"),
        ("http://[::ffff:8.8.8.8]/v1", "everybody on the way"),
    ],
)
def test_addresses_that_may_not(url: str, said: str):
    with pytest.raises(ValueError, match=said) as raised:
        checked_url(url)
    assert "hunter22" not in str(raised.value)


def test_how_far_away_a_host_is():
    assert {reach(host) for host in ("localhost", "127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1")} == {"here"}
    assert {reach(host) for host in ("10.0.0.1", "100.64.0.1", "fe80::1", "fd00::1", "judge", "a.local")} == {"private"}
    assert {reach(host) for host in ("1.1.1.1", "224.0.0.1", "2606:4700::1111", "a.b", "notlocal.local.com")} == {
        "public"
    }


def test_which_key_goes_where(monkeypatch):
    def sent(url: str) -> str | None:
        key = key_for(url)
        return key.header().removeprefix("Bearer ") if key else None

    for name in ("LIGHTBAGEL_JUDGE_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert sent("https://host/v1") is None
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai-key\n")
    assert sent("https://api.openai.com/v1") == sent("https://API.openai.com:443/v1") == "sk-openai-key"
    for other in ("host", "api.openai.com.evil.example", "evil-api.openai.com", "api.openai.com:8443", "openai.com"):
        assert sent(f"https://{other}/v1") is None
    assert sent("http://localhost/v1") is sent("http://192.168.1.7/v1") is None
    monkeypatch.setenv("LIGHTBAGEL_JUDGE_KEY", "own-judge-key")
    for url in ("https://host/v1", "http://192.168.1.7/v1", "https://api.openai.com/v1"):
        assert sent(url) == "own-judge-key"
    for bad in ("two words", "line\nend", "“sk-quoted”"):
        monkeypatch.setenv("LIGHTBAGEL_JUDGE_KEY", bad)
        with pytest.raises(ValueError, match="characters that no key has") as raised:
            key_for("https://host/v1")
        assert bad not in str(raised.value)


def test_a_key_is_taken_out_of_a_text_in_every_form():
    key = Key(SECRET)
    assert key.scrub(f"Bearer {SECRET}, {SECRET}.") == "Bearer [key], [key]."
    assert SECRET not in repr(key)
    assert json.loads(key.scrub(json.dumps({"a": SECRET, "b": 1}))) == {"a": "[key]", "b": 1}
    for before in ("", "a", "ab", "Authorization: Bearer "):
        for after in ("", "!", "!!"):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                text = encode((before + SECRET + after).encode()).decode()
                left = key.scrub(text)
                assert "[key]" in left
                assert len(left) < len(text) - len(SECRET) + len("[key]")


def test_a_placeholder_is_no_secret_and_changes_no_answer():
    assert Key("EMPTY").scrub("the plate is EMPTY") == "the plate is EMPTY"
    assert Key().scrub("an answer") == "an answer"
    assert not Key()

"""One request: what reaches the server, what does not, and what each of its replies means."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest
from judge_server import Server, close, hang, raw, says, serve, status

from lightbagel_core.evaluation.judge.access import Key
from lightbagel_core.evaluation.judge.client import Client, Reply, quiet

BODY = {"model": "eye-7b", "messages": [{"role": "user", "content": "Is it red?"}], "temperature": 0.0, "seed": 3}
KEY = "sk-very-secret-key"


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with serve() as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    running.requests.clear()
    return running


@pytest.fixture(scope="module")
def client(running: Server) -> Client:
    return Client(running.url, Key(KEY), timeout=5)


def test_what_is_sent_is_the_body_and_the_key_and_nothing_of_the_environment(server: Server, monkeypatch):
    for name, value in {
        "OPENAI_API_KEY": "sk-other-key-1",
        "OPENAI_ADMIN_KEY": "sk-other-key-2",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "OPENAI_ORG_ID": "org-of-mine",
        "OPENAI_PROJECT_ID": "project-of-mine",
        "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer sk-other-key-3\nX-Mine: sk-other-key-4",
    }.items():
        monkeypatch.setenv(name, value)
    for key, sent in ((Key(KEY), f"Bearer {KEY}"), (Key(), None)):
        reply = Client(server.url, key, 5).ask(BODY)
        assert reply == Reply("text", "yes", (10, 3))
        request = server.requests.pop()
        assert (request.method, request.path, request.body) == ("POST", "/v1/chat/completions", BODY)
        assert request.headers.get("authorization") == sent
        assert "other" not in str(request.headers)
        assert "mine" not in str(request.headers)


def test_no_proxy_and_no_netrc_of_the_environment_is_used(server: Server, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter22\n", "utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    with serve() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert Client(server.url, Key(), 5).ask(BODY).kind == "text"
        assert proxy.requests == []
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(server: Server, client: Client, code: int):
    with serve() as other:
        server.then(status(code, headers={"Location": f"{other.url}/chat/completions"}))
        reply = client.ask(BODY)
        assert reply.kind == "stop"
        assert f"leads on to {other.url}" in reply.text
        assert other.requests == []


@pytest.mark.parametrize(
    ("behaviour", "kind", "said"),
    [
        (says("no", usage=None), "text", "no"),
        (says([{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]), "text", "42"),
        (says("lone \ud800"), "text", "lone ?"),
        (says(None, refusal="I would rather not."), "refused", "refused: I would rather not."),
        (says("half", finish="content_filter"), "refused", "content filter"),
        (says(""), "nonsense", "is empty"),
        (says(None, finish="length"), "nonsense", "is empty, with as many tokens as max_tokens allows"),
        (raw(b'{"choices": []}'), "nonsense", "no message"),
        (raw(b'{"choices": null}'), "nonsense", "no message"),
        (raw(b'{"choices": [{"message": null}]}'), "nonsense", "no message"),
        (raw(b'{"choices": "yes"}'), "nonsense", "no message"),
        (raw(b'{"error": {"message": "upstream is down"}}'), "nonsense", "upstream is down"),
        (raw(b"[1, 2"), "nonsense", "[1, 2"),
        (raw(b"[" * 100_000), "nonsense", "[[["),
        (raw(b"\xff\xfe\x00"), "nonsense", "no message"),
        (raw(b""), "nonsense", "no message"),
        (raw(b"<html>welcome</html>", "text/html"), "nonsense", "welcome"),
        (close, "away", "cannot be reached, or broke off"),
        (status(500, "boom"), "nonsense", "500: boom"),
        (status(502), "away", "502"),
        (status(503), "away", "503"),
        (status(408), "away", "408"),
        (status(409), "away", "409"),
        (status(429, "slow down"), "away", "429: slow down"),
        (status(429, code="insufficient_quota"), "stop", "nothing left"),
        (status(400, "picture too small"), "rejected", "(400): picture too small"),
        (status(400, "filtered", code="content_filter"), "rejected", "filtered"),
        (status(413), "rejected", "(413)"),
        (status(422), "rejected", "(422)"),
        (
            status(400, "use another", param="max_tokens"),
            "stop",
            "takes no such max_tokens: use another; set another by --judge-max-tokens",
        ),
        (status(400, "only 1", param="temperature"), "stop", "or leave it out by --judge-temperature none"),
        (status(400, "which?", param="model"), "stop", "has no model eye-7b"),
        (status(401, "bad key"), "stop", "does not accept the key that it was sent: bad key; set LIGHTBAGEL_JUDGE_KEY"),
        (status(402), "stop", "402"),
        (status(403), "stop", "denies access"),
        (status(404, "The model `eye-7b` does not exist."), "stop", "has no model eye-7b"),
        (status(404, "Not Found"), "stop", "/v1/chat/completions: Not Found; a judge's address mostly ends with /v1"),
        (status(405), "stop", "405"),
    ],
)
def test_what_each_reply_means(server: Server, client: Client, behaviour, kind: str, said: str):
    server.then(behaviour)
    reply = client.ask(BODY)
    assert (reply.kind, said in reply.text) == (kind, True), reply
    assert len(server.requests) == 1  # who asks again is `ask`, not the library


@pytest.mark.parametrize(
    "body", [b'{"detail": "odd"}', b'{"error": "odd"}', b'{"object": "error", "message": "odd"}', b"odd"]
)
def test_errors_of_other_servers_are_read_too(server: Server, client: Client, body: bytes):
    server.then(lambda request: type(raw(b"")(request))(400, body))
    assert client.ask(BODY).text.endswith("(400): odd")


def test_a_request_without_a_key_that_needs_one_is_said(server: Server):
    server.then(status(401, "who are you?"))
    assert "does not accept a request without a key" in Client(server.url, Key(), 5).ask(BODY).text


def test_a_server_that_is_slow_or_not_there(server: Server):
    server.then(hang)
    assert Client(server.url, Key(), 0.05).ask(BODY) == Reply(
        "away", f"the judge at {server.url} did not answer in time"
    )
    with serve() as gone:
        pass
    assert f"{gone.url} cannot be reached" in Client(gone.url, Key(), 5).ask(BODY).text


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        ("1.5", 1.5),
        ("-3", 0),
        ("soon", None),
        ("nan", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2300", 0),
    ],
)
def test_how_long_a_server_wants_to_be_left_alone(server: Server, client: Client, header: str, seconds):
    server.then(status(429, headers={"Retry-After": header}))
    assert client.ask(BODY).after == seconds


def test_tokens_are_counted_where_the_server_counts_them(server: Server, client: Client):
    server.then(says("", usage=(5, 6)), says("a", usage=None), says("b", usage=(-1, 2)), raw(b'{"usage": [1]}'))
    assert [client.ask(BODY).tokens for _ in range(4)] == [(5, 6), None, None, None]


def test_what_a_server_says_is_one_line_without_the_key(server: Server, client: Client):
    words = f"bad\x1b[31m key\r\n {KEY}\u202e " + "x" * 500 + KEY
    server.then(status(400, words), says(f"You are {KEY}."), says(None, refusal=words), raw(words.encode()))
    for _ in range(4):
        text = client.ask(BODY).text
        assert KEY[:8] not in text
        assert text.isprintable()
        assert len(text) < 400
    assert KEY not in repr(vars(client))


def test_a_key_cut_in_two_by_the_length_of_a_sentence_is_none_the_less_hidden(server: Server, client: Client):
    for start in range(280, 300, 4):
        server.then(status(400, "x" * start + KEY))
        assert "sk-" not in client.ask(BODY).text


def test_text_that_cannot_be_sent_is_said(server: Server, client: Client):
    reply = client.ask({**BODY, "messages": [{"role": "user", "content": "\ud800"}]})
    assert reply.kind in ("rejected", "text")  # some versions of the library send it escaped


def test_the_libraries_log_neither_bodies_nor_headers(server: Server, client: Client, caplog):
    server.then(status(400, "no", headers={"X-Echo": KEY}), says("yes"))
    names = ("openai", "httpcore", "httpx", "httpcore.http11", "httpx2", "httpcore2.http11")
    before = {name: logging.getLogger(name).level for name in names}
    with caplog.at_level(logging.DEBUG):
        for name in names:
            logging.getLogger(name).setLevel(logging.DEBUG)
        try:
            restore = quiet()
            client.ask(BODY)
            client.ask(BODY)
            assert caplog.text == ""
            restore()
            assert all(logging.getLogger(name).level == logging.DEBUG for name in names)
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)


def test_without_the_library_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ValueError, match=r"pip install openai"):
        Client("http://localhost:1/v1", Key(), 5)


@pytest.mark.parametrize("url", ["https://999.1.1.1/v1", "https://[::1]x/v1"])
def test_an_address_that_the_library_cannot_use(url: str):
    with pytest.raises(ValueError, match="cannot be used"):
        Client(url, Key(), 5)


@pytest.mark.parametrize("url", ["https://HOST/v1", "https://xn--bcher-kva.example/v1", "http://[::1]:8000/v1"])
def test_addresses_that_it_can(url: str):
    Client(url, Key(), 5).close()

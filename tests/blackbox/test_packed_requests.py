"""Requests with a content encoding: retryd forwards them as they came, and still reads their content (C1)."""

import gzip
import hashlib
import json
import random
import re
import struct
import zlib

import pytest
from cases import error
from raw import CHAT, STREAM, ask, cpu_ms, text_of
from targets import house, in_order, on, value, where

FAST = {"initial_delay": "10ms", "jitter": "none", "max_attempts": 3}


def zstd(data):
    """RFC 8878: one frame of raw blocks."""
    blocks = b""
    for at in range(0, len(data), 65536):
        piece = data[at:at + 65536]
        blocks += struct.pack("<I", len(piece) << 3 | (at + len(piece) >= len(data)))[:3] + piece
    return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data)) + blocks


PACK = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd}
every_encoding = pytest.mark.parametrize("encoding", PACK)


def packed(body, encoding):
    """With words that do not shrink much, so that a spool has what to do."""
    words = random.Random(7).randbytes(3000).hex()
    return PACK[encoding](json.dumps({"metadata": {"words": words}, **body}).encode())


def send(daemon, body, encoding, path="/v1/chat/completions"):
    return ask(daemon, body, path, [f"Content-Encoding: {encoding}"])


def line_of(daemon):
    """The log's, of its one request."""
    line = daemon.wait_line('msg="request"')
    return dict(re.findall(r'(\w+)=("[^"]*"|\S+)', line))


@every_encoding
@pytest.mark.parametrize("memory", ["1M", "1K"])
def test_it_goes_on_as_it_came_and_its_model_is_known(encoding, memory, provider, retryd):
    provider.answers(error(503), {"preset": "chat"})
    body = packed(CHAT, encoding)
    daemon = retryd(retry=FAST, server={"memory_body": memory})
    assert send(daemon, body, encoding).status == 200
    sent = provider.record()
    assert [r["body_sha256"] for r in sent] == [hashlib.sha256(body).hexdigest()] * 2
    assert [value(r, "content-encoding") for r in sent] == [encoding] * 2
    assert line_of(daemon)["model"] == CHAT["model"]


@every_encoding
def test_it_asks_for_a_stream(encoding, provider, retryd):
    """C10: So that its response is asked for without an encoding, and a break before its content is ridden out."""
    good = {"preset": "chat_stream", "text": "abcd", "events": 4}
    provider.answers({**good, "cut": {"after_events": 1}}, good)
    answer = ask(retryd(retry=FAST), packed(STREAM, encoding), headers=[f"Content-Encoding: {encoding}",
                                                                     "Accept-Encoding: gzip"])
    assert (answer.status, text_of(answer.body)) == (200, "abcd")
    assert {value(r, "accept-encoding") for r in provider.record()} == {"identity"}


@every_encoding
@pytest.mark.parametrize("memory", ["1M", "1K"])
def test_it_takes_its_models_route(encoding, memory):
    """C18."""
    routes = {"small": {"model": "small*", "upstreams": "two"}, "rest": {"upstreams": "one"}}
    with house({"one": {}, "two": {}}, routes=routes, server={"memory_body": memory}) as (provider, daemon):
        for model in ("small-1", "big"):
            assert send(daemon, packed({**CHAT, "model": model}, encoding), encoding).status == 200
        assert where(provider.record()) == ["two", "one"]


def test_its_model_stands_in_the_url():
    """C18."""
    url = {"url": "PROVIDER/openai/deployments/{model}", "model.big": "eu-big"}
    with house({"azure": url}) as (provider, daemon):
        assert send(daemon, packed({**CHAT, "model": "big"}, "zstd"), "zstd").status == 200
        assert provider.record()[0]["target"] == "/openai/deployments/eu-big/chat/completions"


def refused(answer, code, *words):
    assert (answer.status, answer.error["code"]) == (400, code)
    for word in words:
        assert word in answer.error["message"], answer.error


def test_a_model_that_cannot_be_read_is_no_other_routes():
    """C18: The one behind it is for other models, as far as anybody knows."""
    routes = {"small": {"model": "small*", "upstreams": "two"}, "rest": {"upstreams": "one"}}
    with house({"one": {}, "two": {}}, routes=routes) as (provider, daemon):
        refused(send(daemon, b"\x0b\x01\x80{}\x03", "br"), "model_not_readable", '"br"', "routes",
                "gzip, deflate and zstd", "without Content-Encoding")
        refused(send(daemon, packed(CHAT, "gzip")[:-9], "gzip"), "model_not_readable", "not valid")
        assert provider.record() == []
        answer = ask(daemon, None, "/v1/models", method="GET")
        assert answer.status == 200, "a request that has none takes what there is for it"


@pytest.mark.parametrize("url", ["PROVIDER/openai/deployments/{model}", "PROVIDER/v1"])
def test_a_model_that_cannot_be_read_has_no_other_name(url):
    """C18."""
    with house({"azure": {"url": url, "model.big": "eu-big"}}) as (provider, daemon):
        refused(send(daemon, b"\x0b\x01\x80{}\x03", "br"), "model_not_readable", "upstream azure")
        assert provider.record() == []


def test_a_model_that_cannot_be_replaced_is_not_asked_for():
    """C18."""
    named = {"model.big": "eu-big"}
    body = packed({**CHAT, "model": "big"}, "zstd")
    with house({"named": named, "other": {}}) as (provider, daemon):
        assert send(daemon, body, "zstd").header("x-retryd-target") == "other"
    with house({"named": named}) as (provider, daemon):
        refused(send(daemon, body, "zstd"), "model_not_replaceable", "upstream named", '"big"')
        assert provider.record() == []


def test_a_fallback_that_cannot_be_had_is_told_in_the_log():
    """C24."""
    with house(route={"fallback_models": "small"}, retry=FAST) as (provider, daemon):
        provider.rules(on("one", error(500)))
        answer = send(daemon, packed(CHAT, "zstd"), "zstd")
        assert answer.status == 500
        assert len(provider.record()) == 3
        assert "fallback model" in line_of(daemon)["cannot_retry"]


@pytest.mark.parametrize("encoding, body", [("br", b"\x0b\x01\x80{}\x03"), ("gzip, gzip", b"?"),
                                          ("gzip", b"no gzip"), ("zstd", packed(CHAT, "zstd")[:-3])],
                         ids=["br", "two", "broken", "cut"])
def test_what_cannot_be_read_goes_on_where_nothing_depends_on_it(encoding, body, provider, retryd):
    provider.answers({"preset": "chat"})
    assert send(retryd(), body, encoding).status == 200
    assert provider.record()[0]["body_sha256"] == hashlib.sha256(body).hexdigest()


def test_a_bomb_is_passed_on_and_not_unpacked(provider, retryd):
    """C16: Four GiB of spaces, of which 16 MiB are looked at."""
    provider.answers({"preset": "auto"})
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    mebibyte = packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    bomb = mebibyte + again * 4095
    daemon = retryd()
    before = cpu_ms(daemon.pid)
    assert send(daemon, bomb, "gzip").status == 200
    assert cpu_ms(daemon.pid) - before < 4000
    assert provider.record()[0]["body_sha256"] == hashlib.sha256(bomb).hexdigest()


def test_azures_path_names_the_model():
    """C18: AzureOpenAI with its endpoint at retryd: the deployment in its path is the model."""
    routes = {"small": {"base": "/openai", "model": "small*", "upstreams": "two"},
              "rest": {"base": "/openai", "upstreams": "one", "fallback_models": "other/1",
                       "retry.attempts_per_tier": "2"}}
    path = "/openai/deployments/%s/chat/completions?api-version=2024-10-21"
    with house({"one": {}, "two": {}}, routes=routes, retry=FAST) as (provider, daemon):
        provider.rules(on("one", *[error(500)] * 2, {"preset": "chat"}, then="next"))
        assert ask(daemon, CHAT, path % "small-1").header("x-retryd-target") == "two"
        answer = send(daemon, packed(CHAT, "zstd"), "zstd", path % "big")
        assert (answer.status, answer.header("x-retryd-model")) == (200, "other/1")
        assert [r["target"] for r in in_order(provider.record())] == [
            (path % model).replace("/openai", f"/{name}/v1")
            for name, model in [("two", "small-1"), *[("one", "big")] * 2, ("one", "other%2F1")]]

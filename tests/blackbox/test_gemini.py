"""Gemini's own API: its streams, its errors, its model in the path and its key."""

import json

import pytest
from raw import Closed, Raw, ask
from streams import MODES, PAUSE_MS

MODEL = "gemini-2.5-flash"
STREAM = f"/v1/models/{MODEL}:streamGenerateContent?alt=sse"
WHOLE = f"/v1/models/{MODEL}:generateContent"
BODY = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
FAST = {"initial_delay": "10ms", "max_attempts": 3}
GOOD = {"preset": "auto", "text": "abcd", "events": 4}
CUT = {**GOOD, "cut": {"after_events": 2, "delay_ms": PAUSE_MS}}


def unavailable(status=503, message="overloaded", word="UNAVAILABLE"):
    return {"error": {"code": status, "message": message, "status": word}}


def data_of(body):
    return [json.loads(line[6:]) for line in body.decode().split("\n") if line.startswith("data: ")]


def text_of(events):
    return "".join(part.get("text", "") for event in events for candidate in event.get("candidates", [])
                   for part in candidate["content"]["parts"])


def finished(events):
    return [c["finishReason"] for e in events for c in e.get("candidates", []) if "finishReason" in c]


def broken(daemon, headers=()):
    """The events of a stream whose connection breaks in the end."""
    got = b""
    with Raw(daemon) as c:
        c.request(path=STREAM, body=BODY, headers=headers)
        assert c.answer_head().status == 200
        with pytest.raises((Closed, ConnectionResetError)):
            while True:
                piece = c.next_chunk()
                assert piece, "it ended in good order"
                got += piece
    return data_of(got)


@pytest.mark.parametrize("mode", MODES)
def test_a_whole_stream_passes_as_it_is(mode, provider, retryd):
    """C12."""
    provider.answers(GOOD)
    answer = ask(retryd(stream={"mode": mode, "heartbeat": "20ms"}), BODY, STREAM)
    events = data_of(answer.body)
    assert (text_of(events), finished(events)) == ("abcd", ["STOP"])
    assert b"[DONE]" not in answer.body and b": retryd" not in answer.body
    assert len(provider.record()) == 1


@pytest.mark.parametrize("how", ["reset", "fin", "clean"])
def test_a_break_is_told_in_googles_shape_and_breaks(how, provider, retryd):
    """C12: An event that the SDKs raise, and for those that do not, a broken connection."""
    answer = {**CUT, "chunked": True, "cut": {**CUT["cut"], "how": how}}
    if how == "clean":
        answer = {**GOOD, "finish": False, "stall": {"after_events": 2, "for_ms": PAUSE_MS}}
    provider.answers(answer)
    *said, last = broken(retryd(retry=FAST))
    assert text_of(said) == ("abcd" if how == "clean" else "ab")
    error = last["error"]
    assert (error["code"], error["status"]) == (503, "UNAVAILABLE")
    assert error["message"].startswith("retryd: ")
    assert error["details"][0]["reason"] == "answer_truncated"
    assert len(provider.record()) == 1


@pytest.mark.parametrize("how", ["reset", "fin", "clean"])
def test_hold_rides_it_out(how, provider, retryd):
    """C13."""
    answer = {**CUT, "cut": {**CUT["cut"], "how": how}} if how != "clean" else {**GOOD, "finish": False}
    provider.answers(answer, GOOD)
    answer = ask(retryd(retry=FAST, stream={"mode": "hold"}), BODY, STREAM)
    events = data_of(answer.body)
    assert answer.whole and (text_of(events), finished(events)) == ("abcd", ["STOP"])
    assert len(provider.record()) == 2


def test_a_cut_behind_the_finish_reason_is_none(provider, retryd):
    """C12."""
    provider.answers({**GOOD, "cut": {"after_events": 5, "delay_ms": PAUSE_MS}})
    answer = ask(retryd(), BODY, STREAM)
    assert answer.whole and finished(data_of(answer.body)) == ["STOP"]
    assert b"DONE" not in answer.body and b"error" not in answer.body


def part(text, **more):
    return {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, **more}]}


@pytest.mark.parametrize("mode", MODES)
def test_behind_the_finish_reason_a_connection_that_stays_open_is_over(mode, provider, retryd):
    """C12: The end has its two seconds of grace: silence for longer makes no failure of it."""
    said = [part("a"), part("b", finishReason="STOP"), {"usageMetadata": {"totalTokenCount": 3}}]
    provider.answers({"sse": said, "stall": {"after_events": 3}})
    answer = ask(retryd(stream={"mode": mode}, retry={"max_attempts": 1}), BODY, STREAM)
    assert answer.whole and data_of(answer.body) == said
    assert len(provider.record()) == 1


@pytest.mark.parametrize("mode", ["live", "hold"])
def test_a_finish_reason_with_each_event_ends_nothing(mode, provider, retryd):
    """C12: As older models send it: a cut is one, and an orderly end is the end."""
    said = [part(text, finishReason="STOP") for text in "abcd"]
    provider.answers({"sse": said, "cut": {"after_events": 2, "delay_ms": PAUSE_MS}}, {"sse": said})
    d = retryd(retry=FAST, stream={"mode": mode})
    if mode == "live":
        *got, last = broken(d)
        assert text_of(got) == "ab" and "error" in last
    answer = ask(d, BODY, STREAM)
    assert answer.whole and data_of(answer.body) == said
    assert len(provider.record()) == 2


FIRSTS = {
    "503": {"status": 503, "json": unavailable()},
    "array": {"status": 503, "json": [unavailable()]},
    "in-200": {"json": unavailable()},
    "in-200-array": {"json": [unavailable()]},
    "event": {"sse": [unavailable()]},
    "nothing": {"sse": []},
    "usage-only": {"sse": [{"usageMetadata": {"promptTokenCount": 3}, "modelVersion": MODEL}]},
    "cut": {**GOOD, "cut": {"after_head": True}},
}


@pytest.mark.parametrize("first", FIRSTS)
def test_what_comes_before_any_content_is_made_again(first, provider, retryd):
    """C3."""
    provider.answers(FIRSTS[first], FIRSTS[first], GOOD)
    answer = ask(retryd(retry=FAST), BODY, STREAM)
    assert answer.status == 200 and text_of(data_of(answer.body)) == "abcd"
    assert len(provider.record()) == 3


def test_a_refused_prompt_is_whole(provider, retryd):
    """C12."""
    blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 3}}
    provider.answers({"sse": [blocked]})
    answer = ask(retryd(retry=FAST), BODY, STREAM)
    assert answer.whole and data_of(answer.body) == [blocked]
    assert len(provider.record()) == 1


def test_an_array_that_breaks_is_none(provider, retryd):
    """C12: Without alt=sse the stream is one JSON array: held until it is whole, so a cut one is made again."""
    pieces = [json.dumps({"candidates": [{"content": {"parts": [{"text": t}]}}]}) for t in "ab"]
    array = "[" + ",\n".join(pieces) + "]"
    how = {"headers": {"content-type": "application/json; charset=UTF-8"}, "chunked": True}
    provider.answers({"body": array, **how, "cut": {"after_bytes": len(pieces[0]) + 3, "delay_ms": PAUSE_MS}},
                     {"body": array[:-1], **how}, {"body": array, **how})
    answer = ask(retryd(retry=FAST), BODY, STREAM.replace("?alt=sse", ""))
    assert answer.whole and answer.body.decode() == array
    assert len(provider.record()) == 3


@pytest.mark.parametrize("path", [STREAM, WHOLE, f"/v1/models/{MODEL}:countTokens", "/v1/models/e:embedContent"])
def test_an_error_of_our_own_is_googles(path, provider, retryd):
    """C24."""
    provider.answers({"cut": {"before_head": True}})
    answer = ask(retryd(retry=FAST), BODY, path)
    error = answer.json()["error"]
    assert answer.status == error["code"] == 502 and error["status"] == "UNAVAILABLE"
    assert error["message"].startswith("retryd: ")
    assert error["details"] == [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "connection_lost",
                                 "domain": "retryd", "metadata": {"type": "server_error"}}]


def test_an_error_of_our_own_is_anthropics_on_its_path(provider, retryd):
    """C24."""
    provider.answers({"cut": {"before_head": True}})
    answer = ask(retryd(retry=FAST), BODY, "/v1/messages")
    assert answer.status == 502 and answer.json()["type"] == "error"
    assert answer.error["code"] == "connection_lost"


def test_a_refused_head_is_told_in_googles_shape(provider, retryd):
    """C24."""
    answer = ask(retryd(), BODY, STREAM, headers=["Origin: http://evil.example"])
    assert answer.status == 403
    assert (answer.json()["error"]["code"], answer.json()["error"]["status"]) == (403, "PERMISSION_DENIED")


def test_the_last_upstream_error_passes(provider, retryd):
    """C24."""
    provider.answers({"status": 503, "json": [unavailable()]})
    answer = ask(retryd(retry=FAST), BODY, STREAM)
    assert answer.status == 503 and answer.json() == [unavailable()]
    assert len(provider.record()) == 3


def test_the_model_in_the_path_falls_back(provider, retryd):
    """C18."""
    provider.rules({"match": {"path": f"*/{MODEL}:*"}, "answers": [{"status": 404, "json": unavailable(
        404, f"models/{MODEL} is not found for API version v1beta", "NOT_FOUND")}]})
    d = retryd(retry=FAST, **{"route g": {"base": "/v1", "model": "gemini-*", "fallback_models": "gemini-2.0-flash"}})
    answer = ask(d, BODY, STREAM)
    assert answer.status == 200 and answer.header("x-retryd-model") == "gemini-2.0-flash"
    assert [r["target"].rpartition("/")[2] for r in provider.record()][-1] == (
        "gemini-2.0-flash:streamGenerateContent?alt=sse")
    assert d.wait_log('msg="request"')["model"] == MODEL


@pytest.mark.parametrize("header", ["x-goog-api-key: mine", None])
def test_a_client_key_goes_to_no_upstream_with_its_own(header, provider, retryd):
    """C31."""
    provider.answers(GOOD)
    d = retryd(upstream_settings={"api_key_env": "GEMINI_KEY", "auth_header": "x-goog-api-key"},
               env={"GEMINI_KEY": "AIza-ours"})
    path = STREAM if header else STREAM + "&key=mine"
    answer = ask(d, BODY, path, headers=[header] if header else [])
    assert answer.status == 200
    record, = provider.record()
    assert record["target"].endswith("?alt=sse")
    assert [v for n, v in record["headers"] if n.lower() == "x-goog-api-key"] == ["AIza-ours"]
    assert "mine" not in d.log and "AIza" not in d.log

"""The rows of the table of streams: what an upstream does to a stream, and what the application then sees.

A row is a cause, with the provider's first response for chat completions and for the Responses API (None if the API has
no such case), and the effect in each of the three modes. The provider's second response is a complete stream, except in
rows named "always". An effect is the same for every client, except for those in BUT of test_stream_table.py, which
runs the rows. docs/failures.md shows the same rows to users.

    whole(n)               the complete response, after n attempts
    whole(n, text)         a complete response with this text
    error(code, text, n)   the client's own API error with this code (ANY: any code), after this text
    raw(text)              an error of the client that is not an API error; only in BUT

If the upstream sent an error, its message must be in the error that the client raises.
"""

import collections

from stream_causes import (ALL, ANTHROPIC, APIS, BASE_RESP, DETAIL, DONE, DOWN_LATE, FAILED, FLAT, HALF, HALF_EVENT,
                           IN_CHOICE, INCOMPLETE, LEAD, LLAMA, NO_JSON, OPENROUTER, PAGE, PINGS, QUOTA,
                           RESPONSES_NESTED, TEXT, VLLM, WHOLE, amid, announced, before, breaks, but_completed, called,
                           chat_events, chunk, crlf, cut, hasty, identified, named, nested, only, open_behind,
                           open_events, pausing, says_nothing, stops, typed, unfinished)

MODES = ["live", "splice", "hold"]
ATTEMPTS = 3  # max_attempts of the daemon
ANY = None

Effect = collections.namedtuple("Effect", "kind code text attempts requests", defaults=[1])


def whole(attempts=1, text=TEXT):
    return Effect("whole", ANY, text, attempts)


def error(code=ANY, text=HALF, attempts=1):
    return Effect("error", code, text, attempts)


def raw(text, attempts=1):
    return Effect("raw", ANY, text, attempts)


def repeated(effect, requests):
    """The same, but the client asked so many times."""
    return effect._replace(attempts=effect.attempts * requests, requests=requests)


def each(answer):
    """The same cause for both APIs: answer(api)."""
    return tuple(answer(api) for api in APIS)


def chat(answer):
    return answer, None


def responses(answer):
    return None, answer


def told(live):
    """Told in live mode, mended in the two others."""
    return live, whole(2), whole(2)


def always(effect):
    return effect, effect, effect


RETRIED = always(whole(2))   # before the first content every mode does the same
UNHARMED = always(whole(1))  # nothing is wrong, or only what no client needs to see

ROWS = {
    # --- the stream ends or breaks ---
    "nothing-but-a-role": (each(lambda api: cut(LEAD[api])), RETRIED),
    "nothing-but-a-role-fin": (each(lambda api: cut(LEAD[api], "fin")), RETRIED),
    "empty": (each(lambda api: only()), RETRIED),
    "says-nothing": (each(says_nothing), RETRIED),
    "a-page": (each(lambda api: PAGE), RETRIED),
    "reset": (each(lambda api: cut(LEAD[api] + 2)), told(error())),
    "fin": (each(lambda api: cut(LEAD[api] + 2, "fin")), told(error())),
    # Who was silent is not asked for the same response again, and there is nobody else. Held, the client has none of it.
    "silence": (each(lambda api: {**WHOLE, "stall": {"after_events": LEAD[api] + 2}}),
                (error("idle_timeout"), error("idle_timeout"), whole(2))),
    "clean-end-amid": (each(stops), told(error())),
    "clean-end-without-a-finish": (each(unfinished), told(error(text=TEXT))),
    "clean-end-without-done": (chat({**WHOLE, "done": False}), UNHARMED),
    "clean-end-without-completed": (responses(but_completed()), told(error(text=TEXT))),
    "reset-before-the-usage": (chat(cut(ALL["chat"] - 2)), told(whole(1))),
    "open-before-the-usage": (chat(open_behind(ALL["chat"] - 2)), UNHARMED),
    "open-before-done": (chat(open_behind(ALL["chat"] - 1)), UNHARMED),
    "open-behind-the-end": (each(lambda api: open_behind(ALL[api])), UNHARMED),
    "reset-before-done": (chat(cut(ALL["chat"] - 1)), UNHARMED),
    "reset-before-completed": (responses(cut(ALL["responses"] - 1)), told(error(text=TEXT))),
    "reset-after-the-last-event": (each(lambda api: cut(ALL[api])), UNHARMED),
    "half-an-event-and-reset": (each(lambda api: breaks(api, HALF_EVENT)), told(error())),
    "half-an-event-and-clean-end": (each(lambda api: stops(api, HALF_EVENT)), told(error())),
    # The two make one event that is no JSON: the error in it cannot be read.
    "half-an-event-and-an-error": (each(lambda api: stops(api, HALF_EVENT, nested())), told(error())),
    "reset-always": (each(lambda api: cut(LEAD[api] + 2)), (error(), error(attempts=3), error(text="", attempts=3))),
    # --- errors as events ---
    "error": (each(lambda api: stops(api, nested())), told(error("server_is_overloaded"))),
    "error-and-done": (chat(stops("chat", nested(), DONE)), told(error("server_is_overloaded"))),
    "error-first": (each(lambda api: only(nested())), RETRIED),
    "error-first-always": (each(lambda api: only(nested())), always(error("server_is_overloaded", "", 3))),
    # The status has gone out with the heartbeats that the client had before (test_stream_table.py).
    "heartbeats-then-error-always": (each(lambda api: DOWN_LATE), always(error("down", "", 3))),
    "error-of-the-request-always": (each(lambda api: only(nested("bad", "invalid_request_error"))),
                                    always(error("bad", ""))),
    "error-named": (chat(stops("chat", named(nested()))), told(error("server_is_overloaded"))),
    "error-named-nested": (responses(stops("responses", named(RESPONSES_NESTED))), told(error("server_is_overloaded"))),
    "error-flat": (responses(stops("responses", named(FLAT))), told(error("server_error"))),
    "error-flat-first": (responses(only(named(FLAT))), RETRIED),
    # No repeat helps against an empty purse.
    "error-quota-always": (each(lambda api: stops(api, QUOTA)),
                    (error("insufficient_quota"), error("insufficient_quota"), error("insufficient_quota", ""))),
    "response-failed": (responses(stops("responses", FAILED)), told(error())),
    "response-failed-first": (responses(only(FAILED)), RETRIED),
    "response-incomplete": (responses(stops("responses", INCOMPLETE)), always(whole(1, HALF))),
    "error-text": (chat(stops("chat", {"error": "boom"})), told(error())),
    "error-null": (chat({"sse": chat_events(error=None)}), UNHARMED),
    # --- what is no event, or none that a client can read ---
    "comment": (each(lambda api: amid(api, ": comment\n")), UNHARMED),
    "comment-first": (each(lambda api: before(api, ": comment\n\n")), UNHARMED),
    "comment-after-an-id": (each(identified), UNHARMED),
    "id-without-data": (each(lambda api: amid(api, "id: 7\n\n")), UNHARMED),
    "event-without-data": (each(lambda api: amid(api, "event: ping\n\n")), UNHARMED),
    "event-without-data-first": (each(lambda api: before(api, "event: ping\n\n")), UNHARMED),
    "retry-field": (each(lambda api: amid(api, "retry: 10\n\n")), UNHARMED),
    "crlf-and-empty-lines": (each(crlf), UNHARMED),
    "no-json": (each(lambda api: pausing(api, amid(api, NO_JSON)["sse"])), (whole(1), whole(2), whole(2))),
    # It is the response's way: asked for once more, and then passed without it, unless it has to be whole.
    "no-json-always": (each(lambda api: pausing(api, amid(api, NO_JSON)["sse"])),
                       (whole(1), whole(2), error("answer_malformed", "", 2))),
    # --- what servers call otherwise, or do not say ---
    "called-json": (each(lambda api: called("application/json", WHOLE)), UNHARMED),
    "called-text": (each(lambda api: called("text/plain", WHOLE)), UNHARMED),
    "called-nothing": (each(lambda api: called(None, WHOLE)), UNHARMED),
    "called-json-reset": (each(lambda api: called("application/json", cut(LEAD[api] + 2))), told(error())),
    "empty-reasons": (chat({"sse": open_events()}), UNHARMED),
    "empty-reasons-reset": (chat({"sse": open_events(), "cut": cut(LEAD["chat"] + 2)["cut"]}), told(error())),
    "empty-reasons-clean-end": (chat(pausing("chat", open_events()[:LEAD["chat"] + 2])), told(error())),
    "finish-in-every-chunk": (chat({"sse": hasty()}), UNHARMED),
    # To splice a reason is the end of the text: nothing is joined behind it.
    "finish-in-every-chunk-reset": (chat({"sse": hasty(), "cut": cut(LEAD["chat"] + 2)["cut"]}),
                                    (error(), error("answer_differs", attempts=2), whole(2))),
    "choices-null": (chat(amid("chat", chunk(None))), UNHARMED),
    "choices-null-first": (chat(before("chat", chunk(None))), UNHARMED),
    "pings-no-json": (each(lambda api: amid(api, *PINGS)), UNHARMED),
    "pings-no-json-first": (each(lambda api: before(api, *PINGS)), UNHARMED),
    "pings-no-json-reset": (each(lambda api: breaks(api, *PINGS)), told(error())),
    "wrapped-comment": (each(lambda api: amid(api, "data: : PROCESSING\n\n")), UNHARMED),
    "wrapped-comment-first": (each(lambda api: before(api, "data: : PROCESSING\n\n")), UNHARMED),
    "unknown-event-and-reset": (responses(announced("responses", typed("codex.rate_limits", 0, rate_limits={}))), RETRIED),
    # --- other servers ---
    "openrouter-comments": (each(lambda api: before(api, ": OPENROUTER PROCESSING\n\n", ": OPENROUTER PROCESSING\n\n")),
                            UNHARMED),
    "openrouter-comments-amid": (each(lambda api: amid(api, ": OPENROUTER PROCESSING\n\n")), UNHARMED),
    "openrouter-error": (chat(stops("chat", OPENROUTER, DONE)), told(error("502"))),
    "openrouter-error-first": (chat(only(OPENROUTER, DONE)), RETRIED),
    "error-in-a-choice": (chat(stops("chat", IN_CHOICE)), told(error("502"))),
    "error-in-a-choice-first": (chat(only(IN_CHOICE)), RETRIED),
    "llama-ping": (each(lambda api: amid(api, ":\n\n")), UNHARMED),
    "llama-error": (each(lambda api: stops(api, LLAMA)), told(error())),
    "llama-error-first": (each(lambda api: only(LLAMA)), RETRIED),
    "vllm-error": (chat(stops("chat", VLLM, DONE)), told(error("500"))),
    "vllm-error-first": (chat(only(VLLM, DONE)), RETRIED),
    "detail": (each(lambda api: {"status": 503, "json": DETAIL}), RETRIED),
    "detail-in-200": (each(lambda api: {"json": DETAIL}), RETRIED),
    "detail-always": (each(lambda api: {"status": 503, "json": DETAIL}), always(error(text="", attempts=ATTEMPTS))),
    "detail-in-200-always": (each(lambda api: {"json": DETAIL}), always(error(text="", attempts=ATTEMPTS))),
    "base-resp": (chat({"json": BASE_RESP}), RETRIED),
    "base-resp-event": (chat(only(BASE_RESP)), RETRIED),
    "base-resp-always": (chat({"json": BASE_RESP}), always(error(text="", attempts=ATTEMPTS))),
    "anthropic-error": (chat(stops("chat", ANTHROPIC)), told(error())),
    "anthropic-error-first": (chat(only(ANTHROPIC)), RETRIED),
}

# Rows whose upstream told of an error that can be read: its message is what the client raises.
SAYS_BOOM = {name for name in ROWS if "error" in name} - {"half-an-event-and-an-error", "error-null"}
SAYS_BOOM |= {"response-failed"}

"""Faults of an upstream that only HTTP/2 has, and the state that requests share on its connections.

A small server (h2peer.py) produces the faults that real servers do not produce on demand.
"""

import collections
import threading

import pytest
from fronts import Front, over_http2
from h2.settings import SettingCodes
from h2peer import INTERNAL_ERROR, REFUSED_STREAM, WHOLE, Peer
from pki import pki  # noqa: F401
from raw import CHAT, STREAM, Raw, ask, in_time, now_ms, wait_idle, wait_metric, wait_requests

STRICT = {"initial_delay": "20ms", "retry_ambiguous": "no", "max_attempts": 1}
EVENT = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":' \
        b'[{"index":0,"delta":{"content":"w "},"finish_reason":null}]}\n\n'


@pytest.fixture(name="retryd")
def http2_retryd(retryd, pki):  # noqa: F811
    return over_http2(retryd, pki)


def ask_many(d, count, body=CHAT):
    """So many at once; their responses."""
    clients = [Raw(d) for _ in range(count)]
    for c in clients:
        c.request(body=body)
    answers = [c.answer() for c in clients]
    for c in clients:
        c.close()
    return answers


# --- sick answers -----------------------------------------------------------------------------------


def test_a_sick_answer_leaves_the_others_on_its_connection_alone(pki, retryd):  # noqa: F811
    """C3: The request is made again on a new connection, and the stream beside it goes on where it is."""
    asked = []

    def play(request):
        asked.append(request)
        if request.n == 1:
            request.head("text/event-stream")
            request.data(EVENT)
        elif request.n == 2:
            request.head(status=503)
            request.data(b'{"error":{"message":"x","type":"x","code":"x"}}', end=True)
        else:
            request.answer()

    with Peer(pki.good, play) as peer:
        d = retryd(peer.base_url)
        with Raw(d) as streaming:
            streaming.request(body=STREAM)
            assert streaming.answer_head().status == 200
            assert streaming.next_chunk()
            answer = ask(d)
            assert (answer.status, answer.header("x-retryd-attempts")) == (200, "2"), answer.body
            one, two, three = peer.all("request")  # (what, connection, ...)
            assert one[1] == two[1] != three[1]
            asked[0].data(EVENT + b"data: [DONE]\n\n", end=True)
            assert b"".join(streaming.chunks()).endswith(b"data: [DONE]\n\n")


# --- a server that says it did not process a request ------------------------------------------------


@pytest.mark.parametrize("kept", [True, False])
def test_a_refused_stream_is_no_attempt(pki, retryd, kept):  # noqa: F811
    """C28: REFUSED_STREAM: it goes out again at once, whatever may not be repeated."""
    def play(request):
        if request.n == 1 + kept:
            request.reset(REFUSED_STREAM)
        else:
            request.answer()

    with Peer(pki.good, play) as peer:
        d = retryd(peer.base_url, retry=STRICT)
        for _ in range(1 + kept):
            answer = ask(d)
            assert (answer.status, answer.header("x-retryd-attempts")) == (200, "1"), answer.body
        assert len(peer.all("request")) == 2 + kept
        assert d.metric("retryd_possible_duplicates_total") == 0


def test_refused_again_and_again_is_an_error_that_costs_nothing(pki, retryd):  # noqa: F811
    """C28."""
    with Peer(pki.good, lambda request: request.reset(REFUSED_STREAM)) as peer:
        d = retryd(peer.base_url, retry={**STRICT, "max_attempts": 3})
        answer = ask(d)
        assert answer.status == 502 and answer.header("x-retryd-attempts") == "3"
        assert "refused" in d.wait_log("attempt 1 of 3 failed")["detail"]
        assert d.metric("retryd_possible_duplicates_total") == 0
        assert len(peer.all("request")) <= 2 * 3  # each once more, on a new connection


def test_goaway_repeats_what_it_leaves_out_and_nothing_else(pki, retryd):  # noqa: F811
    """C28: The stream below is answered to its end on that connection, the one above goes out on another."""
    asked = []

    def play(request):
        asked.append(request)
        if request.n == 1 or request.n == 4:
            request.answer()
        elif request.n == 3:
            request.goaway(asked[1].stream)

    with Peer(pki.good, play) as peer:
        d = retryd(peer.base_url, retry=STRICT)
        assert ask(d).status == 200
        with Raw(d) as below, Raw(d) as above:
            below.request(body=CHAT)
            peer.wait("request", 2)
            above.request(body=CHAT)
            assert above.answer().status == 200
            asked[1].answer()
            assert below.answer().status == 200
        where = [s[1] for s in peer.all("request")]
        assert where[:3] == [1, 1, 1] and where[3:] not in ([], [1])
        assert d.metric("retryd_possible_duplicates_total") == 0
        assert [r["attempts"] for r in wait_requests(d, 3)] == ["1", "1", "1"]


def test_goaway_that_includes_the_stream_is_ambiguous(pki, retryd):  # noqa: F811
    """C28."""
    def play(request):
        if request.n == 1:
            request.answer()
        else:
            request.goaway(request.stream)
            request.link.cut()

    with Peer(pki.good, play) as peer:
        d = retryd(peer.base_url, retry={**STRICT, "max_attempts": 5})
        assert ask(d).status == 200
        assert ask(d).status == 502
        assert len(peer.all("request")) == 2


def test_a_stream_that_is_reset_is_repeated(pki, retryd):  # noqa: F811
    """C3: Before its response and amid it; the connection lives on."""
    def play(request):
        if request.n == 2:
            request.head()
            request.data(WHOLE[:20])
        if request.n in (1, 2):
            request.reset(INTERNAL_ERROR)
        else:
            request.answer()

    with Peer(pki.good, play) as peer:
        d = retryd(peer.base_url)
        answer = ask(d)
        assert (answer.status, answer.header("x-retryd-attempts")) == (200, "3")
        assert answer.body == WHOLE
        assert d.metric("retryd_possible_duplicates_total") == 2


# --- what many requests share -----------------------------------------------------------------------


@pytest.mark.parametrize("when", ["waiting", "amid"])
def test_one_dead_connection_under_many_streams_loses_none(pki, retryd, when):  # noqa: F811
    """C3."""
    def play(request):
        if request.n == 1 or request.link.number > 1:
            request.answer()
            return
        if when == "amid":
            request.head()
            request.data(WHOLE[:20])
        if request.n == 51:
            request.link.cut()

    with Peer(pki.good, play) as peer:
        d = retryd(peer.base_url)
        assert ask(d).status == 200
        answers = ask_many(d, 50)
        assert {(a.status, a.body, a.header("x-retryd-attempts")) for a in answers} == {(200, WHOLE, "2")}
        assert [s[1] for s in peer.all("request")[:51]] == [1] * 51
        assert len(peer.all("request")) == 101


def test_more_requests_than_a_connection_takes(pki, retryd):  # noqa: F811
    """The server takes five streams a connection and refuses more, which come before its settings have."""
    there = collections.Counter()

    def answer(request):
        there[request.link] -= 1
        request.answer()

    def play(request):
        if there[request.link] == 5:
            request.reset(REFUSED_STREAM)
        else:
            there[request.link] += 1
            threading.Timer(0.2, answer, [request]).start()

    with Peer(pki.good, play, {SettingCodes.MAX_CONCURRENT_STREAMS: 5}) as peer:
        d = retryd(peer.base_url, retry=STRICT)
        for _ in range(3):
            assert {a.status for a in ask_many(d, 20)} == {200}
        assert {r["attempts"] for r in wait_requests(d, 60)} == {"1"}
        assert d.metric("retryd_possible_duplicates_total") == 0


def test_a_window_that_never_opens(pki, retryd):  # noqa: F811
    """C7: The body cannot be sent: that request fails in time, and its neighbour does not."""
    neighbour = []

    def play(request):
        if request.headers[":method"] == "GET":
            neighbour.append(request)
        else:
            request.answer()

    with Peer(pki.good, play, opens_windows=False) as peer:
        d = retryd(peer.base_url, retry={"max_attempts": 1})
        assert ask(d).status == 200
        with Raw(d) as other, Raw(d) as stuck:
            other.request("GET", "/v1/models")
            peer.wait("request", 2)
            stuck.request(body={**CHAT, "pad": "x" * 200_000}, headers=["x-retryd-deadline: 1"])
            answer = stuck.answer()
            assert answer.status == 504, answer.body
            peer.wait("reset", 1)
            neighbour[0].answer()
            assert other.answer().status == 200
        assert d.metric("retryd_possible_duplicates_total") == 0


def test_keepalive_requests_cost_nothing(provider, pki, retryd, tmp_path):  # noqa: F811
    """nginx ends a connection after so many requests, by a GOAWAY amid whatever is on it."""
    with Front("nginx", provider, pki.good, tmp_path, "keepalive_requests 5;") as front:
        d = retryd(front.base_url, retry=STRICT)
        for _ in range(23):
            assert ask(d).status == 200
        for _ in range(4):
            assert {a.status for a in ask_many(d, 25)} == {200}
        assert len(provider.record()) == 123
        assert {r["attempts"] for r in wait_requests(d, 123)} == {"1"}
        assert d.metric("retryd_possible_duplicates_total") == 0


# --- C17 --------------------------------------------------------------------------------------------


class Neighbours:
    """A peer that answers the first request, and leaves the others to the test."""

    def __init__(self, pki):  # noqa: F811
        self.asked = []
        self.peer = Peer(pki.good, self.play)

    def play(self, request):
        self.asked.append(request)
        if request.n == 1:
            request.answer()


@pytest.mark.parametrize("leaver", ["waiting", "streaming"])
@pytest.mark.parametrize("neighbour", ["none", "waiting", "streaming", "stuck"])
def test_a_stream_ends_and_its_neighbour_goes_on(pki, retryd, leaver, neighbour):  # noqa: F811
    """C17."""
    n = Neighbours(pki)
    with n.peer as peer:
        d = retryd(peer.base_url)
        assert ask(d).status == 200
        other = Raw(d, receive_buffer=4096)
        if neighbour != "none":
            other.request(body=STREAM)
            peer.wait("request", 2)
        if neighbour in ("streaming", "stuck"):
            n.asked[1].head("text/event-stream")
            n.asked[1].data(EVENT)
            other.answer_head()
        if neighbour == "stuck":  # all that the window lets through, and nobody reads it
            sent = EVENT * 40
            for _ in range(200):
                window = n.asked[1].link.h2.local_flow_control_window(n.asked[1].stream)
                if window < len(sent):
                    break
                n.asked[1].data(sent)
        with Raw(d) as c:
            c.request(body=STREAM)
            asked = len(n.asked) + 1
            peer.wait("request", asked if neighbour == "none" else 3)
            mine = n.asked[-1]
            if leaver == "streaming":
                mine.head("text/event-stream")
                mine.data(EVENT)
                c.answer_head()
            at = now_ms()
        what = "closed" if neighbour == "none" else "reset"
        ended = peer.wait(what, 1)[0]
        in_time(ended[3] - at)
        if neighbour == "none":
            other.close()
            return
        assert ended[2] == mine.stream
        if neighbour == "waiting":
            n.asked[1].head("text/event-stream")
        if neighbour != "stuck":
            n.asked[1].data(EVENT + b"data: [DONE]\n\n", end=True)
            if neighbour == "waiting":
                assert other.answer().status == 200
            else:
                assert b"".join(other.chunks()).endswith(b"[DONE]\n\n")
        assert not peer.all("closed")
        other.close()


def test_all_leave_at_once(pki, retryd):  # noqa: F811
    """C17: Whoever is the last one there, no stream is left behind."""
    n = Neighbours(pki)
    with n.peer as peer:
        d = retryd(peer.base_url)
        assert ask(d).status == 200
        clients = [Raw(d) for _ in range(40)]
        for c in clients:
            c.request(body=STREAM)
        peer.wait("request", 41)
        at = now_ms()
        for c in clients:
            c.close()
        in_time(peer.wait("closed", 1)[0][3] - at)
        wait_idle(d)

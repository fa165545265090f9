"""C17: a client that disconnects in the middle of its response, in whatever way, frees its connection's slot and its
descriptor at once, even while an older connection of another client is idle.
"""

import contextlib
import os
import signal

import pytest
from daemon import Retryd
from raw import CHAT, STREAM, Raw, ask, now_ms, pass_time, time_of, wait_connections, wait_idle

AT_ONCE_MS = 100
MIB = 1024 * 1024
SMALL = 8192  # a receive buffer that is full soon

PLAIN = {"body_bytes": 30 * MIB, "close": True}
UNBOUND = {**PLAIN, "chunked": True}
EVENT = 'data: {"choices":[{"index":0,"delta":{"content":"' + "y" * 2000 + '"}}]}\n\n'
STREAM_HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
FLOOD = {"wire": [{"send": STREAM_HEAD}, {"repeat": {"count": 15_000, "ops": [{"send": EVENT}]}}, {"fin": True}]}
SLOW = {"preset": "chat_stream", "events": 2000, "interval_ms": 5}
SILENT = {"stall": {"before_head": True}}
THINKING = {"preset": "chat_stream", "events": 20, "stall": {"after_deltas": 2}}
BROKEN = {"preset": "chat_stream", "events": 20, "cut": {"after_deltas": 2, "delay_ms": 400}}
HELD = {"preset": "chat", "stall": {"after_bytes": 50}}

# --- where a client can be when it leaves: what is answered, what it asks for, and what it waits for first ---


def asked(c, n):
    """Nothing comes, but the provider has the request."""
    c.provider.wait(requests=n)


def head(c, n):
    c.answer_head()


def piece(c, n):
    c.answer_head()
    c.next_chunk()


def text(c, n):
    c.until(b'"w1 ')


def comment(c, n):
    c.until(b": retryd\n")


def stalled(c, n):
    """It has taken one byte, and no more comes out of the provider."""
    assert c.sock.recv(1)
    last, before = c.provider.record()[-1]["sent"], -1
    while last != before:
        pass_time(0.1)
        last, before = c.provider.record()[-1]["sent"], last


def over(c, n):
    """The daemon has closed; the client has not."""
    c.rest()


HTTP10 = {"version": "1.0"}
PLACES = {
    "waiting": (SILENT, CHAT, asked, {}),
    "stream-waiting": (SILENT, STREAM, asked, {}),
    "held": (HELD, CHAT, asked, {}),
    "live": (THINKING, STREAM, text, {}),
    "flowing": (SLOW, STREAM, text, {}),
    "splice": (THINKING, STREAM, text, {"mode": "splice"}),
    "splice-broken": (BROKEN, STREAM, text, {"mode": "splice"}),
    "hold": (THINKING, STREAM, asked, {"mode": "hold"}),
    "heartbeat": (SILENT, STREAM, comment, {"mode": "hold", "model": "beat"}),
    "heartbeat-live": (THINKING, STREAM, text, {"model": "beat"}),
    "long": (PLAIN, CHAT, head, {}),
    "long-chunked": (UNBOUND, CHAT, piece, {}),
    "http10-waiting": (SILENT, CHAT, asked, HTTP10),
    "http10-stream": (THINKING, STREAM, asked, HTTP10),
    "http10-long": (PLAIN, CHAT, head, HTTP10),
    "http10-chunked": (UNBOUND, CHAT, head, HTTP10),
    "http10-over": ({**UNBOUND, "body_bytes": 6 * MIB}, CHAT, over, HTTP10),
    "cut-long": ({**PLAIN, "cut": {"after_bytes": 5 * MIB}}, CHAT, over, {}),
    "cut-chunked": ({**UNBOUND, "cut": {"after_bytes": 5 * MIB}}, CHAT, over, {}),
    "cut-http10": ({**UNBOUND, "cut": {"after_bytes": 5 * MIB}}, CHAT, over, HTTP10),
    "stalled-whole": ({"body_bytes": 3 * MIB, "close": True}, CHAT, stalled, {"small": True}),
    "stalled-long": (PLAIN, CHAT, stalled, {"small": True}),
    "stalled-chunked": (UNBOUND, CHAT, stalled, {"small": True}),
    "stalled-stream": (FLOOD, STREAM, stalled, {"small": True}),
    "stalled-http10": (FLOOD, STREAM, stalled, {"small": True, **HTTP10}),
}
WAYS = ["fin", "reset", "half"]


def leave(c, way):
    """Half-closed means that the socket stays: only its writing end is closed."""
    if way == "half":
        with contextlib.suppress(OSError):  # where the daemon has reset it
            c.half_close()
    elif way == "fin":
        c.close()
    else:
        c.reset()


# --- slots and descriptors -------------------------------------------------------------------------------


def descriptors(d):
    return len(os.listdir(f"/proc/{d.pid}/fd"))


def wait_descriptors(d, at_most, timeout=20):
    """Looks again and again until so few are open; when that was."""
    deadline = now_ms() + timeout * 1000
    while descriptors(d) > at_most:
        assert now_ms() < deadline, f"{descriptors(d)} descriptors stay open, not {at_most}"
    return now_ms()


class House:
    """A daemon with an idle client, and what it takes to bring others to their places."""

    def __init__(self, provider, **server):
        self.provider = provider
        beat = "[route beat]\nmodel = beat*\nstream.heartbeat = 30ms\n[route all]\n"
        self.d = Retryd(provider.base_url, config=beat, retry={"initial_delay": "60s"}, stream={"mend_timeout": "0"},
                        server={"hold_limit": "4M", **server})
        self.requests = 0
        self.idle = Raw(self.d)
        self.idle.request("GET", "/elsewhere")
        assert self.idle.answer().status == 404
        self.open = descriptors(self.d)
        provider.rules(*({"match": {"header": {"x-place": name}}, "answers": [answer]}
                         for name, (answer, _, _, _) in PLACES.items()))

    def bring(self, place):
        """A client that has come to this place."""
        _, body, come, how = PLACES[place]
        more = {k: how[k] for k in ("version",) if k in how}
        headers = [f"x-place: {place}", "x-retryd-no-retry: yes"]
        if "mode" in how:
            headers = [f"x-place: {place}", f"x-retryd-stream-mode: {how['mode']}"]
        c = Raw(self.d, receive_buffer=SMALL if "small" in how else None)
        c.provider = self.provider
        c.request(body={**body, "model": how.get("model", "gpt-4o")}, headers=headers, **more)
        self.requests += 1
        come(c, self.requests)
        return c


    def leaves_after(self, place, way):
        """How long a client's descriptors are kept once it has left from there."""
        c = self.bring(place)
        at = now_ms()
        leave(c, way)
        took = wait_descriptors(self.d, self.open) - at
        c.close()
        return took


@pytest.fixture
def house(provider):
    with contextlib.ExitStack() as stack:
        def start(**server):
            h = House(provider, **server)
            stack.enter_context(h.d)
            stack.enter_context(h.idle)
            return h
        yield start


def test_three_hundred_leave_and_each_makes_room(house):
    """There is room for two, and one is idle all the while: the next client comes in only where the last
    one's slot is free. Nothing of them is left."""
    h = house(max_connections=2)
    places = [(place, way) for place in PLACES for way in WAYS if not place.startswith("stalled-")]
    places += [(place, way) for place in PLACES for way in WAYS if place.startswith("stalled-")][::4]
    for n in range(300):
        place, way = places[n % len(places)]
        c = h.bring(place)
        leave(c, way)
        if way == "half":
            assert c.is_closed(), f"{place}: a client that has half closed is not let go"
            c.close()
    wait_descriptors(h.d, h.open)
    wait_idle(h.d)
    wait_connections(h.d, 1)
    assert h.idle.is_open()
    h.idle.request("GET", "/elsewhere")
    assert h.idle.answer().status == 404
    h.d.signal(signal.SIGTERM)
    assert h.idle.is_closed()
    assert h.d.wait(timeout=20) == 0


@pytest.mark.alone
@pytest.mark.parametrize("way", WAYS)
def test_slot_and_descriptor_are_free_at_once(house, way):
    h = house()
    for place in PLACES:
        took = [h.leaves_after(place, way) for _ in range(2)]
        if min(took) >= AT_ONCE_MS:  # a machine that stood still for a moment does so once or twice
            took.append(h.leaves_after(place, way))
        assert min(took) < AT_ONCE_MS, f"{place}: {took} ms"
        wait_connections(h.d, 1)
    h.d.signal(signal.SIGTERM)
    assert h.d.wait(timeout=20) == 0
    took = time_of(h.d.wait_log("retryd has stopped")) - time_of(h.d.wait_log("shutting down: finishing"))
    assert took < 1000 + AT_ONCE_MS


def test_who_leaves_amid_a_response_leaves_nothing_to_wait_for(house):
    """All at once; then SIGTERM has only the idle one to see off."""
    h = house(drain_timeout="60s")
    clients = [(h.bring(place), way) for place in PLACES for way in WAYS if not place.startswith("stalled-")]
    for c, way in clients:
        leave(c, way)
    h.d.signal(signal.SIGTERM)
    assert h.d.wait(timeout=20) == 0
    for c, _ in clients:
        c.close()

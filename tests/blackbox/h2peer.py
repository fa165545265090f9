"""An HTTP/2 server over TLS that misbehaves on demand, as no real one does (with Debian's python3-h2).

    def play(request):               # called when a request is complete; request.n counts from 1
        if request.n == 1:
            request.reset(REFUSED_STREAM)
        else:
            request.answer()

    with Peer(pki.good, play) as peer:
        ...
        peer.wait("reset", 1)        # a client's RST_STREAM

Each connection has a thread, and `play` runs in it. An exception in such a thread fails the test.
"""

import contextlib
import json
import socket
import ssl
import threading
import traceback

import h2.config
import h2.connection
import h2.events
from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame
from raw import now_ms

REFUSED_STREAM = ErrorCodes.REFUSED_STREAM
INTERNAL_ERROR = ErrorCodes.INTERNAL_ERROR

WHOLE = json.dumps({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o",
                    "choices": [{"index": 0, "finish_reason": "stop",
                                 "message": {"role": "assistant", "content": "hello"}}]}).encode()


class Request:
    """A request on a stream, and what is to come of it. Usable from any thread."""

    def __init__(self, link, stream, headers, n):
        self.link, self.stream, self.headers, self.n = link, stream, headers, n

    def head(self, kind="application/json", status=200):
        self.link.do(lambda c: c.send_headers(self.stream, [(":status", str(status)), ("content-type", kind)]))

    def data(self, data, end=False):
        self.link.do(lambda c: c.send_data(self.stream, data, end_stream=end))

    def answer(self, body=WHOLE):
        self.head()
        self.data(body, end=True)

    def reset(self, code):
        self.link.do(lambda c: c.reset_stream(self.stream, code))

    def goaway(self, last):
        """No stream above `last` is or will be processed; those up to it go on, which h2 itself would not let."""
        self.link.send(GoAwayFrame(0, last_stream_id=last).serialize())


class Lenient(h2.connection.H2Connection):
    """Breaks no connection that has one stream too many, as no real server does; `play` may refuse it."""
    open_inbound_streams = 0


class Link:
    """One connection. TLS is done in memory, for one thread may send while another waits for bytes."""

    def __init__(self, peer, sock, context):
        self.peer, self.sock, self.number = peer, sock, 0
        self.lock = threading.RLock()
        self.cipher, self.sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.cipher, self.sent, server_side=True)
        self.h2 = Lenient(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))

    def flush(self):
        with contextlib.suppress(OSError):  # what became of the connection its own thread sees
            self.sock.sendall(self.sent.read())

    def do(self, what):
        with self.lock:
            what(self.h2)
            self.send(self.h2.data_to_send())

    def send(self, data):
        with self.lock:
            self.tls.write(data)
            self.flush()

    def read(self):
        """What came, and b"" at the end."""
        while True:
            with self.lock, contextlib.suppress(ssl.SSLWantReadError):
                return self.tls.read(1 << 20)
            self.feed()

    def feed(self):
        try:
            data = self.sock.recv(65536)
        except OSError:
            data = b""
        with self.lock:
            if data:
                self.cipher.write(data)
            else:
                self.cipher.write_eof()

    def shake_hands(self):
        while True:
            try:
                self.tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                self.flush()
                self.feed()
            finally:
                self.flush()

    def cut(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def run(self):
        for name, value in self.peer.settings.items():
            self.h2.local_settings[name] = value
        self.do(lambda c: c.initiate_connection())
        headers = {}
        with contextlib.suppress(ssl.SSLError):  # an end without the words for it
            while data := self.read():
                with self.lock:
                    events = self.h2.receive_data(data)
                    self.do(lambda c: None)
                for event in events:
                    self.on_event(event, headers)
        self.peer.note("closed", self.number, None)

    def on_event(self, event, headers):
        stream = getattr(event, "stream_id", None)
        if isinstance(event, h2.events.RequestReceived):
            headers[stream] = dict(event.headers)
            self.peer.note("head", self.number, stream)
        elif isinstance(event, h2.events.DataReceived) and self.peer.opens_windows:
            self.do(lambda c: c.acknowledge_received_data(event.flow_controlled_length, stream))
        elif isinstance(event, h2.events.StreamEnded):
            n = self.peer.note("request", self.number, stream)
            self.peer.play(Request(self, stream, headers[stream], n))
        elif isinstance(event, h2.events.StreamReset):
            self.peer.note("reset", self.number, stream)


class Peer:
    """settings: {h2.settings.SettingCodes: value}; opens_windows: whether it ever gives leave to send more."""

    def __init__(self, cert, play, settings=None, opens_windows=True):
        self.play, self.settings, self.opens_windows = play, settings or {}, opens_windows
        self.seen = []  # (what, connection, stream, when)
        self.links = []
        self._news = threading.Condition()
        self._problems = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*cert)
        self._context.set_alpn_protocols(["h2"])
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.base_url = f"https://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._threads = []
        self._start(self._accept)

    def _start(self, run, *args):
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                self._start(self._serve, self._listener.accept()[0])

    def _serve(self, sock):
        try:
            with sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                link = Link(self, sock, self._context)
                with contextlib.suppress(ssl.SSLError, OSError):  # one that left before it was a connection
                    link.shake_hands()
                    assert link.tls.selected_alpn_protocol() == "h2", "HTTP/2 was not asked for"
                    with self._news:
                        self.links.append(link)
                        link.number = len(self.links)
                    link.run()
        except Exception:  # told when the test ends
            self._problems.append(traceback.format_exc())

    def note(self, what, connection, stream):
        """Which one of its kind it is."""
        with self._news:
            self.seen.append((what, connection, stream, now_ms()))
            self._news.notify_all()
            return len(self.all(what))

    def all(self, what):
        return [s for s in self.seen if s[0] == what]

    def wait(self, what, count, timeout=20):
        """The first `count` of them, once they are there."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.all(what)) >= count, timeout), (what, count, self.seen)
            return self.all(what)[:count]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in self.links:
            link.cut()
        for thread in self._threads:
            thread.join(20)
        for problem in self._problems:
            print(problem)
        assert kind or not self._problems

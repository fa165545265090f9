"""TLS to an upstream, record by record: a peer that decides what each record holds and how its bytes travel."""

import contextlib
import itertools
import pathlib
import socket
import ssl
import struct
import threading

import pytest
from pki import pki  # noqa: F401
from raw import CHAT, Raw, ask, pass_time, text_of, wait_metric

HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LIVE = "[stream]\nmode = live\n"
STREAM = {**CHAT, "stream": True}
TAIL = (b'data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
        b"\n\ndata: [DONE]\n\n")


def event(text):
    return (b'data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
            % text.encode())


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


class Session:
    """One connection of the peer's, after the handshake."""

    def __init__(self, sock, context):
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self._until_done(self.tls.do_handshake)

    def _until_done(self, call, *args):
        while True:
            try:
                result = call(*args)
                self.send_ciphertext(self.outgoing.read())
                return result
            except ssl.SSLWantReadError:
                self.send_ciphertext(self.outgoing.read())
                data = self.sock.recv(65536)
                if not data:
                    raise ConnectionError("the daemon has closed the connection") from None
                self.incoming.write(data)

    def send_ciphertext(self, data):
        if data:
            self.sock.sendall(data)

    def read(self):
        data = self._until_done(self.tls.read, 65536)
        if not data:
            raise ConnectionError("the daemon has ended the session")
        return data

    def headers(self):
        """The headers of a request, the bytes of its body that came with them, and how many more follow."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.read()
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        return head, body, length - len(body)

    def request(self):
        """The body of one request."""
        _, body, left = self.headers()
        while left > 0:
            piece = self.read()
            body, left = body + piece, left - len(piece)
        return body

    def sealed(self, *records):
        """The ciphertext of records with these contents."""
        for record in records:
            self.tls.write(record)
        return self.outgoing.read()

    def send(self, *records):
        self.send_ciphertext(self.sealed(*records))

    def close_notify(self):
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        self.send_ciphertext(self.outgoing.read())

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Peer:
    """Plays each connection with `script(session)`."""

    def __init__(self, cert, script, version, shakes=lambda: True):
        """`shakes()`: whether a connection gets a handshake; else the peer is silent."""
        self.shakes = shakes
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = self.context.maximum_version = version
        self.context.load_cert_chain(*cert)
        self.script = script
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.sessions, self.threads = [], []
        self.accepter = threading.Thread(target=self._accept)

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.threads.append(threading.Thread(target=self._serve, args=(sock,)))
            self.threads[-1].start()

    def _serve(self, sock):
        with sock, contextlib.suppress(OSError):
            if not self.shakes():
                sock.recv(65536)
                sock.recv(65536)
                return
            session = Session(sock, self.context)
            self.sessions.append(session)
            self.script(session)

    def __enter__(self):
        self.accepter.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for session in self.sessions:
            with contextlib.suppress(OSError):
                session.sock.shutdown(socket.SHUT_RDWR)
        for thread in [self.accepter, *self.threads]:
            thread.join()


VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@pytest.fixture(params=VERSIONS)
def behind(request, pki, retryd):  # noqa: F811
    """behind(script, **settings): a daemon whose upstream plays the script."""
    with contextlib.ExitStack() as stack:
        def start(script, *shakes, **settings):
            peer = stack.enter_context(Peer(pki.good, script, VERSIONS[request.param], *shakes))
            daemon = retryd(peer.url, upstream_settings={"ca_file": pki.ca}, **settings)
            daemon.peer = peer
            return daemon

        yield start


def test_records_that_arrive_together_are_all_read(behind):
    """One write of the peer's has 400 records; nothing follows that would wake the daemon again."""
    words = [f"{n:03} " for n in range(400)]
    asked = threading.Event()

    def script(peer):
        while True:
            peer.request()
            peer.send(HEADERS, chunk(event("begin ")))
            peer.send(*(chunk(event(w)) for w in words), chunk(TAIL), b"0\r\n\r\n")
            asked.set()

    d = behind(script)
    with Raw(d) as c:
        for _ in range(3):  # on one connection
            c.request(body=STREAM)
            assert text_of(c.answer().body) == "begin " + "".join(words)
    assert len(d.peer.sessions) == 1


def test_a_record_in_pieces(behind):
    """Each byte of ciphertext is a segment of its own."""
    def script(peer):
        while True:
            peer.request()
            ciphertext = peer.sealed(HEADERS, chunk(event("a")), chunk(event("b")), chunk(TAIL), b"0\r\n\r\n")
            for at in range(len(ciphertext)):
                peer.send_ciphertext(ciphertext[at:at + 1])

    d = behind(script)
    for _ in range(2):
        assert text_of(ask(d, STREAM).body) == "ab"


def test_a_client_that_reads_late_gets_all(behind):
    """The daemon stops reading at its high-water mark, and OpenSSL may hold records at that time."""
    size = 16 << 20
    block = b"x" * 16000

    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % size)
        left = size
        while left:
            n = min(left, 11 * len(block))
            peer.send(*(block[:min(len(block), n - at)] for at in range(0, n, len(block))))
            left -= n
        peer.request()

    d = behind(script)
    with Raw(d, receive_buffer=65536) as c:
        c.request("POST", "/v1/files/f/content", b"{}")
        response = c.answer_head()
        wait_metric(d, "retryd_buffered_bytes", 100_000)
        assert len(c.exactly(size)) == size
        assert response.status == 200


def reads_of(daemon):
    io = pathlib.Path(f"/proc/{daemon.pid}/io").read_text()
    return int(io.partition("syscr:")[2].split()[0])


def test_an_event_costs_one_read(behind):
    """Bytes of TLS pass straight from the socket through OpenSSL: /proc counts each read(2), and libcurl's are recv(2)."""
    count = 300
    go = threading.Semaphore(0)

    def script(peer):
        peer.request()
        peer.send(HEADERS, chunk(event("0 ")))
        for n in range(1, count):
            go.acquire()
            peer.send(chunk(event(f"{n} ")))
        peer.send(chunk(TAIL), b"0\r\n\r\n")
        peer.request()

    d = behind(script, config=LIVE)
    with Raw(d) as c:
        c.request(body=STREAM)
        c.until(b'"0 "')
        before = reads_of(d)
        for n in range(1, count):
            go.release()
            c.until(b'"%d "' % n)
        taken = reads_of(d) - before
        assert count - 1 <= taken < 1.5 * count
        c.until(b"[DONE]")


ENDS = {  # what the peer does, and what the log then says; OpenSSL words the last differently in each release
    "close_notify": (Session.close_notify, "closed with 1 bytes of the response outstanding"),
    "no close_notify": (lambda peer: peer.sock.shutdown(socket.SHUT_WR), "TLS: unexpected eof while reading"),
    "reset": (Session.reset, "Connection reset by peer"),
    "garbage": (lambda peer: peer.send_ciphertext(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10), "TLS: "),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kept", [False, True], ids=["first", "kept"])
def test_an_end_within_a_response_is_retried(behind, end, kept):
    """However the connection ends, on its first request or on a later one, the next attempt is made on another."""
    act, detail = ENDS[end]
    whole = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    requests = iter([*("whole" for _ in range(kept)), "cut"])

    def script(peer):
        while True:
            peer.request()
            if next(requests, "whole") == "whole":
                peer.send(whole)
            else:
                peer.send(whole[:-1])
                act(peer)
                return

    d = behind(script)
    for n in range(1 + kept):
        response = ask(d, CHAT)
        assert (response.status, response.body) == (200, b"{}")
    assert len(d.peer.sessions) == 2
    assert detail in d.wait_log("attempt 1 of 5 failed")["detail"]


def test_the_failure_of_another_connection_does_no_harm(behind):
    """A handshake that fails leaves errors in OpenSSL's queue of the thread; a record that is half there is no failure."""
    go, silent = threading.Event(), threading.Event()
    handshakes = itertools.count()

    def script(peer):
        peer.request()
        peer.send(HEADERS, chunk(event("a ")))
        go.wait(20)
        ciphertext = peer.sealed(chunk(event("b ")), chunk(TAIL), b"0\r\n\r\n")
        peer.send_ciphertext(ciphertext[:40])
        silent.wait(20)
        peer.send_ciphertext(ciphertext[40:])
        peer.request()

    def only_the_first():
        return next(handshakes) == 0

    d = behind(script, only_the_first, timeout={"connect": "300ms"}, retry={"max_attempts": 1}, config=LIVE)
    with Raw(d) as c:
        c.request(body=STREAM)
        c.until(b'"a "')
        assert ask(d, CHAT).status == 504
        before = reads_of(d)
        go.set()
        while reads_of(d) == before:  # the daemon has seen the half of the record
            pass_time(0.01)
        silent.set()
        c.until(b"[DONE]")
    assert d.wait_log('msg="request".*status=200')["end"] == "answered"


@pytest.mark.parametrize("size", [300_000, 12_000_000])
def test_an_upload_that_the_peer_reads_late(behind, size):
    """OpenSSL wants the same bytes again after the socket was full; on the first request and on kept connections."""
    bodies = []
    begun, go = threading.Semaphore(0), threading.Semaphore(0)

    def script(peer):
        while True:
            _, body, left = peer.headers()
            begun.release()
            go.acquire()
            while left > 0:
                piece = peer.read()
                body, left = body + piece, left - len(piece)
            bodies.append(body)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")

    d = behind(script)
    sent = bytes(range(251)) * (size // 251)
    for _ in range(3):
        with Raw(d) as c:
            c.request("POST", "/v1/files", sent)
            begun.acquire()
            go.release()
            assert c.answer().body == b"{}"
    assert bodies == [sent] * 3
    assert len(d.peer.sessions) == 1

"""The clients of a soak run: a fixed number at a time, on one thread. Checks byte by byte what each one sends
and receives."""

import asyncio
import socket
import struct


class Answer:
    """What a client has: all bytes, and whether they are a whole response."""

    __slots__ = ("data", "whole", "ended", "status", "headers", "body")

    def __init__(self):
        self.data, self.whole, self.ended = b"", False, None
        self.status, self.headers, self.body = None, {}, b""


class Reader:
    """Finds the end of a response in the bytes that come."""

    def __init__(self, answer):
        self.answer = answer
        self.buffer, self.pieces, self.left = b"", [], None  # left: of the body; None: the head is not in
        self.chunked, self.done = False, False

    def feed(self, data):
        self.answer.data += data if len(self.answer.data) < 4096 else b""
        self.buffer += data
        if self.left is None and not self.head():
            return
        if self.chunked:
            self.chunks()
        elif self.left >= 0:
            self.take(min(self.left, len(self.buffer)))
            self.done = self.left == 0
        else:
            self.pieces.append(self.buffer)
            self.buffer = b""
        if self.done:
            self.finish()

    def take(self, n):
        self.pieces.append(self.buffer[:n])
        self.buffer = self.buffer[n:]
        self.left -= n

    def head(self):
        head, mark, rest = self.buffer.partition(b"\r\n\r\n")
        if not mark:
            return False
        lines = head.decode("latin-1").split("\r\n")
        self.answer.status = int(lines[0].split(" ", 2)[1])
        self.answer.headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:])}
        self.buffer = rest
        self.chunked = self.answer.headers.get("transfer-encoding", "").lower() == "chunked"
        self.left = 0 if self.chunked else int(self.answer.headers.get("content-length", -1))
        return True

    def chunks(self):
        while not self.done:
            line, mark, rest = self.buffer.partition(b"\r\n")
            if not mark:
                return
            n = int(line.split(b";")[0], 16)
            if len(rest) < n + 2:
                return
            assert rest[n:n + 2] == b"\r\n", rest[:200]
            self.pieces.append(rest[:n])
            self.buffer = rest[n + 2:]
            self.done = n == 0

    def closed(self):
        """The connection is at its end."""
        if not self.done and self.left is not None and self.left < 0 and not self.chunked:
            self.done = True
            self.finish()

    def finish(self):
        self.answer.whole = True
        self.answer.body = b"".join(self.pieces)


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self):
        self.transport, self.reader, self.future, self.lost = None, None, None, False
        self.first_byte_leaves = None
        self.strays = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if self.reader is None:
            self.strays += data
            return
        self.reader.feed(data)
        if self.first_byte_leaves:
            leave, self.first_byte_leaves = self.first_byte_leaves, None
            leave()
        elif self.reader.done:
            self.end("whole")

    def connection_lost(self, problem):
        self.lost = True
        if self.reader is not None:
            self.reader.closed()
        self.end("reset" if problem else "closed")

    def end(self, how):
        if self.future is not None and not self.future.done():
            self.future.set_result(how)

    def leave(self, how):
        if how == "reset" and not self.lost:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort() if how == "reset" else self.transport.close()
        self.end("left")

    async def ask(self, request, answer, loop):
        self.reader = Reader(answer)
        self.future = loop.create_future()
        if request.leaves == "amid":
            self.transport.write(request.payload[:len(request.payload) // 2])
            loop.call_later(0.005, self.leave, request.how)
        else:
            self.transport.write(request.payload)
        if request.leaves == "bytes":
            self.first_byte_leaves = lambda: self.leave(request.how)
        elif request.leaves == "half":
            self.transport.write_eof()
        elif isinstance(request.leaves, int):
            loop.call_later(request.leaves / 1000, self.leave, request.how)
        answer.ended = await asyncio.wait_for(self.future, 120)
        strays, self.reader = self.reader.buffer, None
        assert not (answer.whole and strays), f"bytes behind an answer: {strays[:200]!r}"


async def one_of_many(address, queue, answers, loop):
    client = None
    while queue:
        request = queue.pop()
        if client is None or client.lost:
            _, client = await loop.create_connection(Client, *address)
        answer = answers[request.n] = Answer()
        await client.ask(request, answer, loop)
        assert not client.strays, f"bytes before a request: {client.strays[:200]!r}"
        if not request.keeps or answer.ended != "whole" or client.lost or request.spec.version == "1.0" \
                or answer.headers.get("connection", "").lower() == "close":
            client.transport.close()
            client = None
    if client is not None:
        client.transport.close()


async def crowd(address, requests, clients):
    loop, answers = asyncio.get_running_loop(), {}
    queue = list(reversed(requests))
    await asyncio.gather(*(one_of_many(address, queue, answers, loop) for _ in range(clients)))
    return answers


def play(address, requests, clients):
    """{number: Answer} of all of them."""
    return asyncio.run(crowd(address, requests, clients))

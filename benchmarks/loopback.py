"""A fast archive on the loopback, in a process of its own: one thread, selectors, bodies kept in memory.

    python benchmarks/loopback.py FOLDER [--wait SECONDS] [--big MEGABYTES --head FILE]

Serves the files of FOLDER (and, with ``--big``, the content of ``--head`` filled up with zeros to that many megabytes as
``/big.fits``, never held in memory) and prints its port. ``--wait`` answers each request that much later, without holding up the others.
"""

import argparse
import heapq
import selectors
import socket
import time
from pathlib import Path

BLOCK = bytes(1 << 18)


class Connection:
    """One client: what it asked so far, and what is still to be sent to it."""

    def __init__(self, sock: socket.socket):
        self.sock, self.asked, self.pieces = sock, b"", []


def header(length: int, code: str = "200 OK") -> bytes:
    return f'HTTP/1.1 {code}\r\nContent-Type: image/fits\r\nContent-Length: {length}\r\nETag: "v1"\r\n\r\n'.encode()


def serve(folder: Path, wait_s: float, big: int, head: Path | None) -> None:
    """Answer until the process ends."""
    files = {f"/{p.name}".encode(): p.read_bytes() for p in folder.iterdir()}
    answers = {name: [header(len(body)), body] for name, body in files.items()}
    if big:
        start = head.read_bytes()
        rest = big - len(start)
        answers[b"/big.fits"] = [header(big), start, *[BLOCK] * (rest // len(BLOCK)), BLOCK[: rest % len(BLOCK)]]
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    later: list[tuple[float, int, Connection]] = []
    count = 0
    while True:
        for key, _ in selector.select(max(0.0, later[0][0] - time.monotonic()) if later else None):
            if key.data is None:
                sock, _ = listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(sock, selectors.EVENT_READ, Connection(sock))
                continue
            client = key.data
            if not client.pieces:
                received = receive(client.sock)
                if not received:
                    selector.unregister(client.sock)
                    client.sock.close()
                    continue
                client.asked += received
                if b"\r\n\r\n" not in client.asked:
                    continue
                method, path = client.asked.split(b" ", 2)[:2]
                client.asked = b""
                answer = answers.get(path, [header(0, "404 Not Found")])
                client.pieces = [memoryview(piece) for piece in (answer[:1] if method == b"HEAD" else answer)]
                if wait_s:
                    selector.unregister(client.sock)
                    count += 1
                    heapq.heappush(later, (time.monotonic() + wait_s, count, client))
                    continue
            push(selector, client)
        while later and later[0][0] <= time.monotonic():
            client = heapq.heappop(later)[2]
            selector.register(client.sock, selectors.EVENT_WRITE, client)


def receive(sock: socket.socket) -> bytes:
    """What a client says; nothing where it has gone."""
    try:
        return sock.recv(65536)
    except ConnectionResetError:
        return b""


def push(selector: selectors.BaseSelector, client: Connection) -> None:
    """Send what the socket takes; wait for it to take more, or for the next request."""
    try:
        while client.pieces:
            sent = client.sock.sendmsg(client.pieces[:8])
            while client.pieces and sent >= len(client.pieces[0]):
                sent -= len(client.pieces.pop(0))
            if sent:
                client.pieces[0] = client.pieces[0][sent:]
    except BlockingIOError:
        selector.modify(client.sock, selectors.EVENT_WRITE, client)
        return
    except OSError:
        selector.unregister(client.sock)
        client.sock.close()
        return
    selector.modify(client.sock, selectors.EVENT_READ, client)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--wait", type=float, default=0.0)
    parser.add_argument("--big", type=int, default=0)
    parser.add_argument("--head", type=Path)
    args = parser.parse_args()
    serve(args.folder, args.wait, args.big * 1_000_000, args.head)

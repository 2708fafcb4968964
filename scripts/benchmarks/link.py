#!/usr/bin/env python3
"""A long link: forwards connections late and no faster than a rate, both directions alike.

    link.py --delay 0.05 --rate 125e6 127.0.0.1:7440 127.0.0.1:7441

Prints `listening 127.0.0.1:PORT` for each address, in order. All connections share the rate of a direction. What is
on its way is bounded by rate times delay; of what a receiver does not take, as much again is kept. Beyond that
nothing more is read, and senders wait as they would for a full link.
"""

import argparse
import collections
import contextlib
import select
import socket
import time

PIECE_BYTES = 128 << 10
# What the link takes ahead of its rate, as the queue of a router does.
QUEUE_SECONDS = 0.01
# How long a receiver that takes nothing more is left alone.
LATE_SECONDS = 0.001


class Direction:
    """One direction of the link, with the connections that have something to send."""

    def __init__(self, delay, rate):
        self.delay, self.rate = delay, rate
        self.free_at = 0.0
        self.ready = select.epoll()
        self.lanes = {}
        self.turn = 0

    def opens_at(self):
        return self.free_at - QUEUE_SECONDS

    def take(self, now, size):
        """When what is sent now arrives."""
        self.free_at = max(self.free_at, now) + size / self.rate
        return self.free_at + self.delay

    def read(self, now):
        """Takes a piece of each connection that has one, each time beginning with another."""
        ready = self.ready.poll(0)
        self.turn += 1
        first = self.turn % max(len(ready), 1)
        for descriptor, _ in ready[first:] + ready[:first]:
            if self.opens_at() > now:
                break
            self.lanes[descriptor].read(now)


class Lane:
    """One direction of one connection."""

    def __init__(self, direction, near, far):
        self.direction, self.near, self.far = direction, near, far
        self.pieces = collections.deque()
        self.waiting = 0
        self.waiting_max = int(2 * direction.rate * direction.delay) + 2 * PIECE_BYTES
        self.is_read = False
        self.has_ended = False
        direction.lanes[near.fileno()] = self
        self.want(True)

    def want(self, more):
        if more != self.is_read:
            self.is_read = more
            if more:
                self.direction.ready.register(self.near, select.EPOLLIN)
            else:
                self.direction.ready.unregister(self.near)

    def read(self, now):
        try:
            piece = self.near.recv(PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self.has_ended = not piece
        self.waiting += len(piece)
        self.pieces.append((self.direction.take(now, len(piece)), memoryview(piece)))
        self.want(not self.has_ended and self.waiting < self.waiting_max)

    def write(self, now):
        """Passes on what is due. Returns when more is."""
        while self.pieces and self.pieces[0][0] <= now:
            due, piece = self.pieces.popleft()
            if not piece:
                with contextlib.suppress(OSError):
                    self.far.shutdown(socket.SHUT_WR)
                break
            try:
                sent = self.far.send(piece)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.end()
                break
            self.waiting -= sent
            if sent < len(piece):
                self.pieces.appendleft((max(due, now + LATE_SECONDS), piece[sent:]))
        self.want(not self.has_ended and self.waiting < self.waiting_max)
        return self.pieces[0][0] if self.pieces else float("inf")

    def end(self):
        """Its receiver has gone."""
        self.has_ended = True
        self.pieces.clear()
        with contextlib.suppress(OSError):
            self.near.shutdown(socket.SHUT_RD)

    def is_over(self):
        return self.has_ended and not self.pieces


class Link:
    """All connections through the link."""

    def __init__(self, delay, rate, addresses):
        self.directions = [Direction(delay, rate), Direction(delay, rate)]
        self.pairs = []
        self.listeners = {}
        for address in addresses:
            host, port = address.removeprefix("tcp://").rsplit(":", 1)
            listener = socket.create_server(("127.0.0.1", 0), backlog=64)
            self.listeners[listener.fileno()] = listener, (host, int(port))
            print(f"listening 127.0.0.1:{listener.getsockname()[1]}", flush=True)

    def accept(self, listener, to):
        near, _ = listener.accept()
        try:
            far = socket.create_connection(to)
        except OSError:
            return near.close()
        for end in (near, far):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there, back = self.directions
        self.pairs.append((Lane(there, near, far), Lane(back, far, near)))

    def run(self):
        while True:
            now = time.monotonic()
            due = [lane.write(now) for pair in self.pairs for lane in pair]
            self.forget_ended()
            open_now = [direction for direction in self.directions if direction.opens_at() <= now]
            due += [direction.opens_at() for direction in self.directions if direction not in open_now]
            timeout = max(min(due, default=float("inf")) - time.monotonic(), 0)
            wait_for = [*self.listeners, *(direction.ready for direction in open_now)]
            ready, _, _ = select.select(wait_for, [], [], None if timeout == float("inf") else timeout)
            for one in ready:
                if isinstance(one, int):
                    self.accept(*self.listeners[one])
                else:
                    next(direction for direction in open_now if direction.ready is one).read(time.monotonic())

    def forget_ended(self):
        for pair in [pair for pair in self.pairs if all(lane.is_over() for lane in pair)]:
            self.pairs.remove(pair)
            for lane in pair:
                lane.want(False)
                del lane.direction.lanes[lane.near.fileno()]
            for lane in pair:
                lane.near.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay", type=float, default=0.05, help="seconds in each direction (0.05)")
    parser.add_argument("--rate", type=float, default=125e6, help="bytes a second in each direction (125e6)")
    parser.add_argument("addresses", nargs="+", metavar="ADDR", help="where connections go")
    args = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        Link(args.delay, args.rate, args.addresses).run()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""A peer of osync in another language, after proto/PROTOCOL.md.

    peer.py report   --command tcp://127.0.0.1:7440
    peer.py register --command tcp://127.0.0.1:7440 --data tcp://127.0.0.1:7441
    peer.py selftest proto/golden/v1

`report` prints the queue report as JSON. `register` goes through the handshake as a sink would, up to
the point where both channels are proven, and leaves. `selftest` compares what this program reads and
writes with the golden bytes, without a network.

Needs pyzmq and msgpack. Exit codes: 0 done, 1 the peer said no or something unexpected, 2 the
arguments are wrong, 3 a deadline passed.
"""

import argparse
import json
import pathlib
import secrets
import sys
import time

import msgpack

VERSION = 1
DEADLINE_S = 10.0
SYNCHRONISATIONS = 3

# Type codes of data messages; proto/PROTOCOL.md has them all.
TO_SOURCE_ANNOUNCE, TO_SOURCE_PONG = 0, 1
TO_SINK_SYNCHRONISATION, TO_SINK_PING = 0, 1


class Failure(Exception):
    """The peer refused, or said what makes no sense here."""


class DeadlinePassed(Exception):
    """What was waited for did not come."""


# Messages and their bytes.


def request_report_queue(request_id):
    return {"type": "Request", "id": request_id, "request": {"command": "report-queue"}}


def registration_request(sink_id, instance, nonces):
    return {
        "type": "RegistrationRequest",
        "version": VERSION,
        "sink_id": sink_id,
        "instance": instance,
        "nonces": nonces,
        "capabilities": [],
        "resume": None,
    }


def pack(message):
    return msgpack.packb(message, use_bin_type=True)


def unpack(frame):
    return msgpack.unpackb(frame, raw=False)


def printable(value):
    """The value with bytes, which are paths, as text that JSON can hold."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {key: printable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [printable(inner) for inner in value]
    return value


# Connections.


class Connection:
    """A DEALER, with the heartbeats of ZeroMQ, which osync answers."""

    def __init__(self, context, address):
        import zmq

        self.address = address
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 1000)
        self.socket.setsockopt(zmq.HEARTBEAT_IVL, 50)
        self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 5000)
        self.socket.connect(address)

    def send(self, message):
        self.socket.send(pack(message))

    def receive(self, until, what):
        """The header or control message of the next packet."""
        left_ms = max(0, int((until - time.monotonic()) * 1000))
        if not self.socket.poll(left_ms):
            raise DeadlinePassed(f"no {what} from {self.address} within {DEADLINE_S:.0f} s")
        return unpack(self.socket.recv_multipart()[0])

    def close(self):
        self.socket.close()


def receive_command(command, until, wanted):
    """The next control message of type `wanted`; pings in between are answered."""
    while True:
        message = command.receive(until, wanted)
        if message["type"] == wanted:
            return message
        if message["type"] == "Ping":
            command.send({"type": "Pong", "token": message["token"]})
        elif message["type"] == "Error":
            raise Failure(f"{command.address} answered {message['code']}: {message['message']}")
        else:
            raise Failure(f"{command.address} sent {message['type']} instead of {wanted}")


def see_synchronisations(data, nonce, until):
    """Waits until the source has proven this data connection several times."""
    seen = 0
    while seen < SYNCHRONISATIONS:
        message = data.receive(until, "Synchronisation")
        if message == [TO_SINK_SYNCHRONISATION, nonce]:
            seen += 1
        elif message[0] == TO_SINK_PING:
            data.send([TO_SOURCE_PONG, message[1]])
        else:
            raise Failure(f"{data.address} sent {message} instead of a Synchronisation")
    return seen


# What can be asked for.


def report(context, arguments):
    command = Connection(context, arguments.command)
    try:
        request_id = secrets.randbits(64)
        command.send(request_report_queue(request_id))
        message = receive_command(command, time.monotonic() + DEADLINE_S, "Reply")
        reply = message["reply"]
        if message["id"] != request_id:
            raise Failure("the reply belongs to another request")
        if reply["reply"] == "refused":
            raise Failure(f"refused, {reply['code']}: {reply['message']}")
        if reply["reply"] != "queue":
            raise Failure(f"the reply is {reply['reply']} instead of the queue report")
        print(json.dumps(printable(reply), indent=2))
    finally:
        command.close()


def register(context, arguments):
    command = Connection(context, arguments.command)
    data = Connection(context, arguments.data)
    try:
        until = time.monotonic() + DEADLINE_S
        nonce = secrets.randbits(64)
        data.send([TO_SOURCE_ANNOUNCE, nonce])
        sink_id = "peer.py-" + secrets.token_hex(8)
        command.send(registration_request(sink_id, secrets.randbits(64), [nonce]))
        answer = receive_command(command, until, "RegistrationRequestAcknowledgement")
        seen = see_synchronisations(data, nonce, until)
        print(f"{sink_id} is in session {answer['epoch']:016x} of {answer['source_id']}")
        print(f"{seen} Synchronisation messages came on {data.address}")
    finally:
        command.close()
        data.close()


# Without a network.


def golden(directory, name):
    """The frames of a golden file: one line of hexadecimal digits each."""
    text = (pathlib.Path(directory) / f"{name}.hex").read_text(encoding="ascii")
    return [bytes.fromhex(line) for line in text.splitlines()]


def expect(holds, what):
    if not holds:
        raise Failure(f"selftest: {what}")


def selftest(arguments):
    written = {
        "command-request-report-queue": request_report_queue(5),
        "command-registration-request-first": registration_request("sink-1", 42, [7, 2**64 - 1]),
        "command-pong": {"type": "Pong", "token": 9},
        "to-source-announce": [TO_SOURCE_ANNOUNCE, 7],
        "to-source-pong": [TO_SOURCE_PONG, 9],
    }
    for name, message in written.items():
        frames = golden(arguments.directory, name)
        expect([pack(message)] == frames, f"{name}: {message} gives other bytes")

    def read(name):
        frames = golden(arguments.directory, name)
        expect(len(frames) == 1, f"{name} has {len(frames)} frames")
        return unpack(frames[0])

    expect(read("to-sink-synchronisation") == [TO_SINK_SYNCHRONISATION, 7], "Synchronisation")
    expect(read("to-sink-ping") == [TO_SINK_PING, 9], "Ping on data")
    expect(read("command-ping") == {"type": "Ping", "token": 9}, "Ping on command")
    answer = read("command-registration-request-acknowledgement")
    expect(answer["type"] == "RegistrationRequestAcknowledgement", "type of the acknowledgement")
    expect(answer["epoch"] == 0x0123456789ABCDEF, "epoch of the acknowledgement")
    refused = read("command-error-version")
    expect((refused["type"], refused["code"]) == ("Error", "Version"), "Error")
    reply = read("command-reply-queue")
    expect((reply["type"], reply["id"]) == ("Reply", 5), "Reply")
    queue = reply["reply"]
    expect(queue["reply"] == "queue", "kind of reply")
    expect(queue["sinks"][0]["live"]["waiting_entries"] == 4, "entries waiting")
    expect(queue["sinks"][0]["hottest"][0]["path"] == b"var/log/syslog", "paths are bytes")
    json.dumps(printable(queue))
    print(f"the bytes of {arguments.directory} are understood")


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = parser.add_subparsers(dest="mode", required=True)
    for mode in ("report", "register"):
        sub = modes.add_parser(mode)
        sub.add_argument("--command", required=True, metavar="ADDR")
        if mode == "register":
            sub.add_argument("--data", required=True, metavar="ADDR")
    modes.add_parser("selftest").add_argument("directory", metavar="GOLDEN_DIR")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    try:
        if arguments.mode == "selftest":
            selftest(arguments)
            return 0
        import zmq

        with zmq.Context() as context:
            {"report": report, "register": register}[arguments.mode](context, arguments)
        return 0
    except DeadlinePassed as error:
        print(f"peer.py: {error}", file=sys.stderr)
        return 3
    except (Failure, OSError) as error:
        print(f"peer.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

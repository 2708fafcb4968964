"""Rows over a long link, and through ssh."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time

from benchmarks import trees
from benchmarks.copies import FILE_OVERHEAD_BYTES, Copy, Usr, warm_up_memory
from benchmarks.harness import fail
from benchmarks.programs import PROMPT_SECONDS, Daemon, Osync, must_be_equal, wait_until

ROUND_TRIP_SECONDS = 0.1
BYTES_A_SECOND = 125_000_000
LINK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "link.py")


class Link(Daemon):
    """A long link to addresses of this host. `addresses` are its near ends."""

    def __init__(self, place, *to, rate=BYTES_A_SECOND):
        delay = ["--delay", str(ROUND_TRIP_SECONDS / 2), "--rate", str(rate)]
        super().__init__([sys.executable, LINK, *delay, *to], os.path.join(place, "log-link"))
        wait_until("the link", lambda: len(self.lines()) == len(to), PROMPT_SECONDS)
        self.addresses = [line.split()[1] for line in self.lines()]

    def lines(self):
        with open(self.log, errors="replace") as output:
            return [line for line in output if line.startswith("listening ")]


class Sshd:
    """A private server on loopback that lets in whoever runs this: own keys, own configuration."""

    def __init__(self, place):
        self.dir = os.path.join(place, "ssh")
        os.mkdir(self.dir)
        for key in ("host_key", "user_key"):
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.path(key)]
            subprocess.run(keygen, check=True)
        shutil.copy(self.path("user_key.pub"), self.path("authorized_keys"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        with open(self.path("config"), "w") as config:
            config.write(
                f"ListenAddress {self.address}\nHostKey {self.path('host_key')}\n"
                f"AuthorizedKeysFile {self.path('authorized_keys')}\nPidFile none\nStrictModes no\nUsePAM no\n"
                "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
            )
        if os.geteuid() == 0:
            # It refuses to run without; where no init system does, nothing makes it at boot.
            os.makedirs("/run/sshd", exist_ok=True)
        server = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        if not server:
            fail("sshd is missing: apt-get install openssh-server")
        self.server = Daemon([server, "-D", "-e", "-f", self.path("config")], os.path.join(place, "log-sshd"))
        wait_until("sshd", lambda: self.listens(self.address), PROMPT_SECONDS)

    def path(self, name):
        return os.path.join(self.dir, name)

    def listens(self, address):
        with contextlib.suppress(OSError):
            host, port = address.rsplit(":", 1)
            socket.create_connection((host, int(port))).close()
            return True
        return False

    def command(self, address, *options):
        """What runs ssh to an address that leads to the server."""
        user = pwd.getpwuid(os.geteuid()).pw_name
        host, port = address.rsplit(":", 1)
        told = ("BatchMode=yes", "ExitOnForwardFailure=yes", "IdentitiesOnly=yes", "Compression=no",
                "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null")
        return ["ssh", "-F", "none", "-q", "-p", port, "-i", self.path("user_key"),
                *(part for option in told for part in ("-o", option)), *options, f"{user}@{host}"]

    def forward(self, place, address, *to):
        """A tunnel to addresses behind the server. Returns it and its near ends."""
        near = []
        for _ in to:
            with socket.create_server(("127.0.0.1", 0)) as free:
                near.append(f"127.0.0.1:{free.getsockname()[1]}")
        forwards = [part for ends in zip(near, to) for part in ("-L", ":".join(ends))]
        tunnel = Daemon(self.command(address, "-N", *forwards), os.path.join(place, "log-tunnel"))
        wait_until("the tunnel", lambda: all(is_listened_at(end) for end in near), PROMPT_SECONDS)
        return tunnel, near

    def stop(self):
        self.server.stop()


def is_listened_at(address):
    """As the kernel has it: whoever connects is heard at the far end."""
    wanted = f"0100007F:{int(address.rsplit(':', 1)[1]):04X}"
    with open("/proc/net/tcp") as sockets:
        fields = [line.split() for line in sockets]
    return any(field[1] == wanted and field[3] == "0A" for field in fields)


def bare(address):
    return address.removeprefix("tcp://")


def sent_by(near, far, pack, unpack):
    """Seconds in which one command sends into a connection all that another takes out of it."""
    start = time.monotonic()
    sender = subprocess.Popen(pack, stdout=near)
    receiver = subprocess.Popen(unpack, stdin=far)
    # The processes alone hold the connection now, so that its end is told.
    near.close()
    far.close()
    if sender.wait() or receiver.wait():
        fail(f"{pack[0]} failed")
    return time.monotonic() - start


class Far(Copy):
    """A fresh copy over a long link, by osync with so many data connections as its name says."""

    tools = ("osync 8", "osync 1", "tar")
    anchors = ("tar",)

    def settings(self, tool):
        return ["--set", f"data_connections={tool.split()[1]}"]

    def peer(self, _tool):
        return self.tar()

    def measure(self, tool):
        self.clear()
        warm_up_memory(self.place, self.bytes_needed)
        os.mkdir(self.target)
        if not tool.startswith("osync"):
            return self.peer(tool), {}
        start = time.monotonic()
        pair = Osync(self, self.source, self.target, self.state, self.settings(tool))
        seconds = time.monotonic() - start
        # The way is there before tar is measured, too.
        with self.way(bare(pair.command), bare(pair.data)) as (command, data):
            start = time.monotonic()
            pair.start_sink(command, data)
            pair.wait_until_equal()
            seconds += time.monotonic() - start
            more = {"source_cpu_s": pair.source.cpu_seconds(), "sink_cpu_s": pair.sink.cpu_seconds()}
            pair.stop()
        if tool not in self.checked:
            must_be_equal(self.source, self.target, "--checksum")
            self.checked.add(tool)
        return seconds, more


class LongLink(Far):
    rate = BYTES_A_SECOND
    name = "long-link"
    title = "a fresh copy over a link of 100 ms round trip and 1 Gbit/s"

    def prepare(self):
        files = self.options.size(100_000)
        content = trees.small_files(self.source, files, max(files // 100, 1))
        self.need(content + files * FILE_OVERHEAD_BYTES)
        return f"{files} files of {content / 1e6:.0f} MB in {max(files // 100, 1)} directories"

    @contextlib.contextmanager
    def way(self, *to):
        link = Link(self.place, *to, rate=self.rate)
        yield link.addresses
        link.stop()

    def tar(self):
        with contextlib.ExitStack() as ends:
            listener = ends.enter_context(socket.create_server(("127.0.0.1", 0)))
            link = Link(self.place, f"127.0.0.1:{listener.getsockname()[1]}", rate=self.rate)
            host, port = link.addresses[0].rsplit(":", 1)
            near = ends.enter_context(socket.create_connection((host, int(port))))
            far = ends.enter_context(listener.accept()[0])
            pack = ["tar", "-C", self.source, "-cf", "-", "."]
            seconds = sent_by(near, far, pack, ["tar", "-C", self.target, "-xf", "-"])
        link.stop()
        return seconds


class LongLinkLarge(LongLink):
    name = "long-link-large"
    title = "a fresh copy of one large file over a link of 100 ms round trip and 1 Gbit/s"

    def prepare(self):
        return self.large_file(1 << 30)


class SlowLink(LongLink):
    rate = 10_000_000
    name = "slow-link"
    title = "a fresh copy over a link of 100 ms round trip and 80 Mbit/s"
    tools = ("osync 1", "osync 1 uncompressed", "tar")

    def prepare(self):
        files = self.options.size(10_000)
        content = trees.mixed_files(self.source, files, max(files // 100, 1))
        self.need(content + files * FILE_OVERHEAD_BYTES)
        return f"{files} files of {content / 1e6:.0f} MB, half of them text, half that do not compress"

    def settings(self, tool):
        how = "off" if tool.endswith("uncompressed") else "auto"
        return [*super().settings(tool), "--set", f"compression={how}"]


class Ssh(Far):
    name = "ssh"
    title = "a fresh copy through ssh over a link of 100 ms round trip and 1 Gbit/s"
    tools = ("osync 16", "osync 8", "osync 1", "tar|ssh|tar")
    anchors = ("tar|ssh|tar",)

    def prepare(self):
        about = LongLink.prepare(self)
        self.sshd = Sshd(self.place)
        self.link = Link(self.place, self.sshd.address)
        self.near = self.link.addresses[0]
        return about

    @contextlib.contextmanager
    def way(self, *to):
        tunnel, near = self.sshd.forward(self.place, self.near, *to)
        yield near
        tunnel.stop()

    def tar(self):
        start = time.monotonic()
        far = self.sshd.command(self.near)
        pipe = 'set -o pipefail; tar -C "$1" -cf - . | "${@:3}" "tar -C $2 -xf -"'
        subprocess.run(["bash", "-c", pipe, "tar", self.source, self.target, *far], check=True)
        return time.monotonic() - start

    def finish(self):
        self.link.stop()
        self.sshd.stop()


class UsrSsh(Ssh):
    name = "usr-ssh"
    title = "a fresh copy of a real tree through one ssh hop on this host"
    tools = ("osync 4", "osync 4 uncompressed", "osync 4 compressed", "tar|ssh|tar")

    def tree(self):
        return Usr.prepare(self)

    def prepare(self):
        about = self.tree()
        self.sshd = Sshd(self.place)
        self.near = self.sshd.address
        return about

    def settings(self, tool):
        how = {"uncompressed": "off", "compressed": "1"}.get(tool.split()[-1], "auto")
        return [*super().settings(tool), "--set", f"compression={how}"]

    def finish(self):
        self.sshd.stop()


class LargeSsh(UsrSsh):
    name = "large-ssh"
    title = "a fresh copy of one large file through one ssh hop on this host"
    # The last is the floor: what nobody who goes through a forwarded port can spare.
    tools = ("osync 4", "osync 1", "tar|ssh|tar", "cat")

    def tree(self):
        return self.large_file(2 << 30)

    def peer(self, tool):
        return self.cat() if tool == "cat" else self.tar()

    def cat(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            tunnel, near = self.sshd.forward(self.place, self.near, f"127.0.0.1:{listener.getsockname()[1]}")
            host, port = near[0].rsplit(":", 1)
            near = socket.create_connection((host, int(port)))
            far, _ = listener.accept()
            target = os.path.join(self.target, "large")
            pack = ["cat", os.path.join(self.source, "large")]
            seconds = sent_by(near, far, pack, ["dd", f"of={target}", "bs=256K", "status=none"])
        tunnel.stop()
        return seconds


ROWS = (LongLink, LongLinkLarge, SlowLink, Ssh, UsrSsh, LargeSsh)

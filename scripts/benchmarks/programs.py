"""The programs that are measured: how they are started, waited for and looked into."""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import threading
import time

from benchmarks.harness import fail

# A run that takes longer hangs.
RUN_SECONDS_MAX = 3600
# How long a daemon may take to start or to end.
PROMPT_SECONDS = 60


def timed(command, log, environment=None):
    """Runs a command to its end. Returns seconds, and what it and its children used."""
    with open(log, "wb") as output:
        start = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        watchdog = threading.Timer(RUN_SECONDS_MAX, process.kill)
        watchdog.start()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        watchdog.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        with open(log, errors="replace") as output:
            fail(f"{' '.join(command)} ended with {process.returncode}:\n{output.read()[-2000:]}")
    return seconds, {"cpu_s": round(used.ru_utime + used.ru_stime, 3)}


def piped_costs(*commands):
    """Seconds of processor time of each of the commands, the output of one being the input of the next."""
    processes, given = [], subprocess.DEVNULL
    for command in commands:
        taken = subprocess.PIPE if command is not commands[-1] else None
        process = subprocess.Popen(command, stdin=given, stdout=taken)
        if processes:
            given.close()
        processes.append(process)
        given = process.stdout
    costs = []
    for process in processes:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            fail(f"{' '.join(process.args)} ended with {process.returncode}")
        costs.append(used.ru_utime + used.ru_stime)
    return costs


def wait_until(what, condition, limit=RUN_SECONDS_MAX, pause=0.02):
    """Returns as soon as the condition holds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            fail(f"waited {limit} s for {what}")
        time.sleep(pause)


# All that rsync can compare but content.
EVERYTHING = ("-aHAXSn", "--modify-window=-1")
# What lsyncd can be held to: it leaves times of directories and links as they come.
NAMES_AND_SIZES = ("-rln", "--size-only")


def difference(source, target, *how):
    """What rsync would still do, at most some lines of it."""
    judge = ["rsync", *how, "--delete", "-i", source + "/", target + "/"]
    result = subprocess.run(judge, capture_output=True, check=False)
    return (result.stdout + result.stderr).decode(errors="replace").splitlines()[:20]


def must_be_equal(source, target, *more):
    """A fast copy that is wrong is no result."""
    if lines := difference(source, target, *EVERYTHING, *more):
        fail("the target differs from the source:\n" + "\n".join(lines))


def peak_memory(command, log):
    """MiB of the largest of a command's processes, looked at again and again until it ends."""
    daemon = Daemon(command, log)
    peak = 0
    while daemon.process.poll() is None:
        for pid in processes_of(daemon.process.pid):
            with contextlib.suppress(OSError):
                peak = max(peak, status(pid, "VmHWM"))
        time.sleep(0.05)
    if daemon.process.returncode:
        daemon.fail("failed")
    return peak / 1024


def processes_of(session):
    """The processes of a session."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.getsid(int(pid)) == session:
                yield int(pid)


def status(pid, key):
    """A figure of /proc/PID/status, in KiB."""
    with open(f"/proc/{pid}/status") as lines:
        for line in lines:
            if line.startswith(key + ":"):
                return int(line.split()[1])
    return 0


class Daemon:
    """A process in the background, which does not outlive this one."""

    def __init__(self, command, log, environment=None):
        self.log = log
        atexit.register(self.stop)
        with open(log, "wb") as output:
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                                            stderr=output, start_new_session=True)

    def printed(self, key):
        """The rest of the first line that begins with this word, once it is there."""
        found = []

        def look():
            if self.process.poll() is not None:
                self.fail("ended")
            with open(self.log, errors="replace") as output:
                found[:] = [line.split()[1] for line in output if line.startswith(key + " ")]
            return bool(found)

        wait_until(f"the line {key}", look, PROMPT_SECONDS)
        return found[0]

    def fail(self, what):
        with open(self.log, errors="replace") as output:
            fail(f"{self.process.args[0]} {what}:\n{output.read()[-2000:]}")

    def peak_mib(self):
        """Peak resident memory so far."""
        return status(self.process.pid, "VmHWM") / 1024

    def cpu_seconds(self):
        """Processor time so far."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        atexit.unregister(self.stop)
        if self.process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(PROMPT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Osync:
    """A source and a sink of osync."""

    def __init__(self, row, source, target, state, more=()):
        self.program = row.options.osync
        self.row, self.source_dir, self.target_dir = row, source, target
        self.environment = dict(os.environ, OSYNC_STATE_DIR=state)
        self.more = list(more)
        self.sink = None
        self.source = self.start("source", source, "127.0.0.1:0", "127.0.0.1:0")
        self.command = self.source.printed("command")
        self.data = self.source.printed("data")

    def start(self, role, root, command, data):
        addresses = ["--command", f"tcp://{command}".replace("tcp://tcp", "tcp"),
                     "--data", f"tcp://{data}".replace("tcp://tcp", "tcp")]
        log = os.path.join(self.row.place, f"log-{role}")
        return Daemon([self.program, role, root, *addresses, *self.more], log, self.environment)

    def start_sink(self, command=None, data=None):
        self.sink = self.start("sink", self.target_dir, command or self.command, data or self.data)
        return self.sink

    def ask(self, *request):
        """The answer of an operator's command."""
        command = [self.program, *request, "--command", self.command, "--json"]
        result = subprocess.run(command, env=self.environment, capture_output=True, check=False)
        if result.returncode:
            return {}
        return json.loads(result.stdout)

    def flush(self):
        """Waits until everything so far is durable on the sink."""
        command = [self.program, "flush", "--timeout", f"{RUN_SECONDS_MAX}s", "--command", self.command]
        result = subprocess.run(command, env=self.environment, capture_output=True, check=False)
        if result.returncode:
            fail(f"osync flush ended with {result.returncode}: {result.stderr.decode(errors='replace')}")

    def wait_for_phase(self, phase):
        def reached():
            sinks = self.ask("status").get("sinks", [])
            return bool(sinks) and sinks[0]["phase"] == phase

        wait_until(f"the phase {phase}", reached)

    def wait_until_equal(self):
        self.wait_for_phase("transfer")
        self.flush()

    def stop(self):
        for daemon in (self.sink, self.source):
            if daemon:
                daemon.stop()


class Lsyncd:
    """lsyncd, told to wait for nothing; `direct` without rsync for single files."""

    def __init__(self, row, source, target, how):
        config = os.path.join(row.place, "lsyncd.lua")
        with open(config, "w") as file:
            file.write(f'settings {{ nodaemon = true, inotifyMode = "CloseWrite or Modify" }}\n'
                       f'sync {{ default.{how}, source = "{source}", target = "{target}", delay = 0 }}\n')
        self.daemon = Daemon(["lsyncd", "-nodaemon", config], os.path.join(row.place, "log-lsyncd"))

    def stop(self):
        self.daemon.stop()

"""The part of a supervisor such as systemd: listening sockets that outlast each gateway, and a socket for its messages."""

import fcntl
import os
import socket
import subprocess
import sys
import threading
import time

from lib.rig import Rig

# Connections that may wait while no gateway runs.
BACKLOG = 1024
# Descriptors that are handed on begin with this one; those of this process are far above it while they are moved.
FIRST, HIGH = 3, 100
# Puts the descriptors where they belong, and says for which process they are, which only that process knows.
MOVE = """
import os, sys
count = int(os.environ["LISTEN_FDS"])
for position in range(count):
    os.dup2(int(sys.argv[1 + position]), %d + position)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[1 + count], sys.argv[1 + count:])
""" % FIRST


class InheritingRig(Rig):
    """A rig whose gateways inherit their listening sockets, named as systemd names them."""

    def __init__(self, *arguments, names=("client", "operator"), **named):
        super().__init__(*arguments, **named)
        self.environment["LISTEN_FDNAMES"] = ":".join(names)
        self.listeners = [self.listen(port) for port in (self.port, self.operator_port)]

    @staticmethod
    def listen(port):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(BACKLOG)
        return listener

    def launch(self, through=()):
        numbers = [fcntl.fcntl(listener, fcntl.F_DUPFD, HIGH) for listener in self.listeners]
        command = [sys.executable, "-c", MOVE, *map(str, numbers), *map(str, through), str(self.binary), "serve"]
        environment = self.environment | {"LISTEN_FDS": str(len(numbers))}
        self.gateway = subprocess.Popen(command, env=environment, pass_fds=numbers, stdout=self.output, stderr=self.output)
        for number in numbers:
            os.close(number)

    def close(self, keep):
        super().close(keep)
        for listener in self.listeners:
            listener.close()


class NotifySocket:
    """Receives the messages of a process, with the time of each. `name` is what NOTIFY_SOCKET says: a path, or @ and a name."""

    def __init__(self, name):
        self.name, self.messages = str(name), []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + self.name[1:] if self.name.startswith("@") else self.name)
        self.thread = threading.Thread(target=self.receive, daemon=True)
        self.thread.start()

    def receive(self):
        while True:
            try:
                message = self.socket.recv(65536)
            except OSError:
                return
            self.messages.append((time.monotonic(), message.decode()))

    def wait_for(self, text, after=0, seconds=30):
        """Waits for a message with this text behind the first `after`; returns its time and its number, or None."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for number, (at, message) in enumerate(self.messages[after:], after + 1):
                if text in message:
                    return at, number, message
            time.sleep(0.01)
        return None

    def times_of(self, text):
        return [at for at, message in self.messages if text in message]

    def close(self):
        self.socket.close()

"""Clients that want pictures and retry, as an SDK does, until they have a final answer."""

import base64
import hashlib
import http.client
import json
import random
import threading
import time
from dataclasses import dataclass, field

from lib.pictures import png, png_texts
from lib.rig import UNKNOWN, call

@dataclass
class Answer:
    status: int
    code: str
    should_retry: str
    predictions: list
    # `prompt-blake3` of each picture, as the simulator wrote it into them.
    pictures: list
    missing: int
    problem: str
    at_ms: int
    # SHA-256 of each picture.
    digests: list = field(default_factory=list)
    # Whether it names the code of an unknown outcome, as an error or beside the pictures.
    reports_unknown: bool = False


@dataclass
class Operation:
    """One edit that a client wants, with all its attempts."""
    worker: str
    prompt: str
    began_ms: int
    # The pictures that are asked for; None: as many as the rig's fields say.
    pictures: int = None
    # The idempotency key of all its attempts.
    key: str = None
    # The address of its job, where the client was given one, and the ids of all jobs that it was given.
    address: str = None
    jobs: set = field(default_factory=set)
    answers: list = field(default_factory=list)
    # Attempts that ended without an answer.
    broken: int = 0
    final: Answer = None
    # The client does not retry any more.
    given_up: bool = False
    # Answers to the same request, sent again after the final answer.
    repeats: list = field(default_factory=list)


class Client:
    """Carries out one operation after the other."""

    # How many of its newest operations a client repeats.
    repeated_max = 20

    def __init__(self, rig, number, seed):
        self.rig = rig
        self.name = f"w{number}"
        self.random = random.Random(f"{seed}/{number}")
        self.picture = png(f"{seed}/{number}")
        self.operations = []
        self.current = None
        self.count = 0

    def request(self, prompt, retries, timeout=60):
        """Sends one request, as the SDK of Python does."""
        return parse_answer(*self.post(self.form(prompt), {}, retries, timeout))

    def form(self, prompt, more_fields=()):
        """Returns the body of an edit and its content type."""
        boundary = f"b{self.random.getrandbits(64):016x}"
        fields = self.rig.fields | {"prompt": prompt} | dict(more_fields)
        body = b"".join(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
                        for name, value in fields.items())
        body += (f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
                 "Content-Type: image/png\r\n\r\n").encode() + self.picture + f"\r\n--{boundary}--\r\n".encode()
        return body, f"multipart/form-data; boundary={boundary}"

    def post(self, typed_body, headers, retries, timeout=60):
        body, content_type = typed_body
        headers = headers | {"Content-Type": content_type}
        if retries is not None:
            headers["x-stainless-retry-count"] = str(retries)
        return self.send("POST", "/v1/images/edits", body, headers, timeout)

    def send(self, method, path, body=None, headers=None, timeout=60):
        """Sends a request with this client's key; returns status, headers and body."""
        authorized = {"Authorization": f"Bearer {self.rig.keys[int(self.name[1:])]}"} | (headers or {})
        return call(self.rig.port, method, path, body, authorized, timeout)

    def ask(self, operation, retries):
        """Makes one attempt at an operation; returns its answer."""
        return self.request(operation.prompt, retries)

    def new_operation(self):
        self.count += 1
        nonce = f"kill loop {self.name} {self.count} {self.random.getrandbits(64):016x}"
        operation = Operation(self.name, nonce, time.time_ns() // 1_000_000)
        self.operations.append(operation)
        return operation

    def run(self, deadline):
        """Wants another picture, and retries until there is a final answer or the deadline has passed."""
        operation = self.new_operation()
        self.complete(operation, deadline)
        return operation

    def complete(self, operation, deadline):
        self.current = operation
        # Half of the clients are SDKs, which count their retries; the others are loops around curl.
        counts = self.random.random() < 0.5
        tries = 0
        while time.monotonic() < deadline:
            try:
                answer = self.ask(operation, tries if counts else None)
            except (OSError, http.client.HTTPException):
                operation.broken += 1
                tries += 1
                self.pause_after_break()
                continue
            operation.answers.append(answer)
            if is_final(answer):
                operation.final = answer
                break
            tries += 1
            time.sleep(self.random.uniform(0.01, 0.1))
        self.current = None

    def pause_after_break(self):
        time.sleep(self.random.uniform(0.005, 0.04))

    def to_repeat(self):
        """Returns an operation whose answer must not change any more, or None. A repeat may buy pictures that are missing and were
        not bought."""
        ended = [one for one in self.operations[-self.repeated_max:] if one.final
                 and (one.final.code == UNKNOWN or one.final.status == 200 and (not one.final.missing or one.final.reports_unknown))]
        return self.random.choice(ended) if ended else None

    def repeat(self, operation):
        """Sends the same request once more, after its final answer."""
        try:
            operation.repeats.append(self.ask(operation, self.random.choice([None, 1])))
        except (OSError, http.client.HTTPException):
            operation.broken += 1


def parse_answer(status, headers, data):
    predictions = [name.strip() for name in headers.get("x-gateway-upstream-id", "").split(",") if name.strip()]
    missing = int(headers.get("x-gateway-missing", "0"))
    answer = Answer(status, "", headers.get("x-should-retry", ""), predictions, [], missing, "", time.time_ns() // 1_000_000,
                    reports_unknown=UNKNOWN.encode() in data)
    try:
        body = json.loads(data)
        if status == 200:
            for item in body["data"]:
                note_picture(answer, base64.b64decode(item["b64_json"]))
        else:
            answer.code = body["error"]["code"] or ""
    except (ValueError, KeyError, IndexError, TypeError) as error:
        answer.problem = f"unreadable answer: {error}"
    return answer


def note_picture(answer, picture):
    """Adds a picture to an answer; raises ValueError when it is not whole."""
    answer.pictures.append(png_texts(picture).get("prompt-blake3", ""))
    answer.digests.append(hashlib.sha256(picture).hexdigest())


def is_final(answer):
    """Returns whether an SDK of OpenAI's would not retry after this answer."""
    if answer.should_retry in ("true", "false"):
        return answer.should_retry == "false"
    return not (answer.status in (408, 409, 429) or answer.status >= 500)


class ClientThreads:
    """Clients in threads of their own, which begin one operation after the other until `finish`."""

    def __init__(self, clients, repeat_share):
        self.clients = clients
        self.stopping = threading.Event()
        self.deadline = float("inf")
        self.repeat_share = repeat_share
        self.threads = [threading.Thread(target=self.run, args=(client,), daemon=True) for client in self.clients]
        for thread in self.threads:
            thread.start()

    def run(self, client):
        while not self.stopping.is_set():
            client.run(self.deadline)
            if client.random.random() < self.repeat_share:
                again = client.to_repeat()
                if again:
                    client.repeat(again)
            time.sleep(client.random.uniform(0, 0.05))

    def finish(self, timeout_s):
        """Begins no more operations and waits for the open ones; returns all operations."""
        self.stopping.set()
        until = time.monotonic() + timeout_s
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))
        return self.operations()

    def operations(self):
        return [operation for client in self.clients for operation in client.operations]

    def answered(self):
        return sum(1 for client in self.clients for operation in client.operations if operation.final)

    def begun(self):
        return sum(len(client.operations) for client in self.clients)

"""Clients that want pictures and retry, as an SDK does, until they have a final answer."""

import base64
import http.client
import json
import random
import threading
import time
from dataclasses import dataclass, field

from lib.pictures import png, png_texts
from lib.rig import call


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


@dataclass
class Operation:
    """One edit that a client wants, with all its attempts."""
    worker: str
    prompt: str
    began_ms: int
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
        boundary = f"b{self.random.getrandbits(64):016x}"
        fields = self.rig.fields | {"prompt": prompt}
        body = b"".join(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
                        for name, value in fields.items())
        body += (f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
                 "Content-Type: image/png\r\n\r\n").encode() + self.picture + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Authorization": f"Bearer {self.rig.keys[int(self.name[1:])]}",
                   "Content-Type": f"multipart/form-data; boundary={boundary}"}
        if retries is not None:
            headers["x-stainless-retry-count"] = str(retries)
        return parse_answer(*call(self.rig.port, "POST", "/v1/images/edits", body, headers, timeout))

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
                answer = self.request(operation.prompt, tries if counts else None)
            except (OSError, http.client.HTTPException):
                operation.broken += 1
                tries += 1
                time.sleep(self.random.uniform(0.005, 0.04))
                continue
            operation.answers.append(answer)
            if is_final(answer):
                operation.final = answer
                break
            tries += 1
            time.sleep(self.random.uniform(0.01, 0.1))
        self.current = None

    def repeat(self, operation):
        """Sends the same request once more, after its final answer."""
        try:
            operation.repeats.append(self.request(operation.prompt, self.random.choice([None, 1])))
        except (OSError, http.client.HTTPException):
            operation.broken += 1


def parse_answer(status, headers, data):
    predictions = [name.strip() for name in headers.get("x-gateway-upstream-id", "").split(",") if name.strip()]
    missing = int(headers.get("x-gateway-missing", "0"))
    answer = Answer(status, "", headers.get("x-should-retry", ""), predictions, [], missing, "", time.time_ns() // 1_000_000)
    try:
        body = json.loads(data)
        if status == 200:
            pictures = [base64.b64decode(item["b64_json"]) for item in body["data"]]
            answer.pictures = [png_texts(picture).get("prompt-blake3", "") for picture in pictures]
        else:
            answer.code = body["error"]["code"] or ""
    except (ValueError, KeyError, IndexError, TypeError) as error:
        answer.problem = f"unreadable answer: {error}"
    return answer


def is_final(answer):
    """Returns whether an SDK of OpenAI's would not retry after this answer."""
    if answer.should_retry in ("true", "false"):
        return answer.should_retry == "false"
    return not (answer.status in (408, 409, 429) or answer.status >= 500)


class ClientThreads:
    """Clients in threads of their own, which begin one operation after the other until `finish`."""

    def __init__(self, rig, seed, repeat_share):
        self.clients = [Client(rig, number, seed) for number in range(len(rig.keys))]
        self.stopping = threading.Event()
        self.deadline = float("inf")
        self.repeat_share = repeat_share
        self.threads = [threading.Thread(target=self.run, args=(client,), daemon=True) for client in self.clients]
        for thread in self.threads:
            thread.start()

    def run(self, client):
        while not self.stopping.is_set():
            operation = client.run(self.deadline)
            # An answer with pictures missing is not whole, so that a repeat may buy the others.
            if operation.final and not operation.final.missing and client.random.random() < self.repeat_share:
                client.repeat(operation)
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

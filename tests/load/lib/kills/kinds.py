"""Kinds of clients: each asks for a picture in another way, and retries until it has a final answer.

All of them leave some requests before the answer, to come back a little later, and read some answers late.
"""

import base64
import json
import time
import urllib.parse

from lib.clients import Answer, Client, note_picture, parse_answer
from lib.rig import UNKNOWN, call

# Codes of events and of ended predictions after which a client asks again; a prediction has no x-should-retry.
RETRIED = {"restarting", "prediction_still_running", "abandoned", "stopping", "upstream_unreachable", "rate_limit_exceeded",
           "server_is_overloaded", "journal_unavailable", "disk_full", "model_unavailable", "upload_space_full", "too_many_waiting",
           "too_many_webhooks"}
# The upstream fails a prediction whose prompt has this word (`life.outcome_by_word`).
FAILING = "break-down"
# Seconds after which a client that follows a job begins a new attempt.
FOLLOWED_S = 20


class Plain(Client):
    """An edit in one call, answered with JSON."""

    # Shares of the requests, and of the operations.
    leaves, reads_late, fails = 0.1, 0.2, 0.04
    # Bounds of the pause before a client that has left comes back, in seconds.
    returns_after_s = (0.01, 0.3)
    # Bounds of the time after which it leaves, in seconds.
    leaves_after_s = (0.005, 0.15)
    keyed = False

    def __init__(self, rig, number, seed):
        super().__init__(rig, number, seed)
        self.has_left = False

    def new_operation(self):
        operation = super().new_operation()
        if self.random.random() < self.fails:
            operation.prompt += f" {FAILING}"
        if self.keyed:
            operation.key = f"key-{operation.prompt.split()[-1]}-{self.count}"
        return operation

    def send(self, method, path, body=None, headers=None, timeout=60):
        headers = {"Authorization": f"Bearer {self.rig.keys[int(self.name[1:])]}"} | (headers or {})
        draw = self.random.random()
        self.has_left = draw < self.leaves
        if self.has_left:
            timeout = self.random.uniform(*self.leaves_after_s)
        late = self.leaves <= draw < self.leaves + self.reads_late
        return call(self.rig.port, method, path, body, headers, timeout, self.random.uniform(0.005, 0.08) if late else 0)

    def pause_after_break(self):
        bounds = self.returns_after_s if self.has_left else (0.005, 0.12)
        time.sleep(self.random.uniform(*bounds))

    def ask(self, operation, retries):
        return parse_answer(*self.post(self.body(operation), self.headers(operation), retries))

    def body(self, operation):
        return self.form(operation.prompt)

    def headers(self, operation):
        return {"Idempotency-Key": operation.key} if operation.key else {}


class Keyed(Plain):
    """The same with an idempotency key on each attempt, and sometimes a second picture of the same, on purpose: under a new key."""

    keyed = True
    seconds = 0.3

    def run(self, deadline):
        operation = super().run(deadline)
        if operation.final and operation.final.status == 200 and self.random.random() < self.seconds:
            second = self.new_operation()
            second.prompt = operation.prompt
            self.complete(second, deadline)
        return operation


class Streaming(Plain):
    """An edit as a stream of events."""

    def ask(self, operation, retries):
        status, headers, data = self.post(self.body(operation), self.headers(operation) | {"Accept": "text/event-stream"}, retries)
        if status != 200:
            return parse_answer(status, headers, data)
        return parse_events(headers, data, operation.pictures or self.rig.pictures)

    def body(self, operation):
        return self.form(operation.prompt, {"stream": "true"})


class Asynchronous(Plain):
    """A job that is asked for with `Prefer: respond-async` and fetched by its address."""

    def ask(self, operation, retries):
        if operation.address is None:
            headers = self.headers(operation) | {"Prefer": "respond-async"}
            status, headers, data = self.post(self.body(operation), headers, retries)
            if status != 202:
                return parse_answer(status, headers, data)
            operation.address = headers["Location"]
            operation.jobs.add(headers["x-gateway-prediction"])
        answer = self.follow(operation)
        if answer.code in RETRIED:
            # It was not bought, and stays as it is: the next attempt asks for another job.
            operation.address = None
        return answer

    def follow(self, operation):
        until = time.monotonic() + FOLLOWED_S
        while time.monotonic() < until:
            headers = self.waiting()
            status, named, data = self.send("GET", operation.address, headers=headers)
            if status == 200 and "Accept" in headers:
                return parse_events(named, data, operation.pictures or self.rig.pictures)
            answer = parse_prediction(named, data) if status == 200 else parse_answer(status, named, data)
            if answer:
                return answer
            time.sleep(self.random.uniform(0.01, 0.06))
        raise TimeoutError(f"{operation.address} is still under way")

    def waiting(self):
        """Returns the headers that say how the client waits."""
        return {}

    def repeat(self, operation):
        # By its address, or by the same request again.
        if self.random.random() < 0.5:
            operation.address = None
        super().repeat(operation)


class Notified(Asynchronous):
    """The same with a webhook."""

    def body(self, operation):
        return self.form(operation.prompt, {"webhook_url": f"{self.rig.helper}/events/{self.name}"})


class Held(Asynchronous):
    """The same, fetched with requests that wait for the end of the job, or follow it."""

    def waiting(self):
        return self.random.choice(({"Prefer": "wait=2"}, {"Accept": "text/event-stream"}))


class Linked(Plain):
    """An edit whose picture the upstream fetches: from an address that the client gave, or from the gateway. The result, too, is
    fetched from an address in half of the answers."""

    def new_operation(self):
        operation = super().new_operation()
        operation.by_address = self.random.random() < 0.5
        return operation

    def ask(self, operation, retries):
        format_ = self.random.choice(("url", "b64_json"))
        if operation.by_address:
            fields = self.rig.fields | {"prompt": operation.prompt, "response_format": format_,
                                        "images": [{"image_url": f"{self.rig.helper}/pictures/{self.name}.png"}]}
            body = json.dumps(fields).encode(), "application/json"
        else:
            body = self.form(operation.prompt, {"response_format": format_})
        status, headers, data = self.post(body, self.headers(operation), retries)
        if status == 200 and format_ == "url":
            return self.fetch(headers, data)
        return parse_answer(status, headers, data)

    def fetch(self, headers, data):
        answer = parse_answer(0, headers, b"{}")
        answer.status, answer.problem = 200, ""
        for item in json.loads(data)["data"]:
            url = urllib.parse.urlsplit(item["url"])
            status, _, picture = self.send("GET", f"{url.path}?{url.query}")
            try:
                if status != 200:
                    raise ValueError(f"the result's address answers {status}")
                note_picture(answer, picture)
            except ValueError as error:
                answer.problem = str(error)
        return answer


def new_answer(headers):
    answer = parse_answer(0, headers, b"{}")
    answer.problem = ""
    return answer


def end_with(answer, error):
    """Notes an error that came without a status."""
    answer.status, answer.code = 502, error.get("code") or ""
    answer.should_retry = "true" if answer.code in RETRIED else "false"
    return answer


def parse_prediction(headers, data) -> Answer:
    """Returns the answer in a prediction object, or None while it is under way."""
    answer = new_answer(headers)
    try:
        prediction = json.loads(data)
        answer.predictions = prediction["predictions"]
        answer.reports_unknown = UNKNOWN.encode() in data
        if prediction["error"]:
            return end_with(answer, prediction["error"])
        if prediction["status"] != "completed":
            return None
        answer.status = 200
        for item in prediction["result"]["data"]:
            note_picture(answer, base64.b64decode(item["b64_json"]))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        answer.status, answer.problem = 200, f"unreadable prediction: {error}"
    return answer


def parse_events(headers, data, pictures) -> Answer:
    """Returns the answer in a stream that has ended in order."""
    answer = new_answer(headers)
    # Of a stream that began before there was an id.
    answer.predictions = []
    answer.status, answer.reports_unknown = 200, UNKNOWN.encode() in data
    failed = None
    try:
        for event in data.decode().split("\n\n"):
            lines = [line.partition(": ")[::2] for line in event.splitlines() if not line.startswith(":")]
            text = "".join(value for name, value in lines if name == "data")
            if not text:
                continue
            name, value = dict(lines).get("event"), json.loads(text)
            if name and name.endswith(".completed"):
                note_picture(answer, base64.b64decode(value["b64_json"]))
            elif name == "error":
                failed = value["error"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        answer.problem = f"unreadable events: {error}"
        return answer
    answer.missing = pictures - len(answer.pictures)
    # After some pictures, an error says why the others are missing.
    if failed and not answer.pictures:
        return end_with(answer, failed)
    if not answer.pictures:
        answer.problem = "the stream ended without a picture and without an error"
    return answer

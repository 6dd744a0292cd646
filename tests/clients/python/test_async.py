"""Predictions in the background, by a program that knows nothing but HTTP; and the webhook that
tells of their end, verified by the official Python SDK."""

import base64
import http.server
import json
import queue
import threading
import urllib.parse

import openai
import pytest
import requests
from conftest import PHOTO, opened, prompt, setting

SMALL = {"model": "gpt-image-1.5", "size": "256x256", "quality": "low"}
LATER = {"Prefer": "respond-async"}


class Caller:
    """One client key, and the prediction objects that come back for it."""

    def __init__(self, key):
        self.headers = {"Authorization": "Bearer " + setting(key)}

    def edit(self, headers=LATER, **fields):
        return requests.post(
            setting("SUITE_FAULTY") + "/v1/images/edits",
            headers={**self.headers, **headers},
            data={"prompt": prompt(), **SMALL, **fields},
            files={"image": ("photo.png", PHOTO.read_bytes(), "image/png")},
            timeout=30,
        )

    def ask(self, method, location, **headers):
        url = urllib.parse.urljoin(setting("SUITE_FAULTY"), location)
        return requests.request(method, url, headers={**self.headers, **headers}, timeout=30)

    def wait(self, location):
        return self.ask("GET", location, Prefer="wait=20")


@pytest.fixture
def caller(simulator):
    return Caller("SUITE_KEY")


def taken(answer):
    """Returns the Location of a 202."""
    assert answer.status_code == 202, answer.text
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.headers["x-request-id"].startswith("req_")
    return answer.headers["location"]


def picture_in(answer):
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["status"], body["error"]) == ("completed", None)
    (item,) = body["result"]["data"]
    return opened(base64.b64decode(item["b64_json"], validate=True), "256x256")


def test_an_edit_is_taken_and_fetched_later(caller, simulator):
    simulator.slow(seconds=2)
    answer = caller.edit()
    location = taken(answer)
    body = answer.json()
    assert body["object"] == "prediction"
    assert location.startswith(f"/v1/predictions/{body['id']}")
    assert body["status"] in ("queued", "submitting", "processing")

    early = caller.ask("GET", location)
    assert (early.status_code, early.json()["result"]) == (200, None)
    done = caller.wait(location)
    assert done.headers["preference-applied"].startswith("wait")
    picture_in(done)
    # It is still there, and was bought once.
    picture_in(caller.ask("GET", location))
    assert simulator.submits == 1


def test_the_official_sdk_can_ask_so(once, simulator):
    simulator.slow(seconds=1)
    answer = once.images.with_raw_response.edit(image=PHOTO, prompt=prompt(), extra_headers=LATER, **SMALL)
    assert answer.status_code == 202
    location = answer.headers["location"].removeprefix("/v1")
    body = once.get(location, cast_to=dict[str, object], options={"headers": {"Prefer": "wait=20"}})
    assert body["status"] == "completed"


def test_what_is_there_in_time_is_an_ordinary_answer(caller):
    answer = caller.edit({"Prefer": "respond-async, wait=20"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"][0]["b64_json"]


def test_how_the_answer_looks_is_remembered(caller):
    done = caller.wait(taken(caller.edit(response_format="url")))
    (item,) = done.json()["result"]["data"]
    assert item.keys() == {"url"}
    assert requests.get(item["url"], timeout=10).headers["content-type"] == "image/png"


def test_a_failure_is_told_by_the_object(caller, simulator):
    simulator.slow(seconds=1, outcome="failed_policy")
    done = caller.wait(taken(caller.edit()))
    assert (done.status_code, done.json()["status"], done.json()["result"]) == (200, "failed", None)
    assert done.json()["error"]["code"] == "moderation_blocked"


def test_nobody_else_learns_of_it(caller):
    location = taken(caller.edit())
    stranger = Caller("SUITE_STRANGER_KEY")
    foreign, unknown = stranger.ask("GET", location), stranger.ask("GET", "/v1/predictions/pred_nonsense")
    assert foreign.status_code == unknown.status_code == 404
    assert foreign.json() == unknown.json()
    assert stranger.ask("DELETE", location).status_code == 404


def test_what_is_bought_cannot_be_cancelled(caller, simulator):
    simulator.slow(seconds=2)
    location = taken(caller.edit())
    while caller.ask("GET", location).json()["status"] != "processing":
        pass
    refused = caller.ask("DELETE", location)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")
    assert refused.json()["error"]["code"] == "prediction_submitted"
    picture_in(caller.wait(location))


def test_it_can_be_followed_by_events(caller, simulator):
    simulator.slow(seconds=2)
    answer = caller.ask("GET", taken(caller.edit()), Accept="text/event-stream")
    assert answer.headers["content-type"] == "text/event-stream"
    lines = answer.text.splitlines()
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert names[0] == names[-1] == "prediction.status"
    assert names[-2] == "image_edit.completed"
    assert any(line.startswith(":") for line in lines)


# ---- webhooks ----


@pytest.fixture
def receiver():
    """Headers and bodies of the webhooks that were received, and the statuses to answer with."""
    seen, answers = queue.Queue(), queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(answers.get_nowait() if not answers.empty() else 204)
            self.end_headers()
            seen.put((dict(self.headers), body))

        def log_message(self, *_):
            pass

    at = urllib.parse.urlsplit(setting("SUITE_HOOKS"))
    server = http.server.ThreadingHTTPServer((at.hostname, at.port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield seen, answers
    server.shutdown()
    server.server_close()


def verified(headers, body):
    """The event, as the official SDK takes it after it has checked the signature."""
    with openai.OpenAI(api_key="unused", webhook_secret=setting("SUITE_HOOK_SECRET")) as client:
        client.webhooks.unwrap(body, headers)
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(body + b" ", headers)
    return json.loads(body)


def test_the_end_is_told_and_the_official_sdk_believes_it(caller, receiver):
    seen, _ = receiver
    answer = caller.edit(webhook_url=setting("SUITE_HOOKS") + "/hook")
    location = taken(answer)
    headers, body = seen.get(timeout=20)
    event = verified(headers, body)
    assert event["type"] == "image.prediction.completed"
    assert event["data"]["id"] == answer.json()["id"]
    assert "Authorization" not in headers
    picture_in(caller.ask("GET", location))


def test_a_receiver_that_fails_is_told_again(caller, receiver):
    seen, answers = receiver
    answers.put(500)
    # A request that waits for its answer can ask for it too.
    assert caller.edit({}, webhook_url=setting("SUITE_HOOKS") + "/hook").status_code == 200
    (first, body), (second, same) = seen.get(timeout=20), seen.get(timeout=20)
    assert body == same
    verified(second, same)
    assert {name.lower(): value for name, value in first.items()}["webhook-id"] == json.loads(body)["id"]


def test_only_allowed_addresses_are_told(caller, simulator):
    refused = caller.edit(webhook_url="http://127.0.0.1:9/hook")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "webhook_url")
    assert simulator.submits == 0

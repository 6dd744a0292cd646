"""What programs send that cannot run here, and what they need of the answer: see senders.py."""

import base64

import pytest
from conftest import MASK, PHOTO, SECOND, opened, prompt, setting
from senders import SENDERS, AsyncOpenai

# Nothing that a test before ordered is left.
pytestmark = pytest.mark.usefixtures("simulator")
SMALL = {"size": "256x256", "quality": "low"}


def who_can(column):
    """Runs the test for every sender that can fill the column, and puts the result there."""

    def wrap(test):
        senders = pytest.mark.parametrize("sender", [one for one in SENDERS if column in one.can], ids=str)
        return pytest.mark.cell(column)(senders(test))

    return wrap


def gateway():
    return setting("SUITE_FAULTY") + "/v1", setting("SUITE_KEY")


def asked(sender, words="paint it blue", **fields):
    return {"prompt": prompt(words), "model": sender.model, **SMALL, **fields}


def checked(sender, answer, size="256x256"):
    """The one picture of a good answer."""
    assert answer.status == 200, answer.body[:500]
    assert answer.headers["content-type"] == "application/json"
    sender.check(answer.json)
    (item,) = answer.json["data"]
    return opened(base64.b64decode(item["b64_json"], validate=True), size)


@who_can("edit")
def test_edit(sender):
    checked(sender, sender.edit(*gateway(), [PHOTO], **asked(sender)))


@who_can("list")
def test_edit_of_a_list(sender):
    checked(sender, sender.edit(*gateway(), [PHOTO, SECOND], **asked(sender)))


@who_can("bytes")
def test_edit_of_bytes_without_a_name(sender):
    checked(sender, sender.edit(*gateway(), [PHOTO.read_bytes()], **asked(sender)))


@who_can("mask")
def test_edit_with_a_mask(sender):
    checked(sender, sender.edit(*gateway(), [PHOTO], mask=MASK, **asked(sender)))


@who_can("generate")
def test_generate(sender):
    answer = sender.generate(*gateway(), **asked(sender))
    checked(sender, answer, answer.json.get("size"))


@who_can("url")
def test_an_address_instead_of_base64(sender):
    answer = sender.edit(*gateway(), [PHOTO], response_format="url", **asked(sender))
    assert answer.status == 200, answer.body[:500]
    (item,) = answer.json["data"]
    assert item.keys() == {"url"}
    assert item["url"].startswith(setting("SUITE_FAULTY") + "/")


@who_can("stream")
def test_a_stream(sender):
    answer = sender.edit(*gateway(), [PHOTO], stream="true", **asked(sender))
    assert answer.status == 200, answer.body[:500]
    assert answer.headers["content-type"] == "text/event-stream"
    ((name, event),) = answer.events
    assert name == event["type"] == "image_edit.completed"
    opened(base64.b64decode(event["b64_json"], validate=True), "256x256")


@who_can("errors")
@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"words": "forbidden-picture"}, 400, "moderation_blocked", None),
        ({"size": "257x259"}, 400, "invalid_value", "size"),
        ({"model": "painter-9000"}, 404, "model_not_found", "model"),
    ],
)
def test_a_refusal(simulator, sender, fields, status, code, param):
    answer = sender.edit(*gateway(), [PHOTO], **asked(sender, **fields))
    assert answer.status == status, answer.body[:500]
    error = answer.json["error"]
    assert (error["code"], error["param"] or None) == (code, param)
    assert error["message"]


@who_can("errors")
def test_a_wrong_key(simulator, sender):
    address, _ = gateway()
    answer = sender.edit(address, "sk-nobody-knows-this-one", [PHOTO], **asked(sender))
    assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert simulator.submits == 0


@who_can("errors")
def test_an_exhausted_balance(simulator, sender):
    simulator.scenario(balance={"usd": 0.0})
    answer = sender.edit(*gateway(), [PHOTO], **asked(sender))
    assert (answer.status, answer.json["error"]["code"]) == (429, "insufficient_quota")
    # Some look at the status alone and ask again; what they repeat is not bought.
    assert simulator.counters["submits_accepted"] == 0


@who_can("retry")
def test_what_is_asked_again_after_a_time_out_is_bought_once(simulator, sender):
    simulator.slow(seconds=1)
    repeated = asked(sender)
    with pytest.raises(TimeoutError):
        sender.edit(*gateway(), [PHOTO], timeout=0.5, **repeated)
    # As a form it has another boundary now.
    answer = sender.edit(*gateway(), [PHOTO], **repeated)
    checked(sender, answer)
    assert answer.headers["x-gateway-cache"] in ("joined", "hit")
    assert simulator.submits == 1


@who_can("waits")
def test_white_space_before_the_answer_keeps_it_waiting(simulator, sender):
    simulator.slow(seconds=2.5)
    # One byte a second comes, and the client would not wait two for it.
    address = setting("SUITE_WHITESPACE") + "/v1"
    checked(sender, sender.edit(address, setting("SUITE_KEY"), [PHOTO], timeout=1.9, **asked(sender)))


@pytest.mark.cell("edit")
@pytest.mark.parametrize("sender", [AsyncOpenai()], ids=str)
def test_output_compression_said_twice(sender):
    answer = sender.edit(*gateway(), [PHOTO], output_format="jpeg", output_compression=80, **asked(sender))
    assert checked(sender, answer).format == "JPEG"

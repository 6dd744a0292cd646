"""Conversations with chat programs: what they send, what their users see, and what is bought. See chat_programs.py."""

import base64
import urllib.request

import pytest
import requests
from chat_programs import PROGRAMS, REQUESTS, bytes_of, sent
from conftest import PHOTO, opened, prompt, setting

# What a program sends by itself; the rest is what its user writes.
BACKGROUND = {
    "open-webui": ("title", "tags", "follow_ups", "queries"),
    "librechat": ("title", "title_structured", "title_call"),
    "cherry-studio": ("title", "search", "check"),
}
CONVERSATION = {
    "open-webui": ("first", "first_with_tools", "whole", "follow_up", "upload", "upload_with_tools", "images"),
    "librechat": ("first", "whole", "follow_up", "upload"),
    "cherry-studio": ("first", "whole", "follow_up", "upload", "images"),
}
every_program = pytest.mark.parametrize("program", PROGRAMS, ids=str)
each_in_background = pytest.mark.parametrize(
    ("program", "name"), [(program, name) for program in PROGRAMS for name in BACKGROUND[program.name]], ids=str
)


@pytest.fixture(autouse=True)
def quick(simulator):
    """Pictures of the quality that is bought where a message names none take a tenth of a second."""
    take(simulator, seconds=0.1)


def take(simulator, seconds, **life):
    simulator.slow(seconds, medium_ms=[int(seconds * 100_000)] * 2, **life)


def ask(program, name, gateway="SUITE_FAULTY", **values):
    photo = base64.b64encode(PHOTO.read_bytes()).decode()
    words = {"prompt": prompt("a harbour"), "earlier": "a harbour", "answer": "-", "photo": photo, **values}
    return sent(setting(gateway), program.name, name, key=setting("SUITE_KEY"), **words)


def get(address):
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert answer.headers["content-type"] == "image/png"
        return answer.read()


def seen(program, answer):
    """What the user sees: exactly one picture, whose bytes are the second value."""
    assert answer.status == 200, answer.body[:500]
    shown = program.shown(answer)
    assert (shown.error, shown.has_ended) == (None, True)
    (picture,) = shown.pictures
    data = bytes_of(picture, get)
    opened(data)
    return shown, data


def the_purchase(simulator):
    """The only thing that was bought."""
    (bought,) = simulator.ask("GET", "predictions")
    return bought


def is_the_edit_of(words, data):
    """Whether the same edit by the image API is already there: of these bytes, with these words."""
    address, key = setting("SUITE_FAULTY"), setting("SUITE_KEY")
    form = {"model": "gpt-image-1.5", "prompt": words}
    headers = {"authorization": f"Bearer {key}"}
    answer = requests.post(f"{address}/v1/images/edits", data=form, files={"image": data}, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text[:500]
    return answer.headers["x-gateway-cache"] == "hit"


def test_every_request_file_is_sent_by_a_test():
    for program in PROGRAMS:
        files = {path.stem for path in (REQUESTS / program.name).iterdir()}
        assert files == {*BACKGROUND[program.name], *CONVERSATION[program.name]}


@every_program
def test_a_first_message_is_a_picture(simulator, program):
    words = prompt("a harbour")
    shown, _ = seen(program, ask(program, "first", prompt=words))
    assert shown.text.startswith("![image](" + setting("SUITE_FAULTY") + "/")
    sent_tokens, made_tokens, all_tokens = shown.tokens
    assert made_tokens > 0 and all_tokens == sent_tokens + made_tokens
    bought = the_purchase(simulator)
    assert (bought["capability"], bought["parameters"]["prompt"]) == ("text-to-image", words)


@every_program
def test_an_answer_that_is_not_streamed_is_the_same(simulator, program):
    words = prompt("a harbour")
    _, streamed = seen(program, ask(program, "first", prompt=words))
    _, whole = seen(program, ask(program, "whole", prompt=words))
    assert whole == streamed
    the_purchase(simulator)


@every_program
def test_a_follow_up_edits_the_last_picture(simulator, program):
    words = prompt("a harbour")
    shown, first = seen(program, ask(program, "first", prompt=words))
    changed = prompt("paint it blue")
    _, second = seen(program, ask(program, "follow_up", earlier=words, answer=shown.text, prompt=changed))
    assert second != first
    assert is_the_edit_of(changed, first)
    assert simulator.submits == 2


@every_program
def test_an_upload_is_edited(simulator, program):
    words = prompt("paint it blue")
    seen(program, ask(program, "upload", prompt=words))
    assert is_the_edit_of(words, PHOTO.read_bytes())
    assert simulator.submits == 1


def test_tools_that_are_offered_change_nothing(simulator):
    program, words = PROGRAMS[0], prompt("a harbour")
    seen(program, ask(program, "first_with_tools", prompt=words))
    seen(program, ask(program, "first", prompt=words))
    assert the_purchase(simulator)["parameters"]["prompt"] == words


def test_an_upload_beside_tools_is_edited(simulator):
    program, words = PROGRAMS[0], prompt("paint it blue")
    seen(program, ask(program, "upload_with_tools", prompt=words))
    assert is_the_edit_of(words, PHOTO.read_bytes())
    assert simulator.submits == 1


@pytest.mark.parametrize("program", [one for one in PROGRAMS if "images" in CONVERSATION[one.name]], ids=str)
def test_modalities_put_the_picture_beside_the_text(simulator, program):
    shown, _ = seen(program, ask(program, "images"))
    assert shown.text == ""
    assert shown.pictures[0].startswith("data:image/png;base64,")


@every_program
def test_comments_during_a_long_wait_are_no_harm(simulator, program):
    take(simulator, seconds=2)
    answer = ask(program, "first")
    assert answer.body.count("\n: ") >= 2
    seen(program, answer)


@every_program
@pytest.mark.parametrize("name", ["first", "whole"])
def test_a_refusal_is_shown(simulator, program, name):
    answer = ask(program, name, prompt=prompt("forbidden-picture"))
    assert answer.status == 400
    shown = program.shown(answer)
    assert "content policy" in shown.error or "safety" in shown.error, shown.error
    assert not shown.pictures


@every_program
def test_a_failure_within_a_stream_is_shown(simulator, program):
    take(simulator, seconds=2, outcome="failed_provider")
    answer = ask(program, "first")
    assert answer.status == 200
    shown = program.shown(answer)
    assert shown.error
    assert (shown.pictures, shown.has_ended) == ([], False)
    assert simulator.submits == 1


@each_in_background
@pytest.mark.parametrize("gateway", ["SUITE_FAULTY", "SUITE_LENIENT"])
def test_a_request_for_text_buys_nothing(simulator, program, name, gateway):
    answer = ask(program, name, gateway)
    assert (answer.status, simulator.submits) == (400, 0), answer.body[:500]
    assert '"code":"text_not_supported"' in answer.body
    assert "nothing was bought" in program.shown(answer).error.lower()

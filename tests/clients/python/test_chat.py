"""Chat completions by the official Python SDK: a conversation whose answers are pictures."""

import base64
import re
import urllib.request

import openai
import pytest
from conftest import PHOTO, opened, prompt

SMALL = {"model": "gpt-image-1.5"}
# Named by the image API, and not known to the SDK's chat.
SHAPE = {"size": "256x256", "quality": "low"}


def user(words, picture=None):
    if not picture:
        return {"role": "user", "content": words}
    image = {"url": "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()}
    return {"role": "user", "content": [{"type": "text", "text": words}, {"type": "image_url", "image_url": image}]}


def completed(client, *messages, **more):
    return client.chat.completions.create(messages=messages, extra_body=SHAPE, **SMALL, **more)


def picture_in(text):
    """The picture of a text that is one picture, and its bytes."""
    address = re.fullmatch(r"!\[image\]\((http://[^)]+)\)", text).group(1)
    with urllib.request.urlopen(address, timeout=10) as answer:
        data = answer.read()
    opened(data, "256x256")
    return data


def test_a_conversation(once, simulator):
    words = prompt("a harbour")
    first = completed(once, user(words))
    assert (first.object, first.model) == ("chat.completion", "gpt-image-1.5")
    (choice,) = first.choices
    assert (choice.index, choice.finish_reason, choice.message.role) == (0, "stop", "assistant")
    made = picture_in(choice.message.content)
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens > 0
    # The message of the SDK is sent again as it is.
    second = completed(once, user(words), choice.message, user(prompt("paint it blue")))
    assert picture_in(second.choices[0].message.content) != made
    _, bought = simulator.ask("GET", "predictions")
    assert len(bought["inputs"]) == 1


def test_a_picture_of_the_user_is_edited(once, simulator):
    picture_in(completed(once, user(prompt("paint it blue"), PHOTO)).choices[0].message.content)
    (bought,) = simulator.ask("GET", "predictions")
    assert len(bought["inputs"]) == 1


def test_a_stream_with_its_token_counts(once, simulator):
    words = user(prompt("a harbour"))
    chunks = list(completed(once, words, stream=True, stream_options={"include_usage": True}))
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    *with_choice, last = chunks
    assert with_choice[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in with_choice] == [None] * (len(with_choice) - 1) + ["stop"]
    streamed = picture_in("".join(chunk.choices[0].delta.content or "" for chunk in with_choice))
    assert last.choices == []
    whole = completed(once, words)
    assert last.usage.total_tokens == whole.usage.total_tokens > 0
    assert picture_in(whole.choices[0].message.content) == streamed
    assert simulator.submits == 1


def test_a_stream_without_token_counts(once, simulator):
    chunks = list(completed(once, user(prompt("a harbour")), stream=True))
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in chunks)


@pytest.mark.parametrize("stream", [False, True])
def test_an_early_refusal(once, simulator, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        completed(once, user(prompt("forbidden-picture")), stream=stream)
    assert caught.value.code == "moderation_blocked"


def test_a_late_failure_is_raised_from_the_stream(usual, simulator):
    simulator.slow(seconds=2, outcome="failed_provider")
    stream = completed(usual, user(prompt("a harbour")), stream=True)
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == "image_generation_failed"
    assert simulator.submits == 1


def test_a_request_for_json_buys_nothing(usual, simulator):
    with pytest.raises(openai.BadRequestError) as caught:
        completed(usual, user("the title of this conversation"), response_format={"type": "json_object"})
    assert (caught.value.code, caught.value.param) == ("text_not_supported", "response_format")
    assert simulator.submits == 0

"""Streams of events by the official Python SDK: `stream=True`."""

import asyncio
import re
import time

import openai
import pytest
from conftest import PHOTO, client_of, picture_of, prompt, raw_edit

SMALL = {"model": "gpt-image-1.5", "size": "256x256", "quality": "low"}


class Item:
    """An event, as an item of an answer is looked at."""

    def __init__(self, event):
        self.url = None
        self.b64_json = event.b64_json


@pytest.mark.cell("stream")
def test_an_edit(client):
    with client.images.edit(image=PHOTO, prompt=prompt(), stream=True, partial_images=2, **SMALL) as stream:
        events = list(stream)
    # Fewer partial pictures than asked for is legal, and the service makes none.
    assert [event.type for event in events] == ["image_edit.completed"]
    picture_of(Item(events[0]), "256x256")
    assert (events[0].size, events[0].quality, events[0].output_format) == ("256x256", "low", "png")
    assert events[0].usage.total_tokens == events[0].usage.input_tokens + events[0].usage.output_tokens
    assert isinstance(events[0].created_at, int)


@pytest.mark.cell("stream")
def test_a_generation(client):
    events = list(client.images.generate(prompt=prompt("a harbour"), stream=True, **SMALL))
    assert [event.type for event in events] == ["image_generation.completed"]
    picture_of(Item(events[0]), "256x256")


@pytest.mark.cell("stream")
def test_two_pictures_are_two_events(client):
    events = list(client.images.edit(image=PHOTO, prompt=prompt(), n=2, stream=True, **SMALL))
    assert [event.type for event in events] == ["image_edit.completed"] * 2
    assert len({picture_of(Item(event), "256x256").tobytes() for event in events}) == 2


def test_the_asynchronous_client(client):
    async def ask():
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key=client.api_key) as together:
            stream = await together.images.edit(image=PHOTO, prompt=prompt(), stream=True, **SMALL)
            return [event async for event in stream]

    (event,) = asyncio.run(ask())
    picture_of(Item(event), "256x256")


@pytest.mark.cell("errors")
def test_an_early_refusal_is_no_stream(once, simulator):
    with pytest.raises(openai.BadRequestError) as caught:
        once.images.edit(image=PHOTO, prompt=prompt("forbidden-picture"), stream=True, **SMALL)
    assert caught.value.code == "moderation_blocked"
    assert simulator.submits == 1


@pytest.mark.cell("errors")
@pytest.mark.parametrize(
    ("outcome", "code"), [("failed_provider", "image_generation_failed"), ("failed_policy", "moderation_blocked")]
)
def test_a_late_failure_is_raised_from_the_stream(usual, simulator, outcome, code):
    simulator.slow(seconds=2, outcome=outcome)
    stream = usual.images.edit(image=PHOTO, prompt=prompt(), stream=True, **SMALL)
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == code
    assert caught.value.message
    assert simulator.submits == 1


def test_a_stream_outlives_the_time_out_of_a_read(simulator):
    simulator.slow(seconds=4)
    with client_of("SUITE_FAULTY", max_retries=0, timeout=2) as client:
        events = list(client.images.edit(image=PHOTO, prompt=prompt(), stream=True, **SMALL))
    picture_of(Item(events[0]), "256x256")
    assert simulator.submits == 1


def test_whoever_leaves_a_stream_finds_the_picture(once, simulator):
    simulator.slow(seconds=2)
    asked = {"image": PHOTO, "prompt": prompt(), **SMALL}
    once.images.edit(stream=True, **asked).close()
    picture_of(once.images.edit(**asked).data[0], "256x256")
    assert simulator.submits == 1


def test_comments_keep_a_stream_alive(simulator):
    simulator.slow(seconds=3)
    connection = raw_edit("SUITE_FAULTY", stream=True, **SMALL)
    begun = time.monotonic()
    answer = connection.getresponse()
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    lines = []
    while line := answer.readline():
        lines.append((time.monotonic() - begun, line.decode().rstrip("\n")))
    connection.close()
    comments = [at for at, line in lines if line.startswith(":")]
    # The rig asks for one every half second.
    assert comments[0] < 2
    assert len(comments) >= 3
    assert max(after - before for before, after in zip(comments, comments[1:], strict=False)) < 1.5
    said = [line for _, line in lines if line and not line.startswith(":")]
    assert [re.match(r"event: \S+|data: \{", line).group() for line in said] == [
        "event: image_edit.completed",
        "data: {",
    ]

"""How a long wait without a stream is survived: `102 Processing` and white space before the JSON, by clients that give
up after three seconds of silence, while a picture takes four."""

import asyncio
import json
import urllib.request

import openai
import pytest
from conftest import PHOTO, client_of, picture_of, prompt, raw_edit, setting

SMALL = {"model": "gpt-image-1.5", "size": "256x256", "quality": "low"}
RESPONSE_TIMEOUT_S, PICTURE_S = 3, 4


def impatient(gateway, **options):
    return client_of(gateway, timeout=RESPONSE_TIMEOUT_S, max_retries=0, **options)


def test_without_them_the_client_gives_up(simulator):
    simulator.slow(PICTURE_S)
    # The header is replaced: otherwise the gateway answers just before the client gives up.
    announced = {"x-stainless-read-timeout": "600"}
    with impatient("SUITE_FAULTY") as client, pytest.raises(openai.APITimeoutError):
        client.images.edit(image=PHOTO, prompt=prompt(), extra_headers=announced, **SMALL)


@pytest.mark.parametrize("gateway", ["SUITE_INTERIM", "SUITE_WHITESPACE"])
@pytest.mark.cell("waits")
def test_the_official_sdk_waits(simulator, gateway):
    simulator.slow(PICTURE_S)
    with impatient(gateway) as client:
        answer = client.images.edit(image=PHOTO, prompt=prompt(), **SMALL)
    picture_of(answer.data[0], "256x256")
    assert simulator.submits == 1


def test_an_error_after_interim_answers_keeps_its_status(simulator):
    simulator.slow(PICTURE_S, outcome="failed_policy")
    with impatient("SUITE_INTERIM") as client, pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(image=PHOTO, prompt=prompt(), **SMALL)
    assert caught.value.code == "moderation_blocked"
    assert simulator.submits == 1


def test_an_error_after_white_space_is_told_to_the_retry(simulator):
    simulator.slow(PICTURE_S, outcome="failed_provider")
    with client_of("SUITE_WHITESPACE", timeout=RESPONSE_TIMEOUT_S) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.images.edit(image=PHOTO, prompt=prompt(), **SMALL)
    assert caught.value.code == "image_generation_failed"
    assert simulator.submits == 1


def test_the_asynchronous_sdk_waits(simulator):
    simulator.slow(PICTURE_S)

    async def ask():
        async with openai.AsyncOpenAI(
            base_url=setting("SUITE_INTERIM") + "/v1", api_key=setting("SUITE_KEY"), timeout=RESPONSE_TIMEOUT_S, max_retries=0
        ) as client:
            return await client.images.edit(image=PHOTO, prompt=prompt(), **SMALL)

    picture_of(asyncio.run(ask()).data[0], "256x256")


@pytest.mark.parametrize("gateway", ["SUITE_INTERIM", "SUITE_WHITESPACE"])
def test_aiohttp_waits(simulator, gateway):
    aiohttp = pytest.importorskip("aiohttp")
    simulator.slow(PICTURE_S)

    async def ask():
        form = aiohttp.FormData({"prompt": prompt(), **SMALL})
        form.add_field("image", PHOTO.read_bytes(), filename="photo.png", content_type="image/png")
        headers = {"Authorization": "Bearer " + setting("SUITE_KEY")}
        timeout = aiohttp.ClientTimeout(sock_read=RESPONSE_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            async with session.post(setting(gateway) + "/v1/images/edits", data=form) as answer:
                return answer.status, await answer.json()

    status, answer = asyncio.run(ask())
    assert status == 200
    assert answer["data"][0]["b64_json"]


def test_who_is_not_known_gets_no_interim_answer(simulator):
    """urllib would take it for the answer."""
    simulator.slow(PICTURE_S)
    connection = raw_edit("SUITE_INTERIM", **SMALL)
    answer = connection.getresponse()
    assert answer.status == 200
    assert json.load(answer)["data"][0]["b64_json"]
    connection.close()
    request = urllib.request.Request(
        setting("SUITE_INTERIM") + "/v1/images/generations",
        json.dumps({"prompt": prompt(), **SMALL}).encode(),
        {"content-type": "application/json", "authorization": "Bearer " + setting("SUITE_KEY")},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200

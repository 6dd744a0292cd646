"""The official Python SDK's client for Azure: addresses with the deployment in them, and the key as `api-key`."""

import openai
import pytest
from conftest import MASK, PHOTO, SECOND, picture_of, prompt, setting

SMALL = {"model": "gpt-image-1.5", "size": "256x256", "quality": "low"}


def azure(gateway="SUITE_GATEWAY", key=None, **options):
    return openai.AzureOpenAI(
        azure_endpoint=setting(gateway),
        api_version="2025-04-01-preview",
        api_key=key or setting("SUITE_SANDBOX_KEY" if gateway == "SUITE_GATEWAY" else "SUITE_KEY"),
        **options,
    )


@pytest.mark.cell("edit")
def test_edit():
    answer = azure().images.with_raw_response.edit(image=PHOTO, prompt=prompt(), **SMALL)
    assert answer.http_request.url.path == "/openai/deployments/gpt-image-1.5/images/edits"
    picture_of(answer.parse().data[0], "256x256")


@pytest.mark.cell("edit")
def test_edit_of_the_deployment_that_the_client_names():
    client = azure(azure_deployment="gpt-image-1.5")
    picture_of(client.images.edit(image=PHOTO, prompt=prompt(), size="256x256", quality="low").data[0], "256x256")


@pytest.mark.cell("list")
def test_edit_of_a_list():
    picture_of(azure().images.edit(image=[PHOTO, SECOND], prompt=prompt(), **SMALL).data[0], "256x256")


@pytest.mark.cell("bytes")
def test_edit_of_bytes():
    picture_of(azure().images.edit(image=PHOTO.read_bytes(), prompt=prompt(), **SMALL).data[0], "256x256")


@pytest.mark.cell("mask")
def test_edit_with_a_mask():
    picture_of(azure().images.edit(image=PHOTO, mask=MASK, prompt=prompt(), **SMALL).data[0], "256x256")


@pytest.mark.cell("generate")
def test_generate():
    answer = azure().images.with_raw_response.generate(prompt=prompt("a harbour"), **SMALL)
    assert answer.http_request.url.path == "/openai/deployments/gpt-image-1.5/images/generations"
    picture_of(answer.parse().data[0], "256x256")


@pytest.mark.cell("url")
def test_an_address_instead_of_base64():
    answer = azure().images.edit(image=PHOTO, prompt=prompt(), response_format="url", **SMALL)
    assert answer.data[0].url.startswith(setting("SUITE_GATEWAY") + "/")


@pytest.mark.cell("stream")
def test_a_stream():
    (event,) = azure().images.edit(image=PHOTO, prompt=prompt(), stream=True, **SMALL)
    assert event.type == "image_edit.completed"


@pytest.mark.cell("errors")
def test_a_wrong_key(simulator):
    with pytest.raises(openai.AuthenticationError) as caught:
        azure("SUITE_FAULTY", "nobody-knows-this-one").images.edit(image=PHOTO, prompt=prompt(), **SMALL)
    assert caught.value.code == "invalid_api_key"


@pytest.mark.cell("errors")
def test_a_forbidden_prompt(simulator):
    with pytest.raises(openai.BadRequestError) as caught:
        azure("SUITE_FAULTY").images.edit(image=PHOTO, prompt=prompt("forbidden-picture"), **SMALL)
    assert caught.value.code == "moderation_blocked"


@pytest.mark.cell("retry")
def test_a_retry_after_a_time_out_joins_what_it_began(simulator):
    simulator.slow(seconds=3)
    announced = {"x-stainless-read-timeout": "600"}
    client = azure("SUITE_FAULTY", timeout=1.6)
    picture_of(client.images.edit(image=PHOTO, prompt=prompt(), extra_headers=announced, **SMALL).data[0], "256x256")
    assert simulator.submits == 1


@pytest.mark.cell("waits")
@pytest.mark.parametrize("gateway", ["SUITE_INTERIM", "SUITE_WHITESPACE"])
def test_it_waits_for_a_slow_picture(simulator, gateway):
    simulator.slow(seconds=4)
    client = azure(gateway, timeout=3, max_retries=0)
    picture_of(client.images.edit(image=PHOTO, prompt=prompt(), **SMALL).data[0], "256x256")
    assert simulator.submits == 1


def test_models_are_listed():
    assert "gpt-image-1.5" in [model.id for model in azure().models.list()]

"""Every refusal and every accident, by the exception the official Python SDK makes of it, and what it cost."""

import asyncio
import re
import time

import openai
import pytest
from conftest import HUGE, LARGE, MASK, PHOTO, SECOND, client_of, picture_of, prompt, setting

SMALL = {"model": "gpt-image-1.5", "size": "256x256", "quality": "low"}


def wrong_key(gateway="SUITE_FAULTY", **options):
    return openai.OpenAI(base_url=setting(gateway) + "/v1", api_key="sk-nobody-knows-this-one", **options)


# ---- refused before anything is bought ----


@pytest.mark.cell("errors")
def test_a_wrong_key(simulator):
    with pytest.raises(openai.AuthenticationError) as caught:
        wrong_key().images.edit(image=PHOTO, prompt=prompt(), **SMALL)
    assert caught.value.status_code == 401
    assert caught.value.code == "invalid_api_key"
    assert caught.value.request_id.startswith("req_")
    assert "sk-nobody" not in caught.value.message
    assert simulator.submits == 0


def test_a_wrong_key_with_a_large_upload():
    with pytest.raises(openai.AuthenticationError):
        wrong_key("SUITE_DIRECT", max_retries=0).images.edit(image=HUGE, prompt=prompt(), **SMALL)


def test_a_wrong_key_for_the_list_of_models():
    with pytest.raises(openai.AuthenticationError):
        wrong_key(max_retries=0).models.list()


def test_an_unknown_model_is_not_retrieved(once):
    with pytest.raises(openai.NotFoundError) as caught:
        once.models.retrieve("painter-9000")
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


def test_an_unknown_model_does_not_edit(once, simulator):
    with pytest.raises(openai.NotFoundError) as caught:
        once.images.edit(image=PHOTO, prompt=prompt(), model="painter-9000")
    assert caught.value.code == "model_not_found"
    assert simulator.submits == 0


@pytest.mark.cell("errors")
@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({"size": "257x259"}, "size", "invalid_value"),
        ({"quality": "brilliant"}, "quality", "invalid_value"),
        ({"background": "green"}, "background", "invalid_value"),
        ({"output_format": "bmp"}, "output_format", "invalid_value"),
        # What is not there is refused by name, never left out in silence.
        ({"output_format": "svg"}, "output_format", "unsupported_parameter"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": 11}, "n", "integer_above_max_value"),
        ({"image": []}, "image", "missing_required_parameter"),
        ({"image": b"these are not the bytes of a picture"}, "image", "unsupported_file_mimetype"),
        ({"image": [PHOTO, b"nor are these"]}, "image[1]", "unsupported_file_mimetype"),
        ({"image": b""}, "image", "invalid_image_file"),
        ({"model": "gpt-image-2.5-flare", "size": "1024x1024", "mask": MASK}, "mask", "unsupported_parameter"),
        (
            {"model": "gpt-image-2", "size": "1024x1024", "input_fidelity": "high"},
            "input_fidelity",
            "invalid_input_fidelity_model",
        ),
    ],
)
def test_a_bad_request(once, simulator, asked, param, code):
    with pytest.raises(openai.BadRequestError) as caught:
        once.images.edit(**{"image": PHOTO, "prompt": prompt(), **SMALL, **asked})
    assert caught.value.status_code == 400
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.message
    assert simulator.submits == 0


def test_a_body_that_is_too_large(simulator):
    with client_of("SUITE_NARROW") as client, pytest.raises(openai.APIStatusError) as caught:
        client.images.edit(image=LARGE, prompt=prompt(), **SMALL)
    assert caught.value.status_code == 413
    assert caught.value.code == "body_too_large"
    assert simulator.submits == 0


# ---- what costs nothing ----


def test_headers_and_the_cache(once, simulator):
    asked = {"image": PHOTO, "prompt": prompt(), **SMALL}

    first = once.images.with_raw_response.edit(**asked)
    submits = simulator.submits
    second = once.images.with_raw_response.edit(**asked)

    assert simulator.submits == submits
    for answer in (first, second):
        assert re.fullmatch(r"req_\S+", answer.headers["x-request-id"])
        assert int(answer.headers["openai-processing-ms"]) >= 0
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert first.headers["x-gateway-cache"] == "miss"
    assert first.headers["x-gateway-prediction"]
    assert second.headers["x-gateway-cache"] == "hit"
    assert int(second.headers["age"]) >= 0
    assert first.parse().data[0].b64_json == second.parse().data[0].b64_json
    assert first.parse()._request_id == first.headers["x-request-id"]


def test_a_cached_answer_can_be_declined(once, simulator):
    asked = {"image": PHOTO, "prompt": prompt(), **SMALL}
    once.images.edit(**asked)
    submits = simulator.submits
    answer = once.images.with_raw_response.edit(extra_headers={"cache-control": "no-cache"}, **asked)
    assert simulator.submits == submits + 1
    assert answer.headers["x-gateway-cache"] == "bypass"


# ---- refused or broken by the service ----


@pytest.mark.cell("errors")
def test_a_forbidden_prompt(usual, simulator):
    with pytest.raises(openai.BadRequestError) as caught:
        usual.images.edit(image=PHOTO, prompt=prompt("forbidden-picture"), **SMALL)
    assert caught.value.code == "moderation_blocked"
    assert simulator.submits == 1
    assert simulator.counters["charged_usd"] == 0


def test_a_prompt_that_is_found_forbidden_late(usual, simulator):
    simulator.scenario(policy={"answer": "task"})
    with pytest.raises(openai.BadRequestError) as caught:
        usual.images.edit(image=PHOTO, prompt=prompt("forbidden-picture"), **SMALL)
    assert caught.value.code == "moderation_blocked"
    assert simulator.submits == 1


@pytest.mark.cell("errors")
def test_an_exhausted_balance(usual, simulator):
    simulator.scenario(balance={"usd": 0.0})
    with pytest.raises(openai.RateLimitError) as caught:
        usual.images.edit(image=PHOTO, prompt=prompt(), **SMALL)
    assert caught.value.code == "insufficient_quota"
    assert simulator.submits == 1


def test_a_revoked_upstream_key_is_not_the_clients_fault(usual, simulator):
    simulator.scenario(auth={"revoked": [setting("SUITE_UPSTREAM_KEY")]})
    with pytest.raises(openai.InternalServerError) as caught:
        usual.images.edit(image=PHOTO, prompt=prompt(), **SMALL)
    assert caught.value.code == "upstream_key_refused"
    assert setting("SUITE_UPSTREAM_KEY") not in str(caught.value)


def test_an_unknown_outcome_is_never_bought_again(usual, simulator):
    simulator.fault("submit", "drop_after", times=5)
    with pytest.raises(openai.InternalServerError) as caught:
        usual.images.edit(image=PHOTO, prompt=prompt(), **SMALL)
    assert caught.value.status_code == 502
    assert caught.value.code == "submission_outcome_unknown"
    assert caught.value.response.headers["x-should-retry"] == "false"
    # The SDK would have asked three times, and the gateway could have too.
    assert simulator.submits == 1


@pytest.mark.cell("errors")
def test_a_failed_task_is_not_bought_again(usual, simulator):
    simulator.scenario(life={"outcome": "failed_provider"})
    with pytest.raises(openai.InternalServerError) as caught:
        usual.images.edit(image=PHOTO, prompt=prompt(), **SMALL)
    assert caught.value.code == "image_generation_failed"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert simulator.submits == 1


def test_a_busy_service_is_asked_again_by_the_gateway(once, simulator):
    simulator.fault("submit", "status_429_retry_after")
    answer = once.images.edit(image=PHOTO, prompt=prompt(), **SMALL)
    picture_of(answer.data[0], "256x256")
    counters = simulator.counters
    assert (counters["submits"], counters["submits_accepted"]) == (2, 1)


@pytest.mark.parametrize("fault", ["status_500", "html_502", "drop_before", "truncated_json"])
def test_a_stumbling_poll_costs_nothing(once, simulator, fault):
    simulator.fault("poll", fault)
    answer = once.images.edit(image=PHOTO, prompt=prompt(), **SMALL)
    picture_of(answer.data[0], "256x256")
    counters = simulator.counters
    assert (counters["submits"], counters["faults_fired"]) == (1, 1)


# ---- slow pictures and impatient clients ----


def ask_until_there(client, asked):
    """Asks the same until the picture is there. Returns it, and how often it was not."""
    deadline = time.monotonic() + 20
    refusals = 0
    while True:
        try:
            return client.images.edit(**asked), refusals
        except openai.InternalServerError as error:
            assert (error.status_code, error.code) == (504, "prediction_still_running")
            assert error.response.headers["x-should-retry"] == "true"
            assert error.response.headers["x-gateway-prediction"]
            refusals += 1
            assert time.monotonic() < deadline, "the picture never came"


def test_a_slow_picture_is_collected_by_asking_again(simulator):
    simulator.slow(seconds=3)
    with client_of("SUITE_IMPATIENT", max_retries=0) as client:
        answer, refusals = ask_until_there(client, {"image": PHOTO, "prompt": prompt(), **SMALL})
    picture_of(answer.data[0], "256x256")
    assert refusals >= 1
    assert simulator.submits == 1


@pytest.mark.cell("retry")
def test_the_sdks_own_retries_collect_a_slow_picture(simulator):
    simulator.slow(seconds=2)
    with client_of("SUITE_IMPATIENT") as client:
        answer = client.images.with_raw_response.edit(image=PHOTO, prompt=prompt(), **SMALL)
    assert answer.retries_taken >= 1
    picture_of(answer.parse().data[0], "256x256")
    assert simulator.submits == 1


@pytest.mark.cell("retry")
def test_a_retry_after_a_time_out_joins_what_it_began(simulator):
    simulator.slow(seconds=3)
    # The header is replaced, so that the gateway does not know how soon this client gives up.
    asked = {"image": PHOTO, "prompt": prompt(), "extra_headers": {"x-stainless-read-timeout": "600"}, **SMALL}
    with client_of("SUITE_FAULTY", timeout=1.6) as client:
        answer = client.images.with_raw_response.edit(**asked)
    assert answer.retries_taken >= 1
    # On a busy machine it is finished before the retry comes.
    assert answer.headers["x-gateway-cache"] in ("joined", "hit")
    picture_of(answer.parse().data[0], "256x256")
    assert simulator.submits == 1


def test_a_client_is_answered_before_its_own_time_out(simulator):
    simulator.slow(seconds=4)
    asked = {"image": PHOTO, "prompt": prompt(), **SMALL}
    # It announces 3 s; without an answer before that it would raise APITimeoutError.
    with client_of("SUITE_FAULTY", max_retries=0, timeout=3) as client:
        answer, refusals = ask_until_there(client, asked)
    picture_of(answer.data[0], "256x256")
    assert refusals >= 1
    assert simulator.submits == 1


def test_a_client_that_hung_up_finds_its_picture(once, simulator):
    simulator.slow(seconds=2)
    asked = {"image": PHOTO, "prompt": prompt(), **SMALL}
    # The header is replaced, so that the gateway does not know how soon this client leaves.
    with pytest.raises(openai.APITimeoutError):
        once.images.edit(timeout=1, extra_headers={"x-stainless-read-timeout": "600"}, **asked)
    answer = once.images.edit(**asked)
    picture_of(answer.data[0], "256x256")
    assert simulator.submits == 1


def test_the_same_request_twice_at_once_is_bought_once(simulator):
    simulator.slow(seconds=1)
    asked = {"image": [PHOTO, SECOND], "prompt": prompt(), **SMALL}

    async def ask():
        async with openai.AsyncOpenAI(
            base_url=setting("SUITE_FAULTY") + "/v1", api_key=setting("SUITE_KEY"), max_retries=0
        ) as client:
            return await asyncio.gather(*(client.images.with_raw_response.edit(**asked) for _ in range(2)))

    answers = asyncio.run(ask())
    assert sorted(answer.headers["x-gateway-cache"] for answer in answers) == ["joined", "miss"]
    assert simulator.submits == 1

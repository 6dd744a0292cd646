"""Edits by the official Python SDK with its own retries, many at once; prints as JSON what came of them.

    python3 calls.py BASE-URL KEY PREFIX CALLS IN-FLIGHT TIMEOUT-SECONDS PICTURE...
"""

import asyncio
import base64
import collections
import json
import pathlib
import sys

import openai


async def main(base, key, prefix, calls, in_flight, timeout, *pictures):
    pictures = [pathlib.Path(picture).read_bytes() for picture in pictures]
    outcomes = collections.Counter()
    numbers = iter(range(int(calls)))

    async def work(client):
        for number in numbers:
            outcomes[await edit(client, number)] += 1

    async def edit(client, number):
        try:
            answer = await client.images.edit(
                model="gpt-image-1.5",
                size="256x256",
                quality="low",
                image=("photo.png", pictures[number % len(pictures)], "image/png"),
                prompt=f"paint it blue: {prefix}-{number}, please",
            )
        except openai.APIStatusError as error:
            return f"{error.status_code} {error.code}"
        except openai.OpenAIError as error:
            return type(error).__name__
        assert base64.b64decode(answer.data[0].b64_json, validate=True).startswith(b"\x89PNG\r\n\x1a\n")
        return "picture"

    async with openai.AsyncOpenAI(base_url=base, api_key=key, timeout=float(timeout)) as client:
        assert client.max_retries == 2, "no longer the SDK's default"
        await asyncio.gather(*(work(client) for _ in range(int(in_flight))))
    print(json.dumps(outcomes))


asyncio.run(main(*sys.argv[1:]))

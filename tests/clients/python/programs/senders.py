"""Programs that cannot run here, by the bytes they send.

Each sender writes requests as one client does, down to header order, quoting and boundaries, and looks at the answer
for what that client needs of it. Where the shape comes from is said at each. What a client never does its sender cannot
do; tests/clients/lib/table.toml gives the reason for the empty cell.
"""

import asyncio
import base64
import http.client
import json
import secrets
import string
import urllib.parse
import uuid

import aiohttp
import requests

CRLF = b"\r\n"


class Answer:
    """What came back. `events` are the (name, data) pairs of a stream."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def events(self):
        blocks = self.body.decode().split("\n\n")
        lines = [block.split("\n") for block in blocks if block and not block.startswith(":")]
        return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in lines]


def posted(address, path, headers, body, timeout):
    """Sends the headers as they are. A body that is a list of pieces is sent in chunks."""
    at = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(at.hostname, at.port, timeout=timeout)
    try:
        connection.putrequest("POST", at.path + path, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if isinstance(body, bytes):
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
        else:
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            for piece in body:
                connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            connection.send(b"0\r\n\r\n")
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


def multipart(boundary, parts, end=CRLF):
    """The pieces of a form; a part is its header lines and its content."""
    for lines, content in parts:
        yield b"--" + boundary.encode() + CRLF + b"".join(line.encode() + CRLF for line in lines) + CRLF
        yield content
        yield CRLF
    yield b"--" + boundary.encode() + b"--" + end


class Sender:
    """One client. `can` are the columns of the table that it can fill."""

    name = version = None
    can = frozenset()
    # The model as such a client names it.
    model = "gpt-image-1.5"

    def edit(self, address, key, images, mask=None, timeout=30, **fields):
        """Sends an edit of these files, and gives the answer.

        Raises TimeoutError after `timeout` seconds without a byte.
        """
        raise NotImplementedError

    def generate(self, address, key, timeout=30, **fields):
        body = json.dumps(fields).encode()
        headers = [*self.headers(key), ("Content-Type", "application/json")]
        return posted(address, "/images/generations", headers, body, timeout)

    def headers(self, key):
        return [("Authorization", f"Bearer {key}")]

    def check(self, answer):
        """Looks at a good answer as the client does."""
        assert all(item["b64_json"] for item in answer["data"])

    def __repr__(self):
        return self.name


class Form(Sender):
    """Sends multipart forms. `part` and `file` give the header lines of a part; `bytes` does so for a nameless file."""

    chunked = False
    end = CRLF

    def boundary(self):
        return secrets.token_hex(15)

    def content_type(self, boundary):
        return f"multipart/form-data; boundary={boundary}"

    def part(self, name):
        raise NotImplementedError

    def file(self, name, path):
        raise NotImplementedError

    def nameless(self, name):
        raise NotImplementedError

    def image_field(self, images):
        return "image" if len(images) == 1 else "image[]"

    def file_part(self, name, image):
        if isinstance(image, bytes):
            return self.nameless(name), image
        return self.file(name, image), image.read_bytes()

    def texts(self, fields):
        return [(self.part(name), str(value).encode()) for name, value in fields.items()]

    def parts(self, images, mask, fields):
        files = [self.file_part(self.image_field(images), image) for image in images]
        masks = [self.file_part("mask", mask)] if mask else []
        return [*self.texts(fields), *files, *masks]

    def edit(self, address, key, images, mask=None, timeout=30, **fields):
        boundary = self.boundary()
        pieces = multipart(boundary, self.parts(images, mask, fields), self.end)
        headers = [*self.headers(key), ("Content-Type", self.content_type(boundary))]
        body = list(pieces) if self.chunked else b"".join(pieces)
        return posted(address, "/images/edits", headers, body, timeout)


class DotNet(Form):
    """openai-dotnet: recorded exchanges of its test suite, and MultiPartFormDataBinaryContent.cs in its repository."""

    name, version = "openai-dotnet", "2.13"
    can = frozenset({"edit", "bytes", "mask", "generate", "url", "errors", "retry", "waits"})

    def headers(self, key):
        accept = "application/json, text/event-stream"
        return [("Accept", accept), ("User-Agent", "OpenAI/2.13.0 (.NET 10.0.0; Ubuntu)"), *super().headers(key)]

    def boundary(self):
        # Always with the two that have to be quoted.
        alphabet = string.ascii_letters + string.digits + "=_"
        return "=_" + "".join(secrets.choice(alphabet) for _ in range(68))

    def content_type(self, boundary):
        return f'multipart/form-data; boundary="{boundary}"'

    def part(self, name):
        return ["Content-Type: text/plain; charset=utf-8", f"Content-Disposition: form-data; name={name}"]

    def file(self, name, path):
        place = f"Assets/{path.name}"
        starred = "utf-8''" + urllib.parse.quote(place, safe="").replace("%2F", "%2f")
        return [f'Content-Disposition: form-data; name={name}; filename="{place}"; filename*={starred}']

    def nameless(self, name):
        return [f"Content-Disposition: form-data; name={name}; filename=image.png; filename*=utf-8''image.png"]


class Go(Form):
    """openai-go: internal/apiform/encoder.go in its repository: fields in alphabetical order, nameless readers."""

    name, version = "openai-go", "3.52.0"
    can = frozenset({"edit", "list", "bytes", "mask", "generate", "url", "stream", "errors", "retry", "waits"})

    def headers(self, key):
        return [("User-Agent", "OpenAI/Go 3.52.0"), *super().headers(key), ("X-Stainless-Lang", "go")]

    def boundary(self):
        return secrets.token_hex(30)

    def part(self, name):
        return [f'Content-Disposition: form-data; name="{name}"']

    def file(self, name, path):
        return [
            f'Content-Disposition: form-data; name="{name}"; filename="{path.name}"',
            "Content-Type: application/octet-stream",
        ]

    def nameless(self, name):
        return [
            f'Content-Disposition: form-data; name="{name}"; filename="anonymous_file"',
            "Content-Type: application/octet-stream",
        ]

    def parts(self, images, mask, fields):
        return sorted(super().parts(images, mask, fields), key=lambda part: part[0][0].partition("name=")[2])


class Java(Form):
    """openai-java: HttpRequestBodies.kt in its repository: every part has a type, also text; the boundary is a UUID."""

    name, version = "openai-java", "4"
    can = frozenset({"edit", "list", "bytes", "mask", "generate", "url", "stream", "errors", "retry", "waits"})

    def headers(self, key):
        return [("User-Agent", "OpenAIClientImpl/Java"), *super().headers(key), ("X-Stainless-Lang", "java")]

    def boundary(self):
        return str(uuid.uuid4())

    def part(self, name):
        return [f'Content-Disposition: form-data; name="{name}"', "Content-Type: text/plain; charset=utf-8"]

    def file(self, name, path):
        return [
            f'Content-Disposition: form-data; name="{name}"; filename="{path.name}"',
            "Content-Type: application/octet-stream",
        ]

    def nameless(self, name):
        return [f'Content-Disposition: form-data; name="{name}"', "Content-Type: application/octet-stream"]


class Ruby(Form):
    """openai-ruby: lib/openai/internal/util.rb in its repository: typed text, no file name for what is not a file, sent
    in chunks."""

    name, version = "openai-ruby", "0.80.0"
    can = frozenset({"edit", "list", "bytes", "mask", "generate", "url", "stream", "errors", "retry", "waits"})
    chunked = True

    def headers(self, key):
        return [("User-Agent", "OpenAI::Client/Ruby 0.80.0"), *super().headers(key), ("x-stainless-timeout", "600.0")]

    def boundary(self):
        return secrets.token_urlsafe(46)

    def part(self, name):
        return [f'Content-Disposition: form-data; name="{name}"', "Content-Type: text/plain"]

    def file(self, name, path):
        return [
            f'Content-Disposition: form-data; name="{name}"; filename="{path.name}"',
            "Content-Type: application/octet-stream",
        ]

    def nameless(self, name):
        return [f'Content-Disposition: form-data; name="{name}"', "Content-Type: application/octet-stream"]


class AsyncOpenai(Form):
    """async-openai: types/images/form.rs in its repository: prompt first, no types, output_compression twice."""

    name, version = "async-openai", "0.43.0"
    can = frozenset({"edit", "list", "bytes", "mask", "generate", "url", "stream", "errors", "retry", "waits"})

    def boundary(self):
        return "-".join(secrets.token_hex(8) for _ in range(4))

    def part(self, name):
        return [f'Content-Disposition: form-data; name="{name}"']

    def file(self, name, path):
        return [f'Content-Disposition: form-data; name="{name}"; filename="{path.name}"']

    def nameless(self, name):
        return [f'Content-Disposition: form-data; name="{name}"; filename="bytes"']

    def parts(self, images, mask, fields):
        parts = super().parts(images, mask, {"prompt": fields.pop("prompt")})
        # The field comes twice whenever it is set.
        twice = {name: value for name, value in fields.items() if name == "output_compression"}
        return [*parts, *self.texts(fields), *self.texts(twice)]

    def check(self, answer):
        super().check(answer)
        assert isinstance(answer["created"], int) and answer["created"] < 2**32
        assert answer["quality"] in ("standard", "hd", "high", "medium", "low", "auto")
        assert answer["output_format"] in ("png", "jpeg", "webp")


class Codex(Sender):
    """Codex CLI: codex-rs/codex-api/src/endpoint/images.rs in its repository: JSON, data URLs, strict enums."""

    name, version = "Codex CLI", "0.169"
    can = frozenset({"edit", "list", "generate", "errors", "retry", "waits"})

    def edit(self, address, key, images, mask=None, timeout=30, **fields):
        urls = ["data:image/png;base64," + base64.b64encode(image.read_bytes()).decode() for image in images]
        body = {"images": [{"image_url": url} for url in urls], "background": "auto", **fields}
        headers = [*self.headers(key), ("Content-Type", "application/json"), ("Accept", "*/*")]
        return posted(address, "/images/edits", headers, json.dumps(body).encode(), timeout)

    def headers(self, key):
        return [
            ("authorization", f"Bearer {key}"),
            ("originator", "codex_cli_rs"),
            ("User-Agent", "codex_cli_rs/0.169.0"),
        ]

    def check(self, answer):
        super().check(answer)
        assert isinstance(answer["created"], int) and answer["created"] >= 0
        assert answer.get("quality", "auto") in ("low", "medium", "high", "auto")
        assert answer.get("background", "auto") in ("transparent", "opaque", "auto")


class OpenWebui(Sender):
    """Open WebUI: open_webui/routers/images.py of the PyPI package: aiohttp, typed text, response_format for every
    model whose name does not begin with gpt-image."""

    name, version = "Open WebUI", "0.12.4"
    can = frozenset({"edit", "list", "generate", "errors", "retry", "waits"})
    # An alias that does not begin so.
    model = "openai/gpt-image-1.5"

    def edit(self, address, key, images, mask=None, timeout=30, **fields):
        form = aiohttp.FormData()
        for name, value in {**fields, "response_format": "b64_json"}.items():
            form.add_field(name, str(value))
        for image in images:
            form.add_field(
                "image" if len(images) == 1 else "image[]",
                image.read_bytes(),
                filename=f"{uuid.uuid4()}.png",
                content_type="image/png",
            )
        return asyncio.run(self.post(f"{address}/images/edits", key, timeout, data=form))

    def generate(self, address, key, timeout=30, **fields):
        # Its default, whatever the model.
        body = {**fields, "n": 1, "size": "512x512", "response_format": "b64_json"}
        return asyncio.run(self.post(f"{address}/images/generations", key, timeout, json=body))

    async def post(self, url, key, timeout, **body):
        headers = {"Authorization": f"Bearer {key}", "X-OpenWebUI-User-Name": "Ada", "X-OpenWebUI-User-Role": "admin"}
        async with aiohttp.ClientSession(trust_env=True, timeout=aiohttp.ClientTimeout(sock_read=timeout)) as session:
            async with session.post(url, headers=headers, **body) as answer:
                return Answer(answer.status, answer.headers, await answer.read())


class ComfyNode(Sender):
    """ComfyUI nodes with a base address of their own: `requests`, with seed and moderation as ComfyUI's own node sends
    them (comfy_api_nodes/nodes_openai.py)."""

    name, version = "ComfyUI nodes", "requests"
    can = frozenset({"edit", "list", "bytes", "mask", "generate", "url", "errors", "retry", "waits"})

    def edit(self, address, key, images, mask=None, timeout=30, **fields):
        name = "image" if len(images) == 1 else "image[]"
        files = [(name, ("image.png", self.content(image), "image/png")) for image in images]
        if mask:
            files.append(("mask", ("mask.png", self.content(mask), "image/png")))
        fields = {**fields, "seed": 1234567890, "moderation": "low"}
        return self.post(f"{address}/images/edits", key, timeout, data=fields, files=files)

    def generate(self, address, key, timeout=30, **fields):
        body = {**fields, "seed": 1234567890, "moderation": "low"}
        return self.post(f"{address}/images/generations", key, timeout, json=body)

    def content(self, image):
        return image if isinstance(image, bytes) else image.read_bytes()

    def post(self, url, key, timeout, **body):
        try:
            answer = requests.post(url, headers={"Authorization": f"Bearer {key}"}, timeout=timeout, **body)
        except requests.Timeout as error:
            raise TimeoutError from error
        return Answer(answer.status_code, answer.headers, answer.content)


SENDERS = [DotNet(), Go(), Java(), Ruby(), AsyncOpenai(), Codex(), OpenWebui(), ComfyNode()]

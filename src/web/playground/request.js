// A request as the page sends it, and the same request as code for other programs.
import { validAddress } from "./api.js";

/**
 * Returns the route and the options for fetch. `pictures` and `mask` are as pictures.js has them. Results are asked for as
 * addresses, so that answers are small.
 */
export async function encode({ prompt, values, pictures, mask, anew }) {
  await Promise.all(pictures.filter(({ file }) => !file).map(validAddress));
  const headers = anew ? { "cache-control": "no-cache" } : {};
  const fields = { ...values, prompt, response_format: "url" };
  if (!pictures.length || (pictures.every(({ address }) => address) && !mask)) {
    const body = { ...fields, n: Number(values.n ?? 1) };
    if (pictures.length) body.images = pictures.map(({ address }) => ({ image_url: address }));
    return {
      route: pictures.length ? "v1/images/edits" : "v1/images/generations",
      options: { method: "POST", headers: { ...headers, "content-type": "application/json" }, body: JSON.stringify(body) },
    };
  }
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  for (const { file, address, name } of pictures) file ? form.append("image[]", file, name) : form.append("image[]", address);
  if (mask) form.append("mask", mask.blob, "mask.png");
  return { route: "v1/images/edits", options: { method: "POST", headers, body: form } };
}

/** Whether two requests are the same, with the same pictures as the page has them. */
export function isSame(one, other) {
  const words = ({ prompt, values, anew }) => JSON.stringify([prompt, values, anew]);
  return words(one) === words(other) && one.mask === other.mask
    && one.pictures.length === other.pictures.length && one.pictures.every((picture, at) => picture === other.pictures[at]);
}

/** Returns about how many bytes a request sends. */
export const sizeOf = ({ prompt, pictures, mask }) => pictures.reduce((sum, { file }) => sum + (file?.size ?? 0), prompt.length + (mask?.blob.size ?? 0));

/** Returns what is kept of a request beside its job: everything but the bytes. */
export const described = ({ prompt, values, pictures, mask, anew }) => ({
  prompt, values, anew, mask: Boolean(mask), pictures: pictures.map(({ name, address }) => ({ name, address })),
});

/** Names a job by its prompt, where that is known. */
export const nameOf = ({ prompt, task, model }) => prompt ?? `${task === "edit" ? "Edit" : "Picture"} by ${model}`;

/** Returns what is known of a request that this tab has not sent: its prompt or a name, and not what makes it the same again. */
export const recovered = (prediction) => ({ prompt: nameOf(prediction) });

/** The kinds of code, by the name of their tab. */
export const CODE = { curl, Python: python, Node: node };

const base = () => new URL("v1", document.baseURI).href;
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const quoted = (text) => JSON.stringify(text);
const byAddress = ({ pictures, mask }) => pictures.length > 0 && !mask && pictures.every(({ address }) => address);
const numbers = (values) => Object.entries(values).map(([name, value]) => [name, name === "n" ? Number(value) : value]);

function json(request) {
  const body = { ...Object.fromEntries(numbers(request.values)), prompt: request.prompt };
  if (request.pictures.length) body.images = request.pictures.map(({ address }) => ({ image_url: address }));
  return JSON.stringify(body, null, 2);
}

const isOne = ({ values }) => Number(values.n ?? 1) === 1;
const ending = ({ values }) => values.output_format ?? "png";
const route = ({ pictures }) => (pictures.length ? "images/edits" : "images/generations");

function curl(request) {
  const lines = [`curl -sS --fail-with-body ${base()}/${route(request)}`, `-H "Authorization: Bearer $GATEWAY_KEY"`];
  if (request.anew) lines.push("-H 'Cache-Control: no-cache'");
  if (!request.pictures.length || byAddress(request)) {
    lines.push("-H 'Content-Type: application/json'", `-d ${shell(json(request))}`);
  } else {
    const field = ([name, value]) => `--form-string ${shell(`${name}=${value}`)}`;
    lines.push(...Object.entries({ ...request.values, prompt: request.prompt }).map(field));
    for (const { name, address } of request.pictures) {
      lines.push(address ? `--form-string ${shell(`image[]=${address}`)}` : `-F ${shell(`image[]=@"${name.replace(/["\\]/g, "\\$&")}"`)}`);
    }
    if (request.mask) lines.push("-F 'mask=@mask.png'");
  }
  const save = isOne(request)
    ? `jq -r '.data[0].b64_json' answer.json | base64 -d > result.${ending(request)}`
    : `for i in $(jq -r '.data | keys[]' answer.json); do jq -r ".data[$i].b64_json" answer.json | base64 -d > "result-$((i + 1)).${ending(request)}"; done`;
  return `${lines.join(" \\\n  ")} > answer.json \\\n  && ${save} \\\n  || { jq .error answer.json >&2; false; }\n`;
}

function python(request) {
  const head = `import base64, os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url=${quoted(base())}, api_key=os.environ["GATEWAY_KEY"])\n`;
  const save = isOne(request)
    ? `with open("result.${ending(request)}", "wb") as file:\n    file.write(base64.b64decode(result.data[0].b64_json))\n`
    : `for number, picture in enumerate(result.data, 1):\n    with open(f"result-{number}.${ending(request)}", "wb") as file:\n        file.write(base64.b64decode(picture.b64_json))\n`;
  const options = numbers(request.values).map(([name, value]) => `    ${name}=${typeof value === "number" ? value : quoted(value)},`);
  if (request.anew) options.push('    extra_headers={"Cache-Control": "no-cache"},');
  if (!request.pictures.length) return `${head}result = client.images.generate(\n    prompt=${quoted(request.prompt)},\n${options.join("\n")}\n)\n${save}`;
  if (byAddress(request)) {
    const body = json(request).replaceAll("\n", "\n    ");
    return `${head.replace("import OpenAI\n", "import OpenAI\nfrom openai.types import ImagesResponse\n")}result = client.post(\n    "/images/edits",\n    cast_to=ImagesResponse,\n    body=${body},\n${request.anew ? '    options={"headers": {"Cache-Control": "no-cache"}},\n' : ""})\n${save}`;
  }
  const own = request.pictures.filter(({ address }) => address).map(({ address }) => quoted(address));
  const files = request.pictures.filter(({ address }) => !address).map(({ name }) => `open(${quoted(name)}, "rb")`);
  // The package has no addresses of pictures; the gateway reads these from its own store.
  if (own.length) options.push(`    extra_body={"image_url": [${own.join(", ")}]},`);
  if (request.mask) options.push('    mask=open("mask.png", "rb"),');
  return `${head}result = client.images.edit(\n    image=[${files.join(", ")}],\n    prompt=${quoted(request.prompt)},\n${options.join("\n")}\n)\n${save}`;
}

function node(request) {
  const head = `import fs from "node:fs";\nimport OpenAI, { toFile } from "openai";\n\nconst client = new OpenAI({ baseURL: ${quoted(base())}, apiKey: process.env.GATEWAY_KEY });\n`;
  const save = isOne(request)
    ? `fs.writeFileSync("result.${ending(request)}", Buffer.from(result.data[0].b64_json, "base64"));\n`
    : `result.data.forEach((picture, at) => fs.writeFileSync(\`result-\${at + 1}.${ending(request)}\`, Buffer.from(picture.b64_json, "base64")));\n`;
  const headers = request.anew ? `, { headers: { "Cache-Control": "no-cache" } }` : "";
  const fields = [`  prompt: ${quoted(request.prompt)},`, ...numbers(request.values).map(([name, value]) => `  ${name}: ${quoted(value)},`)];
  if (!request.pictures.length) return `${head.replace(", { toFile }", "")}const result = await client.images.generate({\n${fields.join("\n")}\n}${headers});\n${save}`;
  if (byAddress(request)) {
    return `${head.replace(", { toFile }", "")}const result = await client.post("/images/edits", {\n  body: ${json(request).replaceAll("\n", "\n  ")},\n${request.anew ? '  headers: { "Cache-Control": "no-cache" },\n' : ""}});\n${save}`;
  }
  const file = ({ name, address }) => (address ? `await toFile(await fetch(${quoted(address)}), "input.png")` : `await toFile(fs.createReadStream(${quoted(name)}))`);
  fields.unshift(`  image: [${request.pictures.map(file).join(", ")}],`);
  if (request.mask) fields.push('  mask: await toFile(fs.createReadStream("mask.png")),');
  return `${head}const result = await client.images.edit({\n${fields.join("\n")}\n}${headers});\n${save}`;
}

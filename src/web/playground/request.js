// A request as the page sends it, and the same request as code for other programs.

/**
 * Returns the route and the options for fetch. `pictures` and `mask` are as pictures.js has them. Results are asked for as
 * addresses, so that answers are small.
 */
export function encode({ prompt, values, pictures, mask, anew }) {
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

/** Returns what is kept of a request beside its job: everything but the bytes. */
export const described = ({ prompt, values, pictures, mask, anew }) => ({
  prompt, values, anew, mask: Boolean(mask), pictures: pictures.map(({ name, address }) => ({ name, address })),
});

/** Returns what is known of the request of a job that another program made. */
export function recovered(prediction) {
  const { model, size, quality, n } = prediction;
  const values = Object.fromEntries(Object.entries({ model, size, quality, n: String(n ?? 1) }).filter(([, value]) => value));
  const pictures = Array.from({ length: prediction.inputs ?? 0 }, (_, at) => ({ name: `picture-${at + 1}.png` }));
  return { prompt: prediction.prompt ?? "…", values, pictures, mask: false, anew: false };
}

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

const route = ({ pictures }) => (pictures.length ? "images/edits" : "images/generations");

function curl(request) {
  const lines = [`curl -s ${base()}/${route(request)}`, `-H "Authorization: Bearer $GATEWAY_KEY"`];
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
  return `${lines.join(" \\\n  ")} \\\n  | jq -r '.data[0].b64_json' | base64 -d > result.png\n`;
}

function python(request) {
  const head = `import base64, os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url=${quoted(base())}, api_key=os.environ["GATEWAY_KEY"])\n`;
  const save = `with open("result.png", "wb") as file:\n    file.write(base64.b64decode(result.data[0].b64_json))\n`;
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
  const save = `fs.writeFileSync("result.png", Buffer.from(result.data[0].b64_json, "base64"));\n`;
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

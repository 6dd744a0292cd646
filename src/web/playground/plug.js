// "Pull the plug": a request is held open, its connection is broken in the middle of the edit, and the same request is sent again.
// The page shows what the gateway's headers say, whatever that is.
import { dollars, duration, fill, make } from "./dom.js";
import { call, costOf, getJson, now, thumbnail } from "./api.js";
import { newestJobs, problem } from "./jobs.js";
import { encode } from "./request.js";

/** How long the page waits for the edit to be under way before it breaks the connection anyway, in seconds. */
const PATIENCE = 120;
/** When the connection is broken: in this part of the expected time, within bounds in seconds. */
const MIDDLE = 0.4;
const [SOONEST, LATEST] = [1.5, 10];
const SAMPLES = ["make it a winter night", "turn it into a sunset", "as an ink drawing", "in sepia, as an old photograph", "a neon city at night", "covered with fresh snow"];

const STEPS = ["Ask, and wait for the answer", "Break the connection in the middle", "Ask again with the same request"];

/** Fills the panel. `filled` returns the request of the form, or null; `changed` is called when a job may have ended. */
export function setUp(panel, { filled, defaults, priceOf, changed }) {
  const lines = STEPS.map(() => make("p", { class: "muted small number" }));
  const steps = STEPS.map((name, at) => make("li", {}, make("h3", {}, name), lines[at]));
  const verdict = make("div", { role: "status", class: "verdict" });
  const button = make("button", { type: "button", class: "primary" }, "Pull the plug");
  const about = make("span", { class: "hint" });
  let running = false;

  const refresh = () => {
    const request = filled();
    const price = priceOf(one(request ?? { values: defaults() }).values);
    about.textContent = `${request ? "Uses the request above" : "Uses a sample picture"}${price === null ? "" : `; it buys at most one picture, about ${dollars(price)}`}.`;
  };
  const mark = (at, text, state) => {
    steps.forEach((step, other) => (other === at ? step.setAttribute("aria-current", "step") : step.removeAttribute("aria-current")));
    steps[at].className = state;
    lines[at].textContent = text;
  };

  button.addEventListener("click", async () => {
    if (running) return;
    running = true;
    button.setAttribute("aria-disabled", "true");
    verdict.replaceChildren();
    steps.forEach((step, at) => mark(at, "", ""));
    try {
      const request = one(filled() ?? (await sample(defaults())));
      fill(verdict, await story(request, mark, priceOf(request.values)));
    } catch (error) {
      steps.forEach((step) => step.removeAttribute("aria-current"));
      fill(verdict, problem(error, "The demonstration ended early"));
    }
    running = false;
    button.removeAttribute("aria-disabled");
    changed();
  });

  fill(panel,
    make("div", { class: "stack tight" },
      make("h2", { id: "plug-title" }, "Pull the plug"),
      make("p", { class: "muted" }, "What happens to your money when a connection breaks in the middle of an edit? See for yourself: this breaks a real one, and asks again.")),
    make("div", { class: "row" }, button, about),
    make("ol", { class: "plug-steps" }, steps),
    verdict);
  refresh();
  return refresh;
}

/** Returns the request for one picture: more would only cost more. */
const one = ({ values: { n, ...values }, ...request }) => ({ ...request, values, anew: false });

/** Plays the three steps, and returns what the last answer says. */
async function story(request, mark, price) {
  const { route, options } = await encode(request);
  const before = new Set((await newestJobs()).map(({ id }) => id));
  const connection = new AbortController();
  const begun = now();
  let early = null;
  let failure = null;
  const first = call(route, { ...options, signal: connection.signal }).then((response) => (early = response), (error) => (failure = error));

  // The connection is broken once the edit is being made: then it is paid for.
  let job = null;
  while (!early && !failure && now() - begun < PATIENCE) {
    mark(0, `Waiting for ${duration(now() - begun)}${job ? `: ${job.status}` : ""} …`, "");
    job = (await newestJobs()).find(({ id }) => !before.has(id)) ?? job;
    const expected = job?.expected_completion ? (job.expected_completion - job.created) * MIDDLE : 0;
    const due = now() - begun >= Math.min(LATEST, Math.max(SOONEST, expected));
    if (due && (job?.status === "processing" || job?.status === "completed")) break;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  if (failure) throw failure;
  const wasEarly = early !== null;
  const wasStored = early?.headers.get("x-gateway-cache") === "hit";
  const stage = job?.status === "processing" || job?.status === "completed" ? "The picture is being made" : "The picture is not being made yet";
  mark(0, wasEarly ? `Answered after ${duration(now() - begun)}` : `${stage}, ${duration(now() - begun)} after asking`, "done");
  if (wasEarly) {
    mark(1, `Too late: the answer was already here.${wasStored ? " Change the prompt to see a connection break." : ""}`, "");
  } else {
    connection.abort();
    await first;
    mark(1, `Connection broken after ${duration(now() - begun)}; no answer arrived`, "broken");
  }
  await new Promise((resolve) => setTimeout(resolve, 600));

  const repeated = now();
  let answer = null;
  const asking = call(route, options).then((response) => (answer = response));
  const clock = setInterval(() => answer ?? mark(2, `Waiting for ${duration(now() - repeated)} …`, ""), 500);
  try {
    await asking;
  } finally {
    clearInterval(clock);
  }
  const result = await answer.json();
  mark(2, `Answered after ${duration(now() - repeated)}`, "done");
  const id = answer.headers.get("x-gateway-prediction");
  const made = await getJson(`v1/predictions/${id}?response_format=url`).catch(() => null);
  return verdictOf(answer, { wasStored, id, known: job?.id, cost: made?.cost_usd, estimated: made?.cost_estimated, price, request, picture: result.data?.[0]?.url });
}

/** Says what the headers of the second answer say. `wasStored`: the first one came from the store, too. */
function verdictOf(answer, { wasStored, id, cost, estimated, price, request, picture }) {
  const source = answer.headers.get("x-gateway-cache");
  const spent = costOf(answer.headers);
  const once = typeof cost === "number" && cost > 0 ? `${estimated ? "about " : ""}${dollars(cost)}` : price === null ? "a picture" : `about ${dollars(price)}`;
  const saved = source === "joined" || source === "hit";
  const texts = {
    joined: ["The second request joined the edit that the first one had started, and got its picture."],
    hit: [wasStored ? "The picture was already there, from the store." : "The edit was done when the second request came: it got the stored picture."],
    miss: ["The second request was answered by a new purchase."],
    bypass: ["The store was not asked: caching is off for this request."],
  };
  return [
    make("div", { class: `note ${saved ? "good" : "warn"} plug-result` },
      picture && make("img", { src: thumbnail(picture, 512), alt: `Result: ${request.prompt}` }),
      make("div", { class: "stack tight" },
        make("p", { class: "headline" }, wasStored && saved ? `${source}: answered from the store, nothing bought` : saved ? `${source}: ${once} not spent twice` : `${source ?? "unknown"}: ${once} spent`),
        make("p", {}, texts[source]?.[0] ?? "The answer does not say where it comes from."),
        make("p", { class: "small muted" },
          [`x-gateway-cache: ${source}`, spent && `x-gateway-cost-usd: ${spent.usd}`, id].filter(Boolean).join(" · ")))),
  ];
}

/**
 * Returns a request for when the form has none: a small landscape that is drawn here, and one of a few prompts. The sun is never in the
 * same place, so that no stored picture is the answer.
 */
export async function sample(values) {
  const canvas = make("canvas", { width: 768, height: 512 });
  const paint = canvas.getContext("2d");
  const sky = paint.createLinearGradient(0, 0, 0, 360);
  sky.addColorStop(0, "#5fa8e6");
  sky.addColorStop(1, "#e4f1fb");
  const shape = (colour, draw) => {
    paint.fillStyle = colour;
    paint.beginPath();
    draw();
    paint.fill();
  };
  shape(sky, () => paint.rect(0, 0, 768, 512));
  shape("#fff3b8", () => paint.arc(420 + Math.random() * 300, 70 + Math.random() * 60, 48, 0, 7));
  shape("#7c93b8", () => paint.lineTo(0, 360) ?? [[170, 170], [300, 300], [450, 130], [768, 380], [768, 512], [0, 512]].forEach(([x, y]) => paint.lineTo(x, y)));
  shape("#5c9a58", () => paint.ellipse(250, 520, 520, 190, 0, 0, 7));
  shape("#3f7d45", () => paint.ellipse(700, 560, 420, 190, 0, 0, 7));
  shape("#b5533c", () => paint.rect(180, 300, 130, 90));
  shape("#7a3527", () => [[165, 305], [245, 240], [325, 305]].forEach(([x, y]) => paint.lineTo(x, y)));
  const file = new File([await new Promise((resolve) => canvas.toBlob(resolve, "image/png"))], "landscape.png", { type: "image/png" });
  const prompt = SAMPLES[Math.floor(Math.random() * SAMPLES.length)];
  return { prompt, values, pictures: [{ file, name: "landscape.png" }], mask: null, anew: false };
}

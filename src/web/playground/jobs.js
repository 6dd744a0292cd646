// Jobs of this page: sending a request, following its job until the end, and finding the jobs again after the page was left.
import { byId, dollars, duration, fill, make } from "./dom.js";
import { ApiError, ConnectionError, call, costOf, getJson, keyMark, now, readEvents, send } from "./api.js";
import { described, encode, recovered } from "./request.js";
import { showResult } from "./result.js";

/** Jobs that this tab remembers, and those of them that are followed by a stream: a browser has few connections to a host. */
const REMEMBERED = 12;
const STREAMS = 2;
const STAGES = { queued: "Waiting for its turn", submitting: "Being submitted", processing: "Being made" };

const jobs = new Map();
let streams = 0;
let ended = () => {};

/** `listener` is called when a job has ended. */
export function setUp(listener) {
  ended = listener;
  setInterval(() => jobs.forEach((job) => job.status && job.card && tick(job)), 1000);
}

const place = () => `jobs-${keyMark()}`;
const remembered = () => JSON.parse(sessionStorage.getItem(place()) ?? "[]");

function remember({ id, request, before, source, cost }) {
  const entry = { id, request, before, source, cost };
  let list = [entry, ...remembered().filter((other) => other.id !== id)].slice(0, REMEMBERED);
  for (;;) {
    try {
      return sessionStorage.setItem(place(), JSON.stringify(list));
    } catch {
      // The storage of a tab is small: the oldest copies of inputs go first.
      const last = list.findLastIndex((other) => other.before);
      if (last >= 0) list[last] = { ...list[last], before: null };
      else if (list.length > 1) list = list.slice(0, -1);
      else return undefined;
    }
  }
}

export function forget(id) {
  sessionStorage.setItem(place(), JSON.stringify(remembered().filter((other) => other.id !== id)));
  jobs.get(id)?.card?.remove();
  jobs.delete(id);
  showEmpty();
}

/** Says a change of state to screen readers, and in the title of the page. */
function announce(text, title = text) {
  byId("announcement").textContent = text;
  document.title = `${title} · GPTProto gateway`;
}

const showEmpty = () => (byId("empty").hidden = byId("jobs").children.length > 0);

/** Adds a card in front. Of those that have ended the newest stays: the others are in the gallery. */
function newCard(job) {
  const over = [...jobs.values()].filter((other) => other !== job && other.status === null && other.card?.isConnected);
  for (const other of over.toSorted((a, b) => b.since - a.since).slice(1)) {
    other.card.remove();
    jobs.delete(other.id);
  }
  job.card = make("article", { class: "card job stack", "aria-label": `Job: ${job.request.prompt}`, tabIndex: -1 });
  byId("jobs").prepend(job.card);
  showEmpty();
}

/** Finds jobs again: those that this tab remembers, and those that are under way. */
export async function findAgain() {
  jobs.clear();
  byId("jobs").replaceChildren();
  const known = remembered();
  const running = await getJson("v1/predictions?limit=10&status=queued,submitting,processing");
  for (const prediction of running.data) {
    if (!known.some(({ id }) => id === prediction.id)) known.unshift({ id: prediction.id, request: recovered(prediction), before: null });
  }
  const last = known.find(({ id }) => !running.data.some((prediction) => prediction.id === id));
  // The last result, and all that is under way. The others are in the gallery.
  for (const entry of known.toReversed()) {
    const prediction = running.data.find(({ id }) => id === entry.id);
    if (prediction) {
      const job = { ...entry, status: prediction.status, since: prediction.created, prediction };
      jobs.set(job.id, job);
      newCard(job);
      showProgress(job);
      follow(job);
    } else if (entry === last) {
      await open(entry.id, { quiet: true });
    }
  }
  showEmpty();
}

/** Shows a job of any age, with what this tab remembers of its request. */
export async function open(id, { quiet = false } = {}) {
  const entry = remembered().find((other) => other.id === id) ?? { id };
  jobs.get(id)?.card?.remove();
  try {
    const prediction = await getJson(`v1/predictions/${id}?response_format=url`);
    const job = { ...entry, request: entry.request ?? recovered(prediction), since: prediction.created };
    jobs.set(id, job);
    newCard(job);
    show(job, prediction);
    if (!quiet) job.card.focus({ preventScroll: false });
  } catch (error) {
    if (!quiet) throw error;
    forget(id);
  }
}

/** Sends a request. Throws what the gateway refuses at once. */
export async function submit(request, before) {
  const job = { request: described(request), before, since: now(), status: "sending" };
  newCard(job);
  showProgress(job);
  announce("Sending the request", "Sending");
  job.card.scrollIntoView({ block: "nearest" });
  try {
    const { route, options } = encode(request);
    const response = await call(route, { ...options, headers: { ...options.headers, prefer: "respond-async" } });
    job.id = response.headers.get("x-gateway-prediction");
    job.source = response.headers.get("x-gateway-cache");
    job.cost = costOf(response.headers);
    // The same request again is the same job: it has one card.
    jobs.get(job.id)?.card.remove();
    jobs.set(job.id, job);
    remember(job);
    if (response.status === 202) {
      job.prediction = await response.json();
      job.status = job.prediction.status;
      showProgress(job);
      await follow(job);
    } else {
      show(job, await getJson(`v1/predictions/${job.id}?response_format=url`));
    }
  } catch (error) {
    if (!job.id) {
      job.card.remove();
      showEmpty();
      announce("The request was refused", "Refused");
      throw error;
    }
    showFailure(job, error);
  }
  ended();
}

/** Follows a job until it has ended: by events, or by asking where all streams are taken. Lost connections are made again. */
async function follow(job) {
  for (let pause = 1; jobs.get(job.id) === job; ) {
    try {
      if (streams < STREAMS) await followByEvents(job);
      else await new Promise((resolve) => setTimeout(resolve, 2000));
      const prediction = await getJson(`v1/predictions/${job.id}?response_format=url`);
      job.lost = null;
      pause = 1;
      if (!STAGES[prediction.status]) {
        show(job, prediction);
        return ended();
      }
      update(job, prediction);
      await new Promise((resolve) => setTimeout(resolve, 1000));
    } catch (error) {
      if (error instanceof ApiError && error.status < 500 && error.status !== 429) return showFailure(job, error);
      job.lost = error instanceof ConnectionError ? error.message : "The connection broke. The job goes on; this page asks again.";
      tick(job);
      await new Promise((resolve) => setTimeout(resolve, pause * 1000));
      pause = Math.min(10, pause * 2);
    }
  }
}

async function followByEvents(job) {
  streams += 1;
  try {
    const response = await call(`v1/predictions/${job.id}`, { headers: { accept: "text/event-stream" } });
    job.lost = null;
    await readEvents(response, (event, data) => {
      if (event === "prediction.status" && STAGES[data.status]) update(job, data);
      if (data.b64_json) showArrival(job, data);
    });
  } finally {
    streams -= 1;
  }
}

/** Shows a picture as it arrives: a partial one, or one of several. */
function showArrival(job, { b64_json: encoded, output_format: format }) {
  const making = job.card.querySelector(".making");
  making?.classList.add("arrived");
  making?.querySelector("img")?.remove();
  making?.prepend(make("img", { src: `data:image/${format ?? "png"};base64,${encoded}`, alt: "Picture as it arrives" }));
}

function update(job, prediction) {
  const stage = job.status;
  job.prediction = prediction;
  job.status = prediction.status;
  if (stage !== job.status) showProgress(job);
  else tick(job);
}

/** Draws the card of a job under way. */
function showProgress(job) {
  const { request, status } = job;
  const bar = make("div", { class: "progress", role: "progressbar", "aria-label": "Progress" }, make("div", {}));
  const stages = ["sending", "queued", "submitting", "processing"];
  const names = ["Sent", "Queued", "Submitted", "Being made"];
  fill(job.card,
    make("div", { class: "row" }, make("h2", { class: "prompt" }, request.prompt),
      status === "queued" && make("button", { type: "button", class: "small end-of-row", onclick: () => cancel(job) }, "Cancel")),
    make("figure", { class: "making" },
      job.before ? make("img", { src: job.before, alt: "" }) : null),
    bar,
    make("p", { class: "row small number" }, make("span", { class: "elapsed" }), make("span", { class: "remaining end-of-row" })),
    make("ol", { class: "stages" }, names.map((name, at) =>
      make("li", { class: at < stages.indexOf(status) ? "done" : "", "aria-current": at === stages.indexOf(status) ? "step" : null }, name))),
    make("p", { class: "note warn lost", hidden: true }));
  if (STAGES[status]) announce(STAGES[status]);
  tick(job);
}

/** Updates the times of a card. The bar has a value only where the gateway knows one. */
function tick(job) {
  const bar = job.card.querySelector(".progress");
  if (!bar) return;
  const { progress = null, expected_completion: expected = null, queue_position: position = null } = job.prediction ?? {};
  const left = expected === null ? null : expected - now();
  const elapsed = now() - job.since;
  let part = progress;
  if (left !== null && left > 0) part = Math.max(part ?? 0, Math.min(99, Math.floor((elapsed / (elapsed + left)) * 100)));
  if (left !== null && left <= 0) part = null;
  bar.classList.toggle("unknown", part === null);
  if (part === null) bar.removeAttribute("aria-valuenow");
  else bar.setAttribute("aria-valuenow", part);
  bar.firstElementChild.style.width = part === null ? "" : `${part}%`;
  const stage = STAGES[job.status] ?? "Sending the request";
  job.card.querySelector(".elapsed").textContent = `${stage}${position ? `, number ${position} in the queue` : ""} · ${duration(elapsed)}`;
  const remaining = left === null ? "Remaining time not known yet" : left > 0 ? `about ${duration(Math.ceil(left))} left` : "longer than expected";
  job.card.querySelector(".remaining").textContent = job.status === "sending" ? "" : remaining;
  if (part !== null) document.title = `${part} % · GPTProto gateway`;
  const lost = job.card.querySelector(".lost");
  lost.hidden = !job.lost;
  lost.textContent = job.lost ?? "";
}

async function cancel(job) {
  try {
    await call(`v1/predictions/${job.id}`, { method: "DELETE" });
  } catch (error) {
    // Bought meanwhile: it goes on, and says so.
    job.lost = error.message;
    tick(job);
  }
}

/** Draws the card of a job that has ended. */
function show(job, prediction) {
  job.prediction = prediction;
  job.status = null;
  if (STAGES[prediction.status]) {
    job.status = prediction.status;
    showProgress(job);
    follow(job);
  } else if (prediction.status === "completed" && prediction.result) {
    showResult(job, prediction);
    announce("The picture is ready", "Done");
  } else {
    const error = prediction.error ?? { message: "The result is no longer stored. It was paid for once; the same request buys a new one." };
    showFailure(job, new ApiError(0, error, null), prediction);
  }
}

function showFailure(job, error, prediction = null) {
  job.status = null;
  const cancelled = prediction?.status === "cancelled";
  fill(job.card,
    make("div", { class: "row" }, make("h2", { class: "prompt" }, job.request.prompt),
      make("button", { type: "button", class: "small quiet end-of-row", onclick: () => forget(job.id) }, "Dismiss")),
    problem(error, cancelled ? "Cancelled" : "No picture", prediction));
  announce(cancelled ? "Cancelled" : `No picture: ${error.message}`, cancelled ? "Cancelled" : "Failed");
}

/** Returns a note that says what happened, whether it cost money, and what to do, by the gateway's own words. */
export function problem(error, title, prediction = null) {
  const facts = [error.code, error.param && `parameter ${error.param}`, error.prediction ?? prediction?.id, error.requestId && `request ${error.requestId}`];
  const cost = prediction?.cost_usd;
  return make("div", { class: "note bad stack tight" },
    make("p", {}, make("strong", {}, title)),
    make("p", {}, error.message),
    typeof cost === "number" && make("p", {}, cost === 0 ? "Nothing was bought." : `It cost ${prediction.cost_estimated ? "about " : ""}${dollars(cost)}.`),
    error.retryAfter && make("p", {}, `Try again in ${duration(error.retryAfter)}.`),
    make("p", { class: "small muted" }, facts.filter(Boolean).join(" · ")));
}

/** Returns the newest jobs of this client. */
export async function newestJobs() {
  const response = await send("v1/predictions?limit=20");
  return response.ok ? (await response.json()).data : [];
}

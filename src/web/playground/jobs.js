// Jobs of this page: sending a request, following its job until the end, and finding the jobs again after the page was left.
import { byId, bytes, dollars, duration, fill, make, short } from "./dom.js";
import { ApiError, ConnectionError, call, costOf, getJob, getJson, jobAddress, keyMark, now, readEvents, send, store } from "./api.js";
import { described, encode, isSame, recovered, sizeOf } from "./request.js";
import { resultOf } from "./result.js";

/** Jobs that this tab remembers, and those of them that are followed by a stream: a browser has few connections to a host. */
const REMEMBERED = 12;
const STREAMS = 2;
/** Characters of the tab's storage that are used for them: the draft needs some, too. */
const REMEMBERED_CHARS = 4_000_000;
const TITLE = document.title;
const STAGES = { queued: "Waiting for its turn", submitting: "Being submitted", processing: "Being made" };

const jobs = new Map();
/** Requests that are not answered yet. They have no id. */
const sending = new Set();
/** What this tab remembers, the newest first. */
let remembered = [];
let streams = 0;
let ended = () => {};

/** `listener` is called when a job has ended. */
export function setUp(listener) {
  ended = listener;
  setInterval(() => [...jobs.values(), ...sending].forEach((job) => job.status && job.card && tick(job)), 1000);
  addEventListener("beforeunload", (event) => sending.size && event.preventDefault());
  // The title says what happened while the tab was not looked at.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !sending.size && ![...jobs.values()].some(({ status }) => status)) document.title = TITLE;
  });
}

/** Ends the following of all jobs: the gateway does not accept the key. */
export const stop = () => jobs.clear();

const place = () => `jobs-${keyMark()}`;

function remember({ id, request, before, source, cost }) {
  keep([{ id, request, before, source, cost }, ...remembered.filter((other) => other.id !== id)].slice(0, REMEMBERED));
}

function keep(list) {
  remembered = list;
  let stored = [...list];
  for (;;) {
    const text = JSON.stringify(stored);
    if (text.length <= REMEMBERED_CHARS && store.set(place(), text)) return;
    // The storage of a tab is small: the oldest copies of inputs go first.
    const last = stored.findLastIndex((other) => other.before);
    if (last >= 0) stored[last] = { ...stored[last], before: null };
    else if (stored.length > 1) stored = stored.slice(0, -1);
    else return;
  }
}

/** Returns the prompt of a job, where this tab has sent it. */
export const promptOf = (id) => remembered.find((other) => other.id === id)?.request?.prompt;

export function forget(id) {
  keep(remembered.filter((other) => other.id !== id));
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
  job.card = make("article", { class: "card job stack", "aria-label": `Job: ${short(job.request.prompt)}`, tabIndex: -1 });
  byId("jobs").prepend(job.card);
  showEmpty();
}

/** Finds jobs again: those that this tab remembers, and those that are under way. */
export async function findAgain() {
  jobs.clear();
  byId("jobs").replaceChildren();
  remembered = JSON.parse(store.get(place()) ?? "[]");
  const known = [...remembered];
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
  const entry = remembered.find((other) => other.id === id) ?? { id };
  jobs.get(id)?.card?.remove();
  try {
    const prediction = await getJob(entry);
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
  if ([...sending].some(({ sent }) => isSame(sent, request))) return announce("This request is being sent already", "Sending");
  const connection = new AbortController();
  const job = { sent: request, request: described(request), before, since: now(), status: "sending", stop: () => connection.abort() };
  sending.add(job);
  newCard(job);
  showProgress(job);
  announce("Sending the request", "Sending");
  job.card.scrollIntoView({ block: "nearest" });
  try {
    const { route, options } = await encode(request);
    // With addresses that may have been renewed.
    job.request = described(request);
    const response = await call(route, { ...options, headers: { ...options.headers, prefer: "respond-async" }, signal: connection.signal });
    sending.delete(job);
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
      show(job, await getJob(job));
    }
  } catch (error) {
    sending.delete(job);
    if (!job.id) {
      job.card.remove();
      showEmpty();
      if (error.name === "AbortError") {
        announce("Cancelled");
        ended();
      } else {
        announce("The request was refused", "Refused");
      }
      throw error;
    }
    showFailure(job, error);
  }
  return ended();
}

/** Follows a job until it has ended: by events, or by asking where all streams are taken. Lost connections are made again. */
async function follow(job) {
  for (let pause = 1; jobs.get(job.id) === job; ) {
    try {
      if (streams < STREAMS) await followByEvents(job);
      else await new Promise((resolve) => setTimeout(resolve, 2000));
      const prediction = await getJob(job);
      job.lost = null;
      pause = 1;
      if (!STAGES[prediction.status]) {
        show(job, prediction);
        return ended();
      }
      update(job, prediction);
      await new Promise((resolve) => setTimeout(resolve, 1000));
    } catch (error) {
      // A job goes on without the key that has made it, so it has not failed.
      if (error.status === 401) return undefined;
      if (error instanceof ApiError && error.status < 500 && error.status !== 429) return showFailure(job, error);
      const what = error instanceof ConnectionError ? error.message : "The connection broke.";
      job.lost = `${what} The job goes on; this page asks again.`;
      tick(job);
      await new Promise((resolve) => setTimeout(resolve, pause * 1000));
      pause = Math.min(10, pause * 2);
    }
  }
}

async function followByEvents(job) {
  streams += 1;
  try {
    const response = await call(jobAddress(job), { headers: { accept: "text/event-stream" } });
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

/** Draws the card of a job. The focus stays in it. */
function draw(job, ...children) {
  const hasFocus = job.card.contains(document.activeElement);
  fill(job.card, ...children);
  if (hasFocus) (job.card.querySelector(".cancel") ?? job.card).focus({ preventScroll: true });
}

/** Draws the card of a job under way. */
function showProgress(job) {
  const { request, status } = job;
  const cancelIt = { sending: job.stop, queued: () => cancel(job) }[status];
  const bar = make("div", { class: "progress", role: "progressbar", "aria-label": "Progress" }, make("div", {}));
  const stages = ["sending", "queued", "submitting", "processing"];
  const names = [status === "sending" ? "Sending" : "Sent", "Queued", "Submitted", "Being made"];
  draw(job,
    make("div", { class: "row" }, make("h2", { class: "prompt" }, request.prompt),
      cancelIt && make("button", { type: "button", class: "small end-of-row cancel", onclick: cancelIt }, "Cancel")),
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
  job.card.querySelector(".remaining").textContent = job.status === "sending" ? `${bytes(sizeOf(job.sent))} to send` : remaining;
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
    draw(job, resultOf(job, prediction));
    announce("The picture is ready", "Done");
  } else {
    const error = prediction.error ?? { message: "The result is no longer stored. It was paid for once; the same request buys a new one." };
    showFailure(job, new ApiError(0, error, null), prediction);
  }
}

function showFailure(job, error, prediction = null) {
  job.status = null;
  const cancelled = prediction?.status === "cancelled";
  const dismiss = () => {
    const next = job.card.nextElementSibling ?? job.card.previousElementSibling ?? byId("prompt");
    forget(job.id);
    next.focus();
  };
  draw(job,
    make("div", { class: "row" }, make("h2", { class: "prompt" }, job.request.prompt),
      make("button", { type: "button", class: "small quiet end-of-row", onclick: dismiss }, "Dismiss")),
    problem(error, cancelled ? "Cancelled" : "No picture", prediction));
  announce(cancelled ? "Cancelled" : `No picture: ${error.message}`, cancelled ? "Cancelled" : "Failed");
}

/** Returns a note that says what happened, whether it cost money, and what to do, by the gateway's own words. */
export function problem(error, title, prediction = null) {
  const spent = spentText(prediction, error.message);
  const facts = [error.code, error.param && `parameter ${error.param}`, error.prediction ?? prediction?.id, error.requestId && `request ${error.requestId}`];
  return make("div", { class: "note bad stack tight" },
    make("p", {}, make("strong", {}, title)),
    make("p", {}, error.message),
    spent && make("p", {}, spent),
    error.retryAfter && make("p", {}, `Try again in ${duration(error.retryAfter)}.`),
    make("p", { class: "small muted" }, facts.filter(Boolean).join(" · ")));
}

/** Says what a job without a picture has cost, where that is known and its message does not say it; else "". */
function spentText(prediction, message) {
  const { cost_usd: cost, cost_estimated: isEstimated, status } = prediction ?? {};
  if (typeof cost !== "number" || (cost === 0 && /nothing was bought/i.test(message))) return "";
  if (cost === 0) return "Nothing was bought.";
  // The service does not say whether it charges for what has failed.
  return `${isEstimated ? (status === "completed" ? "It cost about" : "It may have cost about") : "It cost"} ${dollars(cost)}.`;
}

/** Returns the newest jobs of this client. */
export async function newestJobs() {
  const response = await send("v1/predictions?limit=20");
  return response.ok ? (await response.json()).data : [];
}

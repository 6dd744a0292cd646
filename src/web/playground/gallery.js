// The gallery: the client's own jobs, the newest first, with filters.
import { byId, clock, dollars, duration, fill, make, short } from "./dom.js";
import { call, getJson, thumbnail } from "./api.js";
import { forget, open, promptOf } from "./jobs.js";
import { resultPicture } from "./pictures.js";
import { nameOf } from "./request.js";

const PAGE = 24;
/** How far below the window the next page is loaded, in pixels. */
const MARGIN = 400;
const WORDS = { completed: "done", failed: "failed", cancelled: "cancelled", queued: "waiting", submitting: "being submitted", processing: "being made" };
const LOOKS = { completed: "good", failed: "bad", cancelled: "", queued: "accent", submitting: "accent", processing: "accent" };

let last = null;
let more = false;
/** Counts loads: an answer to an earlier question is dropped. */
let question = 0;
let loading = false;
/** The last page could not be loaded: the next attempt is a person's. */
let failed = false;
let arePromptsKept = true;
let isSetUp = false;

export function setUp(models) {
  fill(byId("filter-model"), make("option", { value: "" }, "every model"), models.map((id) => make("option", { value: id }, id)));
  if (isSetUp) return;
  isSetUp = true;
  let typing;
  byId("filter-text").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(reload, 300);
  });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const name of ["filter-model", "filter-state"]) byId(name).addEventListener("change", reload);
  byId("gallery-more").addEventListener("click", () => load());
  new IntersectionObserver((entries) => entries.some(({ isIntersecting }) => isIntersecting) && !failed && load(), { rootMargin: `${MARGIN}px` }).observe(byId("gallery-more"));
}

/** Loads the first page again. What is shown stays until the answer is there. */
export async function reload() {
  [last, more] = [null, true];
  question += 1;
  loading = false;
  await load();
}

async function load() {
  if (loading || !more) return;
  loading = true;
  const asked = question;
  try {
    const page = await getJson(`v1/predictions?${query(last)}`);
    if (asked !== question) return;
    failed = false;
    const items = byId("gallery-items");
    if (last === null) {
      items.replaceChildren();
      notePrompts(page.data);
    }
    items.append(...page.data.map(itemOf));
    [last, more] = [page.last_id ?? last, page.has_more && page.last_id !== null];
    showState();
  } catch (error) {
    if (asked !== question) return;
    failed = true;
    byId("gallery-state").textContent = `${error.message}${error.retryAfter ? ` Try again in ${duration(error.retryAfter)}.` : ""}`;
  }
  loading = false;
  const button = byId("gallery-more");
  button.hidden = !more;
  button.textContent = failed ? "Try again" : "More";
  // A page of few items leaves the button in sight, which is no change that the observer sees.
  if (more && !failed && button.getBoundingClientRect().top < innerHeight + MARGIN) load();
}

function query(after) {
  const filters = { after, q: byId("filter-text").value.trim(), model: byId("filter-model").value, status: byId("filter-state").value };
  return new URLSearchParams(Object.entries({ limit: String(PAGE), ...filters }).filter(([, value]) => value));
}

function showState() {
  const filters = query(null);
  const none = filters.size > 1
    ? `Nothing fits these filters.${filters.has("q") && !arePromptsKept ? " The gateway keeps no prompts (storage.keep_prompts), so a text finds ids alone." : ""}`
    : "Nothing yet. What you make appears here, also from other programs with this key.";
  byId("gallery-state").textContent = byId("gallery-items").children.length ? "" : none;
}

/** Notes whether the gateway keeps prompts, by the newest jobs. */
function notePrompts(jobs) {
  if (!jobs.length || query(null).size > 1) return;
  arePromptsKept = jobs.some(({ prompt }) => prompt !== null);
  byId("filter-text").placeholder = arePromptsKept ? "prompt or id" : "id";
}

/** Adds new jobs in front, and shows what has changed of the newest ones. What was scrolled to stays. */
export async function freshen() {
  const asked = question;
  const page = await getJson(`v1/predictions?${query(null)}`).catch(() => null);
  if (!page || asked !== question) return;
  notePrompts(page.data);
  const items = byId("gallery-items");
  page.data.forEach((job, at) => {
    const old = [...items.children].find((item) => item.dataset.id === job.id);
    if (!old) items.insertBefore(itemOf(job), items.children[at] ?? null);
    else if (old.dataset.status !== job.status) old.replaceWith(itemOf(job));
  });
  showState();
}

function itemOf(job) {
  const name = short(nameOf({ ...job, prompt: promptOf(job.id) ?? job.prompt }));
  const address = job.result?.data?.[0]?.url;
  const count = job.result?.data?.length ?? 0;
  const show = async () => {
    try {
      await open(job.id);
    } catch (error) {
      byId("gallery-state").textContent = error.message;
    }
  };
  const picture = address ? resultPicture({ job, index: 0, address }, (whole) => thumbnail(whole, 256), { alt: "", loading: "lazy", decoding: "async" }) : make("span", { class: "no-preview" }, WORDS[job.status]);
  const item = make("li", { class: "tile" },
    make("button", { type: "button", class: "tile-open", "aria-label": `Open ${name}, ${WORDS[job.status]}${count > 1 ? `, ${count} pictures` : ""}`, onclick: show },
      picture,
      count > 1 && make("span", { class: "badge count" }, `${count} pictures`)),
    make("p", { class: "tile-name", title: name }, name),
    make("p", { class: "small muted row" },
      make("span", { class: `badge ${LOOKS[job.status]}` }, WORDS[job.status]),
      make("span", {}, clock(job.created)),
      typeof job.cost_usd === "number" && make("span", { class: "number" }, dollars(job.cost_usd))));
  Object.assign(item.dataset, { id: job.id, status: job.status });
  item.firstElementChild.after(make("button", { type: "button", class: "tile-delete", "aria-label": `Delete ${name}`, title: "Delete", onclick: () => remove(job, item) }, "✕"));
  return item;
}

async function remove(job, item) {
  const underWay = ["queued", "submitting", "processing"].includes(job.status);
  const text = underWay ? "A job is cancelled while it is queued. One that is bought goes on, and is not refunded." : "Its pictures and its prompt are removed from the gateway. What it cost stays in the ledger.";
  if (!(await confirmed(underWay ? "Cancel this job?" : "Delete this job?", text, underWay ? "Cancel the job" : "Delete"))) return;
  try {
    await call(`v1/predictions/${job.id}`, { method: "DELETE" });
    const next = (item.nextElementSibling ?? item.previousElementSibling)?.querySelector(".tile-open");
    item.remove();
    forget(job.id);
    (next ?? byId("filter-text")).focus();
    byId("gallery-state").textContent = underWay ? "Cancelled." : "Deleted.";
  } catch (error) {
    byId("gallery-state").textContent = error.message;
  }
}

function confirmed(title, text, action) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = action;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

// The playground: the key, the request, and what hangs together.
import { byId, fill, make } from "./dom.js";
import { ApiError, ConnectionError, forgetKey, setUp as setUpApi, storedKey, store, useKey } from "./api.js";
import * as gallery from "./gallery.js";
import * as jobs from "./jobs.js";
import { editMask } from "./mask.js";
import { chosen, estimate, loadModels, model, priceText, takesMask } from "./models.js";
import * as pictures from "./pictures.js";
import * as plug from "./plug.js";

const DRAFT = "gateway-draft";
/** The key of every sandbox. */
const SANDBOX_KEY = "sk-sandbox";

let refreshPlug = () => {};

/** Returns the request that the form describes, or null while it has no prompt. */
function filled() {
  const prompt = byId("prompt").value.trim();
  if (!prompt) return null;
  const mask = takesMask() ? pictures.currentMask() : null;
  return { prompt, values: chosen(), pictures: [...pictures.pictures()], mask, anew: byId("anew").checked };
}

/** Updates what follows from the form: the button, the price, the state of the mask, the draft. */
function refresh() {
  const chosenPictures = pictures.pictures();
  byId("send").textContent = chosenPictures.length ? "Edit" : "Generate";
  byId("price").textContent = priceText(estimate());
  byId("pictures-hint").textContent = `Up to ${model().inputs_max} pictures. Without one, a picture is made from the prompt alone.`;
  store.set(DRAFT, JSON.stringify({ prompt: byId("prompt").value, values: chosen() }));
  const mask = pictures.currentMask();
  const maskButton = byId("thumbnails").querySelector(".mask");
  if (maskButton) {
    const obstacle = !takesMask() ? `${byId("model").value} takes no mask` : chosenPictures[0].isUnseen ? "The browser cannot show this picture" : "";
    maskButton.disabled = obstacle !== "";
    maskButton.title = obstacle || "Draw what may change";
  }
  byId("mask-state").hidden = !mask;
  if (mask) {
    fill(byId("mask-state"),
      make("span", { class: `badge ${takesMask() ? "accent" : "warn"}` }, takesMask() ? "Mask on the first picture" : `The mask is left out: ${byId("model").value} takes none`),
      make("button", { type: "button", class: "small quiet", onclick: () => pictures.setMask(null) }, "Remove mask"));
  }
  refreshPlug();
}

/** Shows a problem in the place of the former one, or none. */
function refuse(text) {
  showProblem(text && make("p", { class: "note bad" }, text));
}

function showProblem(...content) {
  fill(byId("request-problem"), content);
}

async function send() {
  showProblem();
  const request = filled();
  if (!request) {
    refuse("Say in the prompt what should be made.");
    byId("prompt").focus();
    return;
  }
  try {
    await jobs.submit(request, await pictures.keptCopy());
  } catch (error) {
    if (error.name === "AbortError") refuse("Cancelled. What had arrived already goes on, and is in the gallery.");
    else if (error instanceof ConnectionError) refuse("The connection broke before an answer came. Send the same request again: it joins the job if there is one, and buys nothing twice.");
    else showProblem(jobs.problem(error, "Refused", { cost_usd: error.prediction ? null : 0 }));
  }
}

function askForKey(problem = "") {
  byId("key-section").hidden = false;
  byId("workspace").hidden = true;
  byId("change-key").hidden = true;
  byId("key-problem").hidden = !problem;
  byId("key-problem").textContent = problem;
  byId("key").focus();
}

/** Tries a key, and opens the workspace with it. Returns whether that is open. */
async function enter(key) {
  const isStored = useKey(key);
  try {
    const draft = JSON.parse(store.get(DRAFT) ?? "{}");
    const models = await loadModels(refresh, draft.values);
    if (!models.length) throw new Error("This key may use no model of this gateway. Ask the operator which models it is for.");
    byId("prompt").value ||= draft.prompt ?? "";
    gallery.setUp(models);
  } catch (error) {
    // A key that is refused is asked for already.
    if (error instanceof ApiError && error.status === 401) return false;
    askForKey(error instanceof ConnectionError ? `${error.message} Press "Use key" to try again.` : error.message);
    byId("key").value = key;
    return false;
  }
  byId("key-section").hidden = true;
  byId("workspace").hidden = false;
  byId("change-key").hidden = false;
  refresh();
  if (!isStored) showProblem(make("p", { class: "note warn" }, "This browser keeps nothing for this page: the key is asked for again after a reload."));
  jobs.findAgain().catch((error) => showProblem(jobs.problem(error, "Earlier jobs cannot be shown")));
  gallery.reload();
  return true;
}

/** Says when this is a sandbox, and offers its key. */
async function lookAround(known) {
  const response = await fetch("health").catch(() => null);
  if (response?.headers.get("x-gateway-sandbox") !== "true") return;
  byId("sandbox").hidden = false;
  if (known || byId("key").value) return;
  byId("key").value = SANDBOX_KEY;
  byId("key-hint").textContent = "This is a sandbox, and its key is filled in. Real keys stay in this tab, and are forgotten when the tab closes.";
}

byId("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const key = byId("key").value.trim();
  byId("key").value = "";
  if (key && (await enter(key))) byId("prompt").focus();
});
byId("change-key").addEventListener("click", () => {
  // Prompts and copies of inputs belong to the key.
  store.clear();
  location.reload();
});
byId("request").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
byId("request").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  send();
});
byId("prompt").addEventListener("input", refresh);
byId("sample").addEventListener("click", async () => {
  const { prompt, pictures: [{ file }] } = await plug.sample(chosen());
  byId("prompt").value ||= prompt;
  pictures.addFiles([file], { anew: true });
  byId("send").focus();
});
setUpApi((problem) => {
  forgetKey();
  jobs.stop();
  askForKey(problem);
});
pictures.setUp(refresh, refuse, (item) => editMask(item, pictures.currentMask(), refuse));
jobs.setUp(gallery.freshen);
refreshPlug = plug.setUp(byId("plug"), { filled, defaults: chosen, priceOf: estimate, changed: gallery.freshen });

const key = storedKey();
lookAround(key);
if (key) enter(key);

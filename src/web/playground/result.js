// A result: compared with its input, and what can be done with it.
import { byId, dollars, duration, fill, make } from "./dom.js";
import { local } from "./api.js";
import { addResult } from "./pictures.js";
import { CODE } from "./request.js";

const SOURCES = {
  hit: ["from the store, nothing bought", "good"],
  joined: ["joined a purchase under way, nothing bought twice", "good"],
  miss: ["newly made", "accent"],
  bypass: ["newly made, the store was not asked", "accent"],
};

/** Draws the card of a completed job. */
export function showResult(job, prediction) {
  const made = prediction.result.data.filter(({ url }) => url).map(({ url }) => ({ address: url, shown: local(url) }));
  const stage = make("div", { class: "stage" });
  const choices = make("div", { class: "choices row", role: "group", "aria-label": "Pictures of this result" });
  const actions = make("div", { class: "row actions" });
  const choose = (at) => {
    const alt = `Result${made.length > 1 ? ` ${at + 1} of ${made.length}` : ""}: ${job.request.prompt}`;
    fill(stage, job.before ? comparison(job.before, made[at].shown, alt) : make("img", { class: "picture", src: made[at].shown, alt }));
    fill(actions, actionsFor(made[at], job, `${prediction.id}-${at + 1}`));
    [...choices.children].forEach((button, other) => button.setAttribute("aria-pressed", String(other === at)));
  };
  if (made.length > 1) {
    fill(choices, made.map(({ shown }, at) => make("button", { type: "button", class: "choice", "aria-pressed": "false", onclick: () => choose(at) },
      make("img", { src: `${shown}&width=128`, alt: `Picture ${at + 1}` }))));
  }
  fill(job.card,
    make("h2", { class: "prompt" }, job.request.prompt),
    stage, made.length > 1 && choices, actions,
    (prediction.warnings ?? []).map(({ message }) => make("p", { class: "note warn" }, message)),
    facts(job, prediction), code(job.request));
  if (made.length) choose(0);
  else fill(stage, make("p", { class: "note warn" }, "The result has no picture that can be shown."));
}

/** Returns input and result on top of each other, with a slider between them. */
function comparison(before, after, alt) {
  const result = make("img", { class: "picture", src: after, alt });
  const input = make("img", { class: "input", src: before, alt: "The input picture" });
  const frame = make("div", { class: "frame" }, result, input, make("span", { class: "handle", "aria-hidden": "true" }),
    make("span", { class: "tag left", "aria-hidden": "true" }, "Before"), make("span", { class: "tag right", "aria-hidden": "true" }, "After"));
  const slider = make("input", { type: "range", min: "0", max: "100", value: "30", "aria-label": "Before and after: how much of the input is shown" });
  const divide = () => frame.style.setProperty("--part", `${slider.value}%`);
  const follow = (event) => {
    const { left, width } = frame.getBoundingClientRect();
    slider.value = String(Math.round(((event.clientX - left) / width) * 100));
    divide();
  };
  slider.addEventListener("input", divide);
  frame.addEventListener("pointerdown", (event) => {
    frame.setPointerCapture(event.pointerId);
    follow(event);
  });
  frame.addEventListener("pointermove", (event) => event.buttons && follow(event));
  divide();
  return make("div", { class: "comparison stack tight" }, frame, slider);
}

function actionsFor({ address, shown }, job, name) {
  const again = () => {
    addResult(address, "the result");
    byId("prompt").focus();
    byId("prompt").select();
  };
  const said = make("span", { class: "hint", role: "status" });
  const ending = /\.(\w+)\?/.exec(shown)?.[1] ?? "png";
  return [
    make("button", { type: "button", onclick: again }, "Edit again"),
    make("a", { class: "button", href: shown, download: `${name}.${ending}` }, "Download"),
    // Copying needs a secure address: https, or this machine.
    navigator.clipboard?.write && make("button", { type: "button", onclick: () => copy(shown, said) }, "Copy"),
    make("a", { class: "button", href: shown, target: "_blank", rel: "noopener" }, "Full size"),
    said,
  ];
}

async function copy(address, said) {
  try {
    const png = (async () => {
      const picture = make("img", { src: address });
      await picture.decode();
      const canvas = make("canvas", { width: picture.naturalWidth, height: picture.naturalHeight });
      canvas.getContext("2d").drawImage(picture, 0, 0);
      return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    })();
    await navigator.clipboard.write([new ClipboardItem({ "image/png": png })]);
    said.textContent = "Copied.";
  } catch {
    said.textContent = "The browser did not allow copying. Use Download.";
  }
}

function facts(job, prediction) {
  const [source, look] = SOURCES[job.source] ?? [null, ""];
  const nothingBought = job.source === "hit" || job.source === "joined";
  const full = typeof prediction.cost_usd === "number" ? `${prediction.cost_estimated ? "about " : ""}${dollars(prediction.cost_usd)}` : null;
  const price = nothingBought ? `$0${full && prediction.cost_usd ? ` (${full} when it was bought)` : ""}` : (full ?? "not known");
  const made = prediction.completed_at && prediction.created ? duration(prediction.completed_at - prediction.created) : null;
  const rows = { Price: price, Time: made, Model: prediction.model, Size: prediction.result.size ?? prediction.size, Quality: prediction.quality, Job: prediction.id };
  return make("div", { class: "stack tight" },
    source && make("p", {}, make("span", { class: `badge ${look}` }, `${job.source}: ${source}`)),
    make("dl", { class: "facts" }, Object.entries(rows).filter(([, value]) => value).map(([name, value]) =>
      make("div", {}, make("dt", {}, name), make("dd", { class: "number" }, value)))));
}

/** Returns the request as code, one tab for each kind. */
function code(request) {
  const text = make("pre", { class: "code", tabIndex: 0, "aria-label": "Code" });
  const said = make("span", { class: "hint", role: "status" });
  const kinds = Object.entries(CODE).map(([name, write]) => {
    const press = () => {
      text.textContent = write(request);
      kinds.forEach((button) => button.setAttribute("aria-pressed", String(button.textContent === name)));
      said.textContent = "";
    };
    return make("button", { type: "button", class: "small", "aria-pressed": "false", onclick: press }, name);
  });
  kinds[0].click();
  const copyText = async () => {
    await navigator.clipboard.writeText(text.textContent).then(() => (said.textContent = "Copied."), () => (said.textContent = "Select the text to copy it."));
  };
  return make("details", { class: "more" }, make("summary", {}, "As code"),
    make("div", { class: "stack tight" }, make("div", { class: "row" }, kinds,
      navigator.clipboard?.writeText && make("button", { type: "button", class: "small quiet", onclick: copyText }, "Copy code"), said),
    text, make("p", { class: "hint" }, "The key is left out: set GATEWAY_KEY.")));
}

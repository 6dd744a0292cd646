// A result: compared with its input, and what can be done with it.
import { byId, dollars, duration, fill, make, short } from "./dom.js";
import { isExpired, local, thumbnail, validAddress } from "./api.js";
import { addResult, resultPicture } from "./pictures.js";
import { CODE } from "./request.js";

const SOURCES = {
  hit: ["from the store, nothing bought", "good"],
  joined: ["joined a purchase under way, nothing bought twice", "good"],
  miss: ["newly made", "accent"],
  bypass: ["newly made, the store was not asked", "accent"],
};

/** Returns what the card of a completed job shows. */
export function resultOf(job, prediction) {
  const made = prediction.result.data.map(({ url }, index) => ({ job, index, address: url }));
  const stage = make("div", { class: "stage" });
  const choices = make("div", { class: "choices row", role: "group", "aria-label": "Pictures of this result" });
  const actions = make("div", { class: "row actions" });
  const choose = (at) => {
    const alt = `Result${made.length > 1 ? ` ${at + 1} of ${made.length}` : ""}: ${short(job.request.prompt)}`;
    const whole = resultPicture(made[at], local, { class: "picture", alt });
    fill(stage, job.before ? comparison(job.before, whole) : whole);
    fill(actions, actionsFor(made[at], `${prediction.id}-${at + 1}`));
    [...choices.children].forEach((button, other) => button.setAttribute("aria-pressed", String(other === at)));
  };
  if (made.length > 1) {
    fill(choices, made.map((picture, at) => make("button", { type: "button", class: "choice", "aria-pressed": "false", onclick: () => choose(at) },
      resultPicture(picture, (address) => thumbnail(address, 128), { alt: `Picture ${at + 1}` }))));
  }
  choose(0);
  return [
    make("h2", { class: "prompt" }, job.request.prompt),
    stage, made.length > 1 && choices, actions,
    (prediction.warnings ?? []).map(({ message }) => make("p", { class: "note warn" }, message)),
    facts(job, prediction),
    job.request.values ? code(job.request) : make("p", { class: "hint" }, "This tab has not sent the request of this job, so it cannot show it as code."),
  ];
}

/** Returns input and result on top of each other, with a slider between them. */
function comparison(before, result) {
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

function actionsFor(picture, name) {
  const said = make("span", { class: "hint", role: "status" });
  const again = async () => {
    await addResult(picture, "the result");
    byId("prompt").focus();
    byId("prompt").select();
  };
  // A link whose address has expired is followed with a new one.
  const follow = (options) => async (event) => {
    if (!isExpired(event.currentTarget.href)) return;
    event.preventDefault();
    try {
      make("a", { href: local(await validAddress(picture)), ...options }).click();
    } catch (error) {
      said.textContent = error.message;
    }
  };
  const link = (text, options) => make("a", { class: "button", href: local(picture.address), onclick: follow(options), ...options }, text);
  const ending = /\.(\w+)\?/.exec(picture.address)?.[1] ?? "png";
  return [
    make("button", { type: "button", onclick: again }, "Edit again"),
    link("Download", { download: `${name}.${ending}` }),
    // Copying needs a secure address: https, or this machine.
    navigator.clipboard?.write && make("button", { type: "button", onclick: () => copy(picture, said) }, "Copy"),
    link("Full size", { target: "_blank", rel: "noopener" }),
    said,
  ];
}

async function copy(given, said) {
  try {
    const png = (async () => {
      const picture = make("img", { src: local(await validAddress(given)) });
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
  const rows = { Price: price, Time: made, Model: prediction.model, Size: prediction.result.size ?? prediction.size, Format: prediction.result.output_format, Quality: prediction.quality, Job: prediction.id };
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

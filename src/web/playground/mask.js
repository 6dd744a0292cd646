// The mask editor: what is painted is what may change. The mask has the size of the first picture, and is transparent where it is
// painted, as the API wants it. Strokes are kept as a list, so that each can be undone.
import { byId, fill, make } from "./dom.js";
import { loaded, setMask } from "./pictures.js";

const COLOUR = "#e0267a";

let dialog;
let picture;
let item;
let steps = [];
let painting = null;
/** The painted area, in the size of the picture. */
let area;
let parts;

/** Opens the editor for a picture; `known` is its present mask or null. */
export async function editMask(target, known, refuse) {
  item = target;
  dialog = byId("mask-dialog");
  try {
    picture = await loaded(target);
  } catch {
    refuse(`The browser cannot show ${target.name}, so no mask can be drawn on it. Save it as PNG or JPEG first.`);
    return;
  }
  const { naturalWidth: width, naturalHeight: height } = picture;
  area = make("canvas", { width, height });
  steps = [];
  build(width, height);
  if (known) await useFile(known.blob);
  draw();
  dialog.showModal();
}

function build(width, height) {
  const canvas = make("canvas", { width, height, class: "mask-canvas", role: "img", "aria-label": `The picture, ${width} × ${height}. What is painted may change.` });
  const size = make("input", { type: "range", id: "brush", min: "1", max: "100", value: "20" });
  const file = make("input", { type: "file", id: "mask-file", accept: "image/png,image/webp" });
  const said = make("p", { class: "small", role: "status" });
  const numbers = Object.fromEntries([["x", 0, width], ["y", 0, height], ["width", Math.round(width / 2), width], ["height", Math.round(height / 2), height]]
    .map(([name, value, most]) => [name, make("input", { type: "number", id: `area-${name}`, min: "0", max: String(most), value: String(value), inputMode: "numeric" })]));
  const button = (text, press, look = "") => make("button", { type: "button", class: look, onclick: press }, text);
  const undo = button("Undo", () => change(() => steps.pop()));
  parts = { canvas, size, said, undo };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    painting = { kind: "stroke", width: brush(), points: [pointOf(event)] };
    steps.push(painting);
    redraw();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!painting) return;
    painting.points.push(...(event.getCoalescedEvents?.() ?? [event]).map(pointOf));
    redraw();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => ((painting = null), report()));
  file.addEventListener("change", async () => {
    if (file.files[0]) await useFile(file.files[0]);
    file.value = "";
  });
  const rectangle = () => {
    const [x, y, w, h] = ["x", "y", "width", "height"].map((name) => Number(numbers[name].value) || 0);
    change(() => steps.push({ kind: "rectangle", x, y, w, h }));
  };
  const names = { x: "From the left", y: "From the top", width: "Width", height: "Height" };

  fill(dialog, make("div", { class: "stack" },
    make("div", { class: "row" }, make("h2", { id: "mask-title" }, "Mask: paint what may change"), button("Cancel", () => dialog.close(), "small end-of-row")),
    make("div", { class: "mask-frame" }, canvas),
    make("div", { class: "row" },
      make("div", { class: "field grow" }, make("label", { for: "brush" }, "Brush size"), size),
      undo, button("Invert", () => change(() => steps.push({ kind: "invert" }))), button("Clear", () => change(() => steps.push({ kind: "clear" })))),
    said,
    make("details", { class: "more" }, make("summary", {}, "Without a brush: a rectangle, or a file"),
      make("div", { class: "stack" },
        make("fieldset", {}, make("legend", {}, "Rectangle, in pixels"),
          make("div", { class: "row numbers" }, Object.entries(numbers).map(([name, input]) => make("div", { class: "field" }, make("label", { for: input.id }, names[name]), input)),
            button("Add rectangle", rectangle))),
        make("div", { class: "field" }, make("label", { for: "mask-file" }, "Mask file"), file, make("p", { class: "hint" }, `A PNG of ${width} × ${height}, transparent where the picture may change.`)))),
    make("div", { class: "row" },
      button("Use mask", use, "primary"),
      button("Remove mask", () => {
        setMask(null);
        dialog.close();
      }, "danger"))));
}

const brush = () => Math.max(2, (Number(parts.size.value) / 100) * Math.min(picture.naturalWidth, picture.naturalHeight) * 0.5);

function pointOf(event) {
  const { left, top, width, height } = parts.canvas.getBoundingClientRect();
  return [((event.clientX - left) / width) * area.width, ((event.clientY - top) / height) * area.height];
}

function change(act) {
  act();
  draw();
}

let asked = false;
function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    draw();
  });
}

/** Repeats all steps on an empty area, and shows it over the picture. */
function draw() {
  const paint = area.getContext("2d");
  paint.globalCompositeOperation = "source-over";
  paint.clearRect(0, 0, area.width, area.height);
  for (const step of steps) apply(paint, step);
  const shown = parts.canvas.getContext("2d");
  shown.clearRect(0, 0, area.width, area.height);
  shown.drawImage(picture, 0, 0, area.width, area.height);
  shown.globalAlpha = 0.55;
  shown.drawImage(area, 0, 0);
  shown.globalAlpha = 1;
  parts.undo.disabled = steps.length === 0;
  if (!painting) report();
}

function apply(paint, step) {
  paint.fillStyle = paint.strokeStyle = COLOUR;
  if (step.kind === "clear") paint.clearRect(0, 0, area.width, area.height);
  else if (step.kind === "rectangle") paint.fillRect(step.x, step.y, step.w, step.h);
  else if (step.kind === "picture") paint.drawImage(step.picture, 0, 0);
  else if (step.kind === "invert") {
    paint.globalCompositeOperation = "source-out";
    paint.fillRect(0, 0, area.width, area.height);
    paint.globalCompositeOperation = "source-over";
  } else {
    const [[x, y], ...rest] = step.points;
    paint.lineWidth = step.width;
    paint.lineCap = paint.lineJoin = "round";
    paint.beginPath();
    paint.moveTo(x, y);
    // A point alone is a dot.
    (rest.length ? rest : [[x + 0.01, y]]).forEach(([nextX, nextY]) => paint.lineTo(nextX, nextY));
    paint.stroke();
  }
}

/** Returns the share of the picture that is painted, from a small copy. */
function painted() {
  const small = make("canvas", { width: 64, height: 64 });
  const paint = small.getContext("2d", { willReadFrequently: true });
  paint.drawImage(area, 0, 0, 64, 64);
  const { data } = paint.getImageData(0, 0, 64, 64);
  let sum = 0;
  for (let at = 3; at < data.length; at += 4) sum += data[at];
  return sum / (64 * 64 * 255);
}

function report(problem = "") {
  const share = Math.round(painted() * 1000) / 10;
  parts.said.textContent = problem || (share > 0 ? `${share} % of the picture may change.` : "Nothing is painted yet.");
  parts.said.classList.toggle("bad-text", problem !== "");
}

/** Takes a mask file: what is transparent in it becomes painted. */
async function useFile(blob) {
  const address = URL.createObjectURL(blob);
  try {
    const given = make("img", { src: address });
    await given.decode();
    const { naturalWidth: width, naturalHeight: height } = given;
    if (width !== area.width || height !== area.height) {
      return report(`The mask is ${width} × ${height}, and the picture ${area.width} × ${area.height}. They must have the same size.`);
    }
    const inside = make("canvas", { width, height });
    const paint = inside.getContext("2d");
    paint.drawImage(given, 0, 0);
    paint.globalCompositeOperation = "source-out";
    paint.fillStyle = COLOUR;
    paint.fillRect(0, 0, width, height);
    change(() => steps.push({ kind: "clear" }, { kind: "picture", picture: inside }));
  } catch {
    report("The browser cannot read this file. A mask is a PNG with transparent pixels.");
  } finally {
    URL.revokeObjectURL(address);
  }
  return undefined;
}

/** Exports the mask: opaque where nothing is painted. */
async function use() {
  if (painted() === 0) return report("Nothing is painted: paint what may change, or cancel.");
  const mask = make("canvas", { width: area.width, height: area.height });
  const paint = mask.getContext("2d");
  paint.fillStyle = "#000";
  paint.fillRect(0, 0, mask.width, mask.height);
  paint.globalCompositeOperation = "destination-out";
  paint.drawImage(area, 0, 0);
  const blob = await new Promise((resolve) => mask.toBlob(resolve, "image/png"));
  setMask(blob, item.name);
  dialog.close();
  return undefined;
}

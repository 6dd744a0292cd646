// The input pictures: chosen, pasted, dropped, or results of the gateway by their address; their order; the mask of the first.
import { byId, bytes, fill, make } from "./dom.js";
import { local, thumbnail, validAddress } from "./api.js";
import { model } from "./models.js";

/** Longest edge of the copy of an input that is kept for the comparison with its result. */
const KEPT_EDGE = 1024;

let items = [];
/** `{ blob, name, of }`: the mask, and the picture that it belongs to. */
let mask = null;
let changed = () => {};
let refuse = () => {};
let openMask = () => {};
let dragged = null;

/** `listener` is called after a change, `problem` with a text about what was not taken, `editor` with a picture to mask. */
export function setUp(listener, problem, editor) {
  [changed, refuse, openMask] = [listener, problem, editor];
  const input = byId("pictures");
  input.addEventListener("change", () => {
    addFiles(input.files);
    input.value = "";
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    addFiles(files);
  });
  for (const type of ["dragover", "drop"]) {
    document.addEventListener(type, (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      if (type === "drop") addFiles(event.dataTransfer.files);
    });
  }
  const drop = byId("drop");
  for (const [type, on] of [["dragenter", true], ["dragleave", false], ["drop", false]]) {
    drop.addEventListener(type, () => drop.classList.toggle("over", on));
  }
}

export const pictures = () => items;
export const currentMask = () => (mask && mask.of === items[0] ? mask : null);

export function setMask(blob, name) {
  mask = blob ? { blob, name, of: items[0] } : null;
  show();
}

/** Adds files to the chosen pictures, or puts them in their place. */
export function addFiles(files, { anew = false } = {}) {
  refuse("");
  if (anew) clear();
  const given = [...files];
  const wanted = given.filter((file) => file.type.startsWith("image/") || /\.(heic|heif|tiff?|bmp)$/i.test(file.name));
  if (wanted.length < given.length) refuse(`Not a picture: ${given.find((file) => !wanted.includes(file)).name}`);
  add(wanted.map((file) => ({ file, name: file.name || "pasted.png", preview: URL.createObjectURL(file) })));
}

/** Puts a result of the gateway in the place of all pictures, by its address: nothing is downloaded and uploaded. */
export async function addResult(picture, name) {
  refuse("");
  try {
    const address = await validAddress(picture);
    clear();
    add([{ ...picture, name, preview: thumbnail(address, 256) }]);
  } catch (error) {
    refuse(error.message);
  }
}

/** Returns an element with a result. `source` makes its address of that of the picture, which is renewed where it has expired. */
export function resultPicture(picture, source, options) {
  const element = make("img", { ...options, src: source(picture.address) });
  const renew = async () => {
    const known = picture.address;
    const address = await validAddress(picture).catch(() => known);
    if (address !== known) element.src = source(address);
  };
  element.addEventListener("error", renew, { once: true });
  return element;
}

function clear() {
  items.filter((old) => old.file).forEach((old) => URL.revokeObjectURL(old.preview));
  items = [];
}

function add(more) {
  const most = model()?.inputs_max ?? Infinity;
  const room = Math.max(0, most - items.length);
  if (more.length > room) refuse(`${most} pictures are the most; ${more.length - room} were left out.`);
  items.push(...more.slice(0, room));
  show();
}

function move(item, to) {
  items = items.filter((other) => other !== item);
  items.splice(Math.max(0, Math.min(items.length, to)), 0, item);
  show();
}

function remove(item) {
  refuse("");
  if (item.file) URL.revokeObjectURL(item.preview);
  const at = items.indexOf(item);
  items = items.filter((other) => other !== item);
  show();
  const buttons = byId("thumbnails").querySelectorAll("button.remove");
  (buttons[Math.min(at, buttons.length - 1)] ?? byId("pictures")).focus();
}

export function show() {
  fill(byId("thumbnails"), items.map((item, at) => thumbnailOf(item, at)));
  changed();
}

function thumbnailOf(item, at) {
  const button = (text, label, press, extra = {}) =>
    make("button", { type: "button", class: "small", "aria-label": `${label} ${item.name}`, title: label, onclick: press, ...extra }, text);
  const moveBy = (step) => () => {
    move(item, at + step);
    byId("thumbnails").children[items.indexOf(item)]?.querySelector(step < 0 ? ".back" : ".forth")?.focus();
  };
  const picture = make("img", { src: item.preview, alt: `Picture ${at + 1}: ${item.name}`, draggable: false });
  picture.addEventListener("error", () => {
    picture.replaceWith(make("span", { class: "no-preview" }, item.name));
    item.isUnseen = true;
    changed();
  });
  const row = make("li", { draggable: true, title: item.file ? `${item.name}, ${bytes(item.file.size)}` : item.name },
    picture,
    make("div", { class: "tools" },
      items.length > 1 && button("◀", "Move back", moveBy(-1), { class: "small back", disabled: at === 0 }),
      items.length > 1 && button("▶", "Move forth", moveBy(1), { class: "small forth", disabled: at === items.length - 1 }),
      at === 0 && button("Mask", "Draw a mask on", () => openMask(item), { class: "small mask" }),
      button("✕", "Remove", () => remove(item), { class: "small remove" })));
  row.addEventListener("dragstart", () => (dragged = item));
  row.addEventListener("dragend", () => (dragged = null));
  row.addEventListener("dragover", (event) => dragged && event.preventDefault());
  row.addEventListener("drop", (event) => {
    if (!dragged) return;
    event.preventDefault();
    move(dragged, at);
  });
  return row;
}

/** Returns a small copy of the first picture as a data URL, for the comparison with its result; null where it cannot be shown. */
export async function keptCopy() {
  const first = items[0];
  if (!first) return null;
  try {
    const picture = await loaded(first);
    const scale = Math.min(1, KEPT_EDGE / Math.max(picture.naturalWidth, picture.naturalHeight));
    const canvas = make("canvas", { width: Math.round(picture.naturalWidth * scale), height: Math.round(picture.naturalHeight * scale) });
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL("image/jpeg", 0.85);
  } catch {
    return null;
  }
}

/** Returns the picture of an item, decoded and upright. Fails where the browser cannot show its format. */
export async function loaded(item) {
  const picture = make("img", { src: item.file ? item.preview : local(await validAddress(item)) });
  await picture.decode();
  return picture;
}

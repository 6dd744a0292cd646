// Models and the controls that each one takes, by `x_gateway` of GET /v1/models.
import { byId, dollars, fill, make } from "./dom.js";
import { getJson } from "./api.js";

/** Labels of parameters, in the order of the controls; the second group stands below "More options". */
const MAIN = { size: "Size", quality: "Quality", n: "Number", background: "Background", output_format: "Output format" };
const MORE = { moderation: "Moderation", input_fidelity: "Input fidelity" };
const CUSTOM = "custom";

let models = [];
let changed = () => {};

/** Loads the models of this client and shows the controls. `listener` is called when something is chosen. */
export async function loadModels(listener, wanted) {
  changed = listener;
  const list = await getJson("v1/models?x_gateway=true");
  models = list.data.filter((model) => model.x_gateway);
  fill(byId("model"), models.map(({ id }) => make("option", { value: id, textContent: id })));
  byId("model").onchange = () => {
    showControls(chosen());
    changed();
  };
  const first = models.find(({ id }) => id === wanted?.model) ?? models.find(({ id }) => id === "gpt-image-2") ?? models[0];
  if (first) byId("model").value = first.id;
  showControls(wanted ?? {});
  return models.map(({ id }) => id);
}

export const model = () => models.find(({ id }) => id === byId("model").value)?.x_gateway ?? null;

/** Whether the chosen model takes masks. */
export const takesMask = () => model()?.mask === true;

function showControls(before) {
  const offer = model();
  if (!offer) return;
  fill(byId("more-controls"), Object.entries(MORE).map(([name, label]) => control(name, label, offer.parameters[name], before[name])));
  const fields = Object.entries(MAIN).map(([name, label]) =>
    name === "n" ? numberField(label, offer.n_max, before.n) : control(name, label, offer.parameters[name], before[name]));
  byId("controls").replaceChildren(byId("controls").firstElementChild, ...fields.flat().filter(Boolean));
}

function control(name, label, parameter, before) {
  if (!parameter) return null;
  const values = [...parameter.values];
  const usual = parameter.default;
  if (!values.includes(usual)) values.unshift(usual);
  if (values.length < 2 && !parameter.custom) return null;
  const select = make("select", { id: `option-${name}` },
    values.map((value) => make("option", { value, textContent: value.replace(/^(\d+)x(\d+)$/, "$1 × $2") })),
    parameter.custom && make("option", { value: CUSTOM, textContent: "other …" }));
  const field = [make("div", { class: "field" }, make("label", { for: select.id }, label), select)];
  select.value = values.includes(before) ? before : usual;
  select.addEventListener("change", () => changed());
  if (parameter.custom) {
    const own = make("input", { id: `option-${name}-own`, value: before && !values.includes(before) ? before : "", placeholder: "1536x864" });
    const holder = make("div", { class: "field", hidden: true }, make("label", { for: own.id }, "Other size"), own);
    const show = () => (holder.hidden = select.value !== CUSTOM);
    if (own.value) select.value = CUSTOM;
    show();
    select.addEventListener("change", show);
    own.addEventListener("input", () => changed());
    field.push(holder);
  }
  return field;
}

function numberField(label, most, before) {
  const input = make("input", { id: "option-n", type: "number", min: "1", max: String(most ?? 1), value: before ?? "1", inputMode: "numeric" });
  input.addEventListener("input", () => changed());
  return make("div", { class: "field" }, make("label", { for: input.id }, label), input);
}

/**
 * Returns what is chosen, as parameters of the API. What the gateway would choose by itself is left to it: a parameter that is named can
 * make it use another API of the service.
 */
export function chosen() {
  const values = { model: byId("model").value };
  for (const name of [...Object.keys(MAIN), ...Object.keys(MORE)]) {
    const field = byId(`option-${name}`);
    if (!field) continue;
    const value = field.value === CUSTOM ? byId(`option-${name}-own`).value.trim() : field.value;
    const usual = name === "n" ? "1" : model()?.parameters[name]?.default;
    if (value && value !== usual) values[name] = value;
  }
  return values;
}

/** Returns the estimated price of a request in US dollars; null where it is not known. */
export function estimate(values = chosen()) {
  const { price, parameters } = models.find(({ id }) => id === values.model)?.x_gateway ?? {};
  if (typeof price?.usd_per_picture !== "number") return null;
  const each = price.usd_per_megapixel?.[values.quality ?? parameters.quality?.default];
  // Where it is left to the gateway, the largest that it usually becomes.
  const [width, height] = /^(\d+)x(\d+)$/.exec(values.size ?? "")?.slice(1).map(Number) ?? [1536, 1024];
  const megapixels = (width * height) / 1048576;
  // Without a quality the image service chooses one.
  const one = each === undefined ? price.usd_per_picture * (price.metered ? Math.max(1, megapixels) : 1) : each * megapixels;
  return one * Math.max(1, Number(values.n) || 1);
}

export const priceText = (usd) => (usd === null ? "" : `about ${dollars(usd)}`);

// Keeps the page up to date: the gateway sends what has changed, as texts that are ready to be shown, and each goes to the element
// that names it. Text becomes text nodes, never markup.

/** Without a message for this long the connection counts as lost: the gateway sends one every second or two. */
const SILENCE_MS = 8000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;

const svgNamespace = "http://www.w3.org/2000/svg";
const connection = document.getElementById("connection");

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Calls `change` for each entry of a part, with each element whose attribute has its key. */
function each(part, attribute, change) {
  for (const [key, value] of Object.entries(part ?? {})) {
    for (const place of document.querySelectorAll(`[${attribute}="${key}"]`)) change(place, value);
  }
}

/** Makes the content of a cell. Commands and ids are code, and badges stand by themselves. */
function content(cell) {
  const inner = cell.class === "code" ? "code" : cell.class?.startsWith("badge") ? "span" : null;
  return inner ? element(inner, inner === "span" ? cell.class : "", cell.text) : document.createTextNode(cell.text);
}

function tableRow(row) {
  const made = element("tr");
  for (const cell of row.cells) {
    const place = element("td", cell.class === "code" || cell.class?.startsWith("badge") ? "" : cell.class);
    place.append(content(cell));
    made.append(place);
  }
  return made;
}

function noteRow(row) {
  const made = element("li", `note ${row.level}`);
  for (const cell of row.cells) {
    const line = element("span");
    line.append(content(cell));
    made.append(line);
  }
  return made;
}

/** Draws what a page without script has as markup: see `chart` in page.rs. */
function drawChart(figure, chart) {
  const svg = figure.querySelector("svg");
  svg.setAttribute("aria-label", chart.summary);
  svg.replaceChildren(...chart.series.map((series) => {
    const path = document.createElementNS(svgNamespace, "path");
    path.setAttribute("class", series.class);
    path.setAttribute("d", series.d);
    return path;
  }));
  figure.querySelector(".top").textContent = chart.top;
  figure.querySelector(".legend").replaceChildren(...chart.series.map((series) => element("li", series.class, series.name)));
  const heads = [element("th", "", "From (UTC)"), ...chart.series.map((series) => element("th", "number", series.name))];
  heads.forEach((head) => { head.scope = "col"; });
  figure.querySelector("thead tr").replaceChildren(...heads);
  figure.querySelector("tbody").replaceChildren(...chart.rows.map(tableRow));
}

function show(view) {
  each(view.texts, "data-text", (place, text) => { place.textContent = text; });
  each(view.levels, "data-level-of", (place, level) => { place.dataset.level = level; });
  each(view.shown, "data-show", (place, shown) => { place.hidden = !shown; });
  each(view.lists, "data-list", (place, rows) => place.replaceChildren(...rows.map(place.tagName === "UL" ? noteRow : tableRow)));
  each(view.charts, "data-chart", drawChart);
}

let source = null;
let pause = FIRST_PAUSE_MS;
let retry = 0;
let silence = 0;
let version = null;

function say(text, level) {
  connection.hidden = false;
  connection.className = `badge ${level}`;
  if (connection.textContent !== text) connection.textContent = text;
}

function close() {
  source?.close();
  source = null;
  clearTimeout(retry);
  clearTimeout(silence);
}

/** When the connection was lost. */
let lostAt = null;

/** Tries again after a pause. Until then the page says since when it shows what was: a tab in the background is believed. */
function lost() {
  close();
  say("reconnecting …", "warn");
  lostAt ??= new Date();
  const text = `No connection since ${lostAt.toLocaleTimeString()}`;
  document.title = `${text} · gptproto-gateway`;
  each({ verdict: text }, "data-text", (place, words) => { place.textContent = words; });
  each({ verdict: "bad" }, "data-level-of", (place, level) => { place.dataset.level = level; });
  document.getElementById("main").classList.add("stale");
  retry = setTimeout(connect, pause);
  pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
}

function connect() {
  close();
  source = new EventSource("events");
  silence = setTimeout(lost, SILENCE_MS);
  source.onerror = lost;
  source.addEventListener("view", (event) => {
    clearTimeout(silence);
    silence = setTimeout(lost, SILENCE_MS);
    pause = FIRST_PAUSE_MS;
    const view = JSON.parse(event.data);
    const running = view.texts?.version ?? version;
    // A gateway of another version has another page.
    if (version !== null && running !== version) return location.reload();
    version = running;
    say("live", "good");
    lostAt = null;
    document.getElementById("main").classList.remove("stale");
    show(view);
  });
}

// A page that is not seen asks for nothing: browsers allow few connections to one address, and all tabs share them.
document.addEventListener("visibilitychange", () => (document.hidden ? close() : connect()));
if (!document.hidden) connect();

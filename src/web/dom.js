// Elements made by script, and numbers and times as text. Data becomes text nodes and properties, never markup.

/** Returns the element with this id. */
export const byId = (id) => document.getElementById(id);

/**
 * Makes an element. Members of `options` that begin with "on" are listeners, `class` and names with a hyphen (and `role`, `for`)
 * are attributes, the others are properties. Children are nodes or texts; null ones are left out.
 */
export function make(name, options = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined || value === null) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key.includes("-") || key === "class" || key === "role" || key === "for") element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Puts these children in the place of all others. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

/** Shortens a text that becomes a name: a screen reader reads names whole. */
export const short = (text, most = 120) => (text.length > most ? `${text.slice(0, most)}…` : text);

/** Writes an amount of US dollars: "$0.03", "$0.0017", "$12.50". */
export function dollars(amount) {
  if (typeof amount !== "number" || !Number.isFinite(amount)) return "unknown";
  if (amount === 0) return "$0";
  const digits = Math.abs(amount) >= 0.0995 ? 2 : Math.min(6, 1 - Math.floor(Math.log10(Math.abs(amount))));
  return `$${amount.toFixed(digits).replace(/(\.\d\d\d*?)0+$/, "$1")}`;
}

/** Writes a duration in seconds: "8 s", "1 min 5 s", "2 h 10 min". */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
  return `${Math.floor(whole / 3600)} h${Math.floor(whole / 60) % 60 ? ` ${Math.floor(whole / 60) % 60} min` : ""}`;
}

/** Writes a time in Unix seconds as the reader's own clock has it, with the date where that is not today. */
export function clock(seconds) {
  const time = new Date(seconds * 1000);
  const today = time.toDateString() === new Date().toDateString();
  const minutes = { hour: "2-digit", minute: "2-digit" };
  return today ? time.toLocaleTimeString([], minutes) : time.toLocaleString([], { month: "short", day: "numeric", ...minutes });
}

/** Writes a number of bytes: "412 B", "38 KB", "2.4 MB". */
export function bytes(count) {
  if (count < 1000) return `${count} B`;
  if (count < 999_500) return `${Math.round(count / 1000)} KB`;
  return `${(count / 1e6).toFixed(1)} MB`;
}

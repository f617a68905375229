// Keys for the list of alerts. Everything can be done without them, by Tab, Space and Enter; they
// are told above the list, rest while somebody types, and can be switched off for good.
const KEYS = [
  ["j", "next alert"],
  ["k", "alert before"],
  ["x", "select it, or not"],
  ["a", "acknowledge"],
  ["e", "resolve…"],
  ["s", "snooze…"],
  ["Enter", "open it"],
  ["Esc", "select nothing"],
  ["/", "search"],
  ["?", "show the keys"],
];
// What the line above the list tells of them.
const HINT = [
  ["j", "k", "move"],
  ["x", "select"],
  ["a", "acknowledge"],
  ["e", "resolve…"],
  ["s", "snooze…"],
  ["Enter", "open"],
  ["Esc", "clear"],
];
const ACTIONS = { a: "acknowledge", e: "resolve", s: "snooze", z: "snooze" };
const OFF = "modelperf.keys.off";
const PLACE = "modelperf.triage.place";

const list = document.getElementById("result_list");
const form = document.getElementById("changelist-form");
const rows = list ? [...list.querySelectorAll("tbody tr")] : [];
let current = -1;

const isOff = () => localStorage.getItem(OFF) === "1";
const boxOf = (row) => row.querySelector("input.action-select");
const linkOf = (row) => row.querySelector("th a[href], td a[href]");

function make(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function move(to) {
  if (!rows.length) return;
  rows[current]?.classList.remove("current");
  current = Math.min(Math.max(to, 0), rows.length - 1);
  rows[current].classList.add("current");
  (linkOf(rows[current]) ?? boxOf(rows[current]))?.focus();
  rows[current].scrollIntoView({ block: "nearest" });
}

function selectNothing() {
  for (const row of rows) if (boxOf(row)?.checked) boxOf(row).click();
}

// The verb's own button is pressed for what is selected, else for the alert one is at.
function act(name) {
  const button = form.querySelector(`button[name=action][value="${name}"]`);
  const isAny = rows.some((row) => boxOf(row)?.checked);
  if (!button || (!isAny && current < 0)) return;
  if (!isAny) boxOf(rows[current])?.click();
  sessionStorage.setItem(PLACE, String(Math.max(current, 0)));
  form.requestSubmit(button);
}

function isTyping(target) {
  return target.closest("input:not([type=checkbox]), textarea, select, [contenteditable], dialog[open]");
}

function onKey(event) {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return;
  if (isOff() || isTyping(event.target)) return;
  const done = {
    j: () => move(current + 1),
    k: () => move(current - 1),
    x: () => rows[current] && boxOf(rows[current])?.click(),
    Escape: selectNothing,
    "/": () => document.getElementById("searchbar")?.focus(),
    "?": () => help.showModal(),
  }[event.key];
  if (done) {
    event.preventDefault();
    done();
  } else if (ACTIONS[event.key]) {
    event.preventDefault();
    act(ACTIONS[event.key]);
  } else if (event.key === "Enter" && current >= 0 && event.target.matches("body, input")) {
    event.preventDefault();
    linkOf(rows[current])?.click();
  }
}

// Whoever walks with Tab or the pointer is where the focus is.
function onFocus(event) {
  const at = rows.indexOf(event.target.closest("#result_list tbody tr"));
  if (at < 0 || at === current) return;
  rows[current]?.classList.remove("current");
  current = at;
  rows[at].classList.add("current");
}

const help = make("dialog", "", { class: "keys-help", "aria-labelledby": "keys-title" });
const hint = make("p", "", { class: "keys-hint" });

function showHelp() {
  const table = make("dl");
  for (const [key, word] of KEYS) {
    const line = make("div");
    const name = make("dt");
    name.append(make("kbd", key));
    line.append(name, make("dd", word));
    table.append(line);
  }
  const close = make("button", "Close", { type: "button" });
  close.addEventListener("click", () => help.close());
  help.append(make("h2", "Keys", { id: "keys-title" }), table, close);
  document.body.append(help);
}

function showHint() {
  hint.replaceChildren();
  if (!isOff()) {
    const told = make("span", "Keys: ", { class: "keys-told" });
    for (const line of HINT) {
      for (const key of line.slice(0, -1)) told.append(make("kbd", key), " ");
      told.append(`${line.at(-1)} `);
    }
    const all = make("button", "All keys", { type: "button" });
    all.addEventListener("click", () => help.showModal());
    hint.append(told, all, " ");
  }
  const label = isOff() ? "Turn keys on" : "Turn keys off";
  const turn = make("button", label, { type: "button" });
  turn.addEventListener("click", () => {
    localStorage.setItem(OFF, isOff() ? "0" : "1");
    showHint();
    hint.querySelector("button:last-of-type").focus();
  });
  hint.append(turn);
}

// Open menus: Escape leaves one for its name, a click elsewhere closes them.
function closeMenus(but = null) {
  const open = [...document.querySelectorAll("details.menu[open]")].filter((one) => one !== but);
  for (const menu of open) menu.open = false;
  return open;
}

function onEscape(event) {
  if (event.key !== "Escape") return;
  const [closed] = closeMenus();
  if (!closed) return;
  event.preventDefault(); // what is selected stays so
  closed.querySelector("summary").focus();
}

// On a narrow screen the filters are folded until they are asked for.
const filters = document.querySelector("details.filters");
const isNarrow = matchMedia("(max-width: 767px)");
const fold = () => {
  filters.open = !isNarrow.matches;
};

if (filters) {
  fold();
  isNarrow.addEventListener("change", fold);
  document.addEventListener("keydown", onEscape);
  document.addEventListener("click", (event) => closeMenus(event.target.closest("details.menu")));
}
if (form && rows.length) {
  showHelp();
  showHint();
  form.before(hint);
  document.addEventListener("keydown", onKey);
  document.addEventListener("focusin", onFocus);
  // Back from a verb that keys have done: at the alert that has moved up to where that one was.
  const place = sessionStorage.getItem(PLACE);
  if (place !== null) move(Number(place));
}
sessionStorage.removeItem(PLACE);

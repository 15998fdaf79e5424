"use strict";

const POLL_MS = 1000;
const AWAY_MS = 3000;
const SPEAK_MS = 10000; // between two reports to a screen reader
const KINDS = ["answered", "refused", "failed"];
const ABOUT = {
  lexical: "Lexical vectors: near are texts that share words and letters.",
  semantic: "Semantic vectors: near are texts that mean something alike, over languages too.",
};

const $ = (id) => document.getElementById(id);
const whole = (number) => number.toLocaleString("en");
const plural = (number, word) => `${whole(number)} ${word}${number === 1 ? "" : "s"}`;

/** Make an element. Texts come in as text alone, so no HTML in them is ever read. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// --- traffic ---

let timer = 0;
let paused = false;
let spokenAt = 0;
let listed = "";

const bars = Array.from({ length: 60 }, (_, second) =>
  KINDS.map((kind) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    bar.setAttribute("class", kind);
    bar.setAttribute("x", second * 10 + 1);
    bar.setAttribute("width", 8);
    $("chart").append(bar);
    return bar;
  }),
);

function setState(state, words) {
  $("state").dataset.state = state;
  $("state-words").textContent = words;
}

function showChart(seconds) {
  const highest = Math.max(...seconds.map(([answered, refused, failed]) => answered + refused + failed));
  const scale = 100 / Math.max(4, highest);
  seconds.forEach((counts, second) => {
    let top = 100;
    counts.forEach((count, kind) => {
      const height = count * scale;
      top -= height;
      bars[second][kind].setAttribute("y", top);
      bars[second][kind].setAttribute("height", height);
    });
  });
  const most = highest ? `, at most ${whole(highest)}` : "";
  $("chart-words").textContent = `Requests in each second${most}`;
}

function makeRow(line) {
  const kind = line.status === 429 ? "refused" : line.status < 400 ? "answered" : "failed";
  const time = new Date(line.time * 1000).toLocaleTimeString("en-GB");
  const cell = (attributes, ...children) => make("td", { role: "cell", ...attributes }, ...children);
  const request = cell({ class: "request" }, make("span", { class: "path" }, `${line.method} ${line.path}`));
  if (line.text) request.append(make("span", { class: "sample" }, line.text));
  return make(
    "tr",
    { role: "row" },
    cell({}, time),
    cell({}, make("span", { class: `status ${kind}` }, String(line.status))),
    request,
    cell({}, line.role || "–"),
    cell({ class: "number", "data-unit": line.texts === 1 ? " text" : " texts" }, whole(line.texts)),
    cell({ class: "number", "data-unit": " ms" }, line.ms === null ? "–" : line.ms.toLocaleString("en")),
  );
}

function showLatest(latest) {
  const said = JSON.stringify(latest);
  if (said === listed) return; // leave a selection as it is
  listed = said;
  $("requests").tBodies[0].replaceChildren(...latest.map(makeRow));
  $("requests").hidden = latest.length === 0;
  $("none").hidden = latest.length > 0;
}

function speak(words) {
  if (Date.now() - spokenAt < SPEAK_MS || $("spoken").textContent === words) return;
  spokenAt = Date.now();
  $("spoken").textContent = words;
}

function show(status) {
  const { requests, texts, tokens, refused, failed } = status.totals;
  $("rate").textContent = status.rate.toLocaleString("en", { maximumFractionDigits: status.rate < 10 ? 1 : 0 });
  $("quota").textContent = status.qps === null ? "no quota" : `of ${status.qps.toLocaleString("en")} allowed`;
  $("answered").textContent = whole(requests - refused - failed);
  $("texts").textContent = plural(texts, "text");
  $("tokens").textContent = whole(tokens);
  $("refused").textContent = whole(refused);
  $("failed").textContent = whole(failed);
  $("kind").textContent = ABOUT[status.vectors];
  showChart(status.seconds);
  showLatest(status.latest);
  setState("live", "Live");
  speak(`${plural(requests, "request")}, ${refused} refused, ${plural(failed, "error")}, ${plural(tokens, "token")}.`);
}

async function poll() {
  clearTimeout(timer);
  if (paused || document.hidden) return;
  let wait = POLL_MS;
  try {
    const answer = await fetch("status");
    if (!answer.ok) throw new Error(answer.status);
    const status = await answer.json();
    if (!paused) show(status);
  } catch {
    wait = AWAY_MS;
    if (!paused) setState("lost", "The emulator does not answer");
  }
  clearTimeout(timer);
  timer = setTimeout(poll, wait);
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", paused);
  if (paused) setState("paused", "Paused");
  else poll();
});
document.addEventListener("visibilitychange", poll);

// --- similarities ---

/** From 0 (unlike) to 10 (alike): the class that colours a cell. */
const heat = (similarity) => Math.round(10 * Math.min(1, Math.max(0, similarity)));

function showMap(texts, similarities) {
  $("result").parentElement.classList.toggle("wide", texts.length > 8);
  const map = $("map");
  const head = texts.map((text, place) => make("th", { scope: "col", title: text }, String(place + 1)));
  map.tHead.replaceChildren(make("tr", {}, make("td"), ...head));
  map.tBodies[0].replaceChildren(
    ...texts.map((text, place) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, make("b", {}, String(place + 1)), text.length > 60 ? `${text.slice(0, 59)}…` : text),
        ...similarities[place].map((one) => make("td", { class: `heat-${heat(one)}` }, one.toFixed(2))),
      ),
    ),
  );
}

function sayNearest(similarities) {
  let best = [-2, 0, 0];
  similarities.forEach((row, one) =>
    row.forEach((similarity, other) => {
      if (one < other && similarity > best[0]) best = [similarity, one + 1, other + 1];
    }),
  );
  $("verdict").textContent = `Most alike are ${best[1]} and ${best[2]}, at ${best[0].toFixed(2)}.`;
}

async function compare() {
  const texts = $("lines").value.split("\n").map((line) => line.trim()).filter(Boolean);
  $("problem").textContent = "";
  try {
    if (texts.length < 2 || texts.length > 20) throw new Error(`Two to twenty texts, please; here are ${texts.length}.`);
    const body = JSON.stringify({ texts });
    const answer = await fetch("similarities", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    const { similarities, message } = await answer.json();
    if (!answer.ok) throw new Error(message);
    showMap(texts, similarities);
    sayNearest(similarities);
  } catch (error) {
    const lost = error instanceof TypeError; // what fetch raises where nobody answers
    $("problem").textContent = lost ? "The emulator does not answer." : error.message;
  }
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  compare();
});
$("lines").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});

for (const place of document.querySelectorAll(".origin")) place.textContent = location.origin;
poll();
compare();

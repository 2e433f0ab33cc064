// What a page does beyond being read: it looks again when the centre says that something moved,
// and puts what is new where the old was. Without this everything still reads; reload instead.
"use strict";

const SILENT_MS = 30_000, ASK_MS = 15_000, SAY_MS = 10_000;
const byId = (id) => document.getElementById(id);
const parts = byId("parts");

// Morph: change what differs, and nothing else. What has the focus keeps it, what was opened
// stays open, what was typed stays typed. Rows stay where they are while one of them is in use.
function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.hasAttribute("data-keep") || old.isEqualNode(fresh)) return;
  for (const { name } of [...old.attributes])
    if (!fresh.hasAttribute(name) && name !== "open" && name !== "hidden") old.removeAttribute(name);
  for (const { name, value } of [...fresh.attributes])
    if (name !== "hidden" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  const inUse = old.hasAttribute("data-order") && old.contains(document.activeElement);
  if (inUse) morphRows(old, fresh);
  else morphChildren(old, fresh);
}

function morphRows(old, fresh) {
  const rows = new Map([...fresh.children].map((row) => [row.id, row]));
  const same = old.children.length === rows.size && [...old.children].every((row, n) => row.id === fresh.children[n].id);
  for (const row of [...old.children]) if (rows.has(row.id)) morph(row, rows.get(row.id));
  if (!same) old.closest(".scroll").previousElementSibling?.classList.contains("stale-chip")
    && (old.closest(".scroll").previousElementSibling.hidden = false);
}

function morphChildren(old, fresh) {
  const keyed = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const known = child.id && keyed.get(child.id);
    if (known && known !== at) old.insertBefore(known, at);
    const mine = known || at;
    if (!mine || (mine === at && !known && at.id && keyed.has(at.id) && child.id !== at.id)) {
      old.insertBefore(child, at);
      continue;
    }
    at = mine.nextSibling;
    morph(mine, child);
  }
  while (at) { const next = at.nextSibling; at.remove(); at = next; }
}

// Looking again: one at a time, and once more if something moved meanwhile. Whoever has paused
// sees nothing move, not even by a look that was under way; unless they ask for it.
let busy = false, again = false, paused = sessionStorage.getItem("paused") === "1", lastSaid = 0;

async function look(wanted = false) {
  if (busy || document.hidden) { again = true; return; }
  busy = true; again = false;
  try {
    const answer = await fetch(location.href, { headers: { "skerry-live": "1" }, redirect: "error" });
    if (answer.status === 401) { location.reload(); return; }
    const text = answer.ok && await answer.text();
    if (text && (wanted || !paused)) {
      const fresh = new DOMParser().parseFromString(text, "text/html");
      const before = parts.querySelector("[data-say]")?.dataset.say;
      document.title = fresh.title;
      morph(parts, fresh.getElementById("parts"));
      morph(byId("nav"), fresh.getElementById("nav"));
      dress();
      say(before);
    }
  } catch { /* the stream's silence says it */ }
  busy = false;
  if (again && !paused) look();
}

function say(before) {
  const now = parts.querySelector("[data-say]")?.dataset.say;
  if (!now || now === before || Date.now() - lastSaid < SAY_MS) return;
  lastSaid = Date.now();
  byId("announce").textContent = now;
}

// The stream: one a browser, held by one of its pages, which tells the others.
let heardAt = Date.now();
const others = new BroadcastChannel("skerry-live");

function heard(moved) {
  heardAt = Date.now();
  const lost = !byId("lost").hidden;
  if (lost) { byId("lost").hidden = true; document.body.classList.remove("stale"); }
  if ((lost || moved) && !paused) look();
}

function listen() {
  const stream = new EventSource("/stream");
  const tell = (moved) => { heard(moved); others.postMessage(moved); };
  stream.addEventListener("moved", () => tell(true));
  stream.addEventListener("ping", () => tell(false));
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
  });
}

function watch() {
  if (Date.now() - heardAt < SILENT_MS) return;
  const lost = byId("lost");
  if (lost.hidden) {
    lost.textContent = `Not live since ${new Date(heardAt).toISOString().slice(11, 19)} UTC. Asking again every 15 s.`;
    lost.hidden = false;
    document.body.classList.add("stale");
  }
  if (!paused) look();
}

function showLive() {
  byId("live").hidden = false;
  const word = byId("live-word");
  word.textContent = paused ? "Live paused" : "Live";
  word.className = paused ? "state s-paused paused" : "state s-ok";
  byId("live-button").textContent = paused ? "Go on" : "Pause";
}

function dress() {
  if (!isSecureContext) return;
  for (const button of document.querySelectorAll("[data-copy][hidden]")) button.hidden = false;
}

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    await navigator.clipboard.writeText(copy.dataset.copy);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  }
  if (event.target.closest("[data-update]")) {
    event.target.closest(".stale-chip").hidden = true;
    byId("main").focus();
    look(true);
  }
});

dress();
// A link that carries the token behind its `#`, which no browser sends: it goes into the form.
const token = location.hash.startsWith("#t=") && location.hash.slice(3);
if (token) {
  history.replaceState(null, "", location.pathname + location.search);
  const form = byId("sign-in");
  if (form) { byId("token").value = decodeURIComponent(token); form.requestSubmit(); }
}
if (parts.hasAttribute("data-live") && byId("live")) {
  others.onmessage = (message) => heard(message.data);
  byId("live-button").addEventListener("click", () => {
    paused = !paused;
    sessionStorage.setItem("paused", paused ? "1" : "0");
    showLive();
    if (!paused) look();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && again && !paused) { again = false; look(); } });
  setInterval(watch, ASK_MS);
  if (navigator.locks) navigator.locks.request("skerry-stream", () => { listen(); return new Promise(() => {}); });
  else listen();
  showLive();
}

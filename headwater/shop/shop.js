"use strict";
const byId = (id) => document.getElementById(id);
let before = new Set();
let asking = false;

function make(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

async function ask(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body || {}),
  });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.detail);
  return found;
}

function say(text, kind) {
  byId("state").className = kind || "";
  byId("state").replaceChildren(text);
}

function state({ slate, took_ms }) {
  const rung = make("b", "", slate.origin === "live" ? slate.rung : slate.origin + " (local)");
  const kind = slate.origin !== "live" ? "local" : slate.stale ? "stale" : "";
  const fresh = slate.stale ? "without your last click yet" : "with everything you did";
  byId("state").className = kind;
  byId("state").replaceChildren("answered from ", rung, ` ${fresh}, in ${took_ms} ms`);
}

function button(text, act) {
  const node = make("button", "", text);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

function card(slate, item) {
  const node = make("article", before.size && !before.has(item.item_id) ? "new" : "");
  node.dataset.item = item.item_id;
  const name = item.title || item.item_id;
  const tone = [...item.item_id].reduce((sum, letter) => (31 * sum + letter.charCodeAt(0)) >>> 0, 7) % 6;
  const cover = make("button", "cover t" + tone, name.slice(0, 2).toUpperCase());
  cover.type = "button";
  cover.tabIndex = -1;
  cover.setAttribute("aria-hidden", "true");
  cover.addEventListener("click", () => act("click", item));
  const title = make("button", "title", name);
  title.type = "button";
  title.addEventListener("click", () => act("click", item));
  const reason = make("p", "reason", item.reason);
  if (item.explored) reason.prepend(make("span", "tag", "exploring · "));
  const row = make("div", "row");
  row.append(button("Like", () => act("like", item)), button("Hide", () => act("hide", item)));
  if (slate.decision_id) row.append(button("Why", () => why(slate, item)));
  node.append(cover, title, reason, row);
  return node;
}

function show(found) {
  state(found);
  const { slate } = found;
  byId("slate").replaceChildren(...slate.items.map((item) => card(slate, item)));
  before = new Set(slate.items.map((item) => item.item_id));
  ask("/shown").catch(() => {});
}

async function act(kind, item) {
  if (asking) return;
  asking = true;
  const words = { click: "opened", like: "liked", hide: "hid" };
  byId("acts").querySelector(".hint")?.remove();
  byId("acts").prepend(make("li", "", `${words[kind]} ${item.title || item.item_id}`));
  try {
    show(await ask("/act", { kind, item_id: item.item_id }));
  } catch (error) {
    say(`not answered: ${error.message}`, "local");
  } finally {
    asking = false;
  }
}

function parts(found) {
  const told = found.slot ? Object.entries(found.slot.contributions) : [];
  const largest = told.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, 8);
  const rows = largest.filter(([, value]) => value).map(([name, value]) => [name, value.toFixed(3)]);
  if (found.slot?.propensity) rows.push(["propensity of this place", found.slot.propensity.value.toFixed(4)]);
  if (found.rank) rows.push(["rank among candidates", `${found.rank} of ${found.candidates}`]);
  return rows.map(([name, value]) => {
    const row = make("tr");
    row.append(make("td", "", name), make("td", "", value));
    return row;
  });
}

async function why(slate, item) {
  byId("why-title").textContent = `Why ${item.title || item.item_id}`;
  byId("why-said").textContent = "asking";
  byId("why-parts").replaceChildren();
  byId("why").showModal();
  const query = new URLSearchParams({ decision_id: slate.decision_id, item_id: item.item_id });
  try {
    const answer = await fetch(`/why?${query}`);
    const found = await answer.json();
    byId("why-said").textContent = answer.ok ? found.said : found.detail;
    if (answer.ok) byId("why-parts").replaceChildren(...parts(found));
  } catch (error) {
    byId("why-said").textContent = error.message;
  }
}

ask("/slate").then(show, (error) => say(`no slate: ${error.message}`, "local"));

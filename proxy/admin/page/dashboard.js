"use strict";
// One page over the admin API. The token, where one is needed, lives in this tab only and goes into a header.
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
let token = sessionStorage.getItem("token") || "";
let seen = [];
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const text = (id, value) => { if ($(id).textContent !== value) $(id).textContent = value; };
const ask = (path, options = {}) => fetch(path, {
  ...options, cache: "no-store",
  headers: { ...(options.body ? { "Content-Type": "application/json" } : {}), ...(token ? { Authorization: "Bearer " + token } : {}) },
});
const ms = (value) => value === null || value === undefined ? "–" : value < 10 ? value.toFixed(2) + " ms" : whole.format(value) + " ms";
const span = (seconds) => seconds < 90 ? Math.round(seconds) + " s" : seconds < 5400 ? Math.round(seconds / 60) + " min" : seconds < 172800 ? Math.round(seconds / 3600) + " h" : Math.round(seconds / 86400) + " d";

function rows(id, list, none) {
  const body = $(id).tBodies[0];
  const made = list.map((cells) => {
    const row = document.createElement("tr");
    cells.forEach((cell) => {
      const td = document.createElement("td");
      const [value, kind] = Array.isArray(cell) ? cell : [cell, ""];
      td.textContent = value;
      if (kind) td.className = kind;
      row.append(td);
    });
    return row;
  });
  if (!made.length) {
    const row = document.createElement("tr"), td = document.createElement("td");
    td.textContent = none; td.className = "none"; row.append(td); made.push(row);
  }
  body.replaceChildren(...made);
}

function draw(id, points, top, width, height) {
  const node = (name, attributes) => { const one = document.createElementNS(SVG, name); Object.entries(attributes).forEach(([k, v]) => one.setAttribute(k, v)); return one; };
  const at = (p) => `${(p[0] * width).toFixed(1)},${(height - 2 - (height - 4) * Math.min(1, p[1] / (top || 1))).toFixed(1)}`;
  const grid = [0.25, 0.5, 0.75].map((y) => node("line", { x1: 0, x2: width, y1: y * height, y2: y * height }));
  const path = points.length > 1 ? "M" + points.map(at).join("L") : "";
  const area = path && path + `L${(points[points.length - 1][0] * width).toFixed(1)},${height}L${(points[0][0] * width).toFixed(1)},${height}Z`;
  $(id).replaceChildren(...(height > 60 ? grid : []), node("path", { class: "area", d: area }), node("path", { d: path }));
}

function agreement(found) {
  return Object.entries(found).map(([route, one]) => [route, one.percent === null ? ["not compared yet", "none"]
    : [`${one.percent} % of ${whole.format(one.compared)} · ${one.percent < 100 ? "" : "at least "}${one.nines} nines`, one.percent < 100 ? "bad" : ""]]);
}

function show(event) {
  seen.push(event);
  seen = seen.slice(-180);
  const past = seen.find((one) => one.now > event.now - 10.5) || seen[0];
  const lookups = event.lookups - past.lookups, took = event.now - past.now;
  text("rate", lookups > 0 ? (100 * (event.hits - past.hits) / lookups).toFixed(1) : event.lookups ? (100 * event.hits / event.lookups).toFixed(1) : "–");
  text("rps", took > 0 ? whole.format((event.requests - past.requests) / took) : "–");
  const rates = seen.slice(1).map((one, i) => (one.requests - seen[i].requests) / Math.max(0.2, one.now - seen[i].now));
  draw("rps-line", rates.map((r, i) => [i / Math.max(1, rates.length - 1), r]), Math.max(...rates, 1), 200, 36);
  const old = event.history.find((one) => one[0] > event.now - 3600) || [event.now, 0, 0];
  text("rate-hour", event.lookups - old[2] > 0 ? (100 * (event.hits - old[1]) / (event.lookups - old[2])).toFixed(1) : "–");
  const hour = [...event.history, [event.now, event.hits, event.lookups]];
  const since = Math.min(3600, Math.max(30, event.now - hour[0][0]));
  text("hour-span", since < 3570 ? span(since) : "hour");
  draw("hour", hour.slice(1).map((one, i) => [1 - (event.now - one[0]) / since, one[1] - hour[i][1], one[2] - hour[i][2]]).filter((p) => p[0] >= 0 && p[2] > 0).map((p) => [p[0], p[1] / p[2]]), 1, 720, 120);
  const hit = event.hit_latency.p50_ms, up = event.upstream_latency.p50_ms, most = Math.max(hit || 0, up || 0) || 1;
  text("hit-ms", ms(hit)); text("up-ms", ms(up));
  $("hit-bar").value = (hit || 0) / most; $("up-bar").value = (up || 0) / most;
  text("ab", hit && up ? `${whole.format(up / hit)} times as fast${event.held_back ? `, ${whole.format(event.held_back)} held back` : ""}` : "\u00a0");
  text("saved", whole.format(event.saved)); text("uptime", span(event.uptime_seconds));
  text("mode", "mode " + event.mode); $("mode").className = "badge " + (event.mode === "serve" ? "good" : "bad");
  const down = event.store.status !== "ok";
  text("backend", `${event.store.backend} ${event.store.status}`); $("backend").className = "badge " + (down ? "bad" : "good");
  const feed = event.store.feed;
  rows("reasons", Object.entries(event.reasons).slice(0, 8).map(([why, n]) => [why, whole.format(n)]), "nothing yet");
  rows("health", [
    ...Object.entries(event.tiers).map(([tier, n]) => [`hits from ${tier}`, whole.format(n)]),
    ["users in memory", whole.format(event.gauges.memory_users || 0)],
    ["memory held", `${((event.gauges.memory_bytes || 0) / 1048576).toFixed(1)} MiB`],
    ...(event.store.backend === "memory" && !feed ? [] : [["Redis answers in", ms(event.store.latency_ms)], ["Redis breaker", [event.store.breaker || "–", event.store.breaker === "open" ? "bad" : ""]], ["evictions to deliver", whole.format(event.store.pending_evictions || 0)]]),
    ...(feed ? [["this replica", feed.replica], ["lease on the feed", [feed.alive ? "alive" : "not alive", feed.alive ? "" : "bad"]]] : []),
    ["replicas", event.replicas === null ? "–" : whole.format(event.replicas)],
    ["workers", whole.format(event.workers)],
  ]);
  rows("truth", agreement(event.truth), "off; set truth: {sample: 1%}");
  rows("shadow", agreement(event.shadow), "not in shadow mode");
  rows("evictions", event.recent_evictions.slice(0, 8).map((one) => [span(Math.max(0, event.now - one.time)) + " ago", one.cause, one.everything ? "everybody" : one.ids.length ? "user " + one.ids.join(", ") : "–", one.entries === 1 ? "1 entry" : `${one.entries} entries`]), "none yet");
}

async function follow() {
  for (;;) {
    try {
      const answer = await ask("events");
      if (answer.status === 401) { login(); return; }
      if (!answer.ok) throw new Error(String(answer.status));
      $("login").hidden = true; $("board").hidden = false;
      text("live", "live"); $("live").className = "badge good";
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const parts = (rest + value).split("\n\n");
        rest = parts.pop();
        parts.filter((part) => part.startsWith("data: ")).forEach((part) => show(JSON.parse(part.slice(6))));
      }
    } catch (error) { void error; }
    text("live", "reconnecting"); $("live").className = "badge bad";
    await new Promise((go) => setTimeout(go, 2000));
  }
}

function login() {
  $("board").hidden = true; $("login").hidden = false; $("token").focus();
  text("live", "locked"); $("live").className = "badge";
  if (token) text("login-said", "That is not the token.");
}
$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value; $("token").value = "";
  sessionStorage.setItem("token", token);
  follow();
});
$("explain").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await ask("explain?" + new URLSearchParams({ method: $("method").value, url: $("url").value }));
  const told = await answer.json();
  const order = ["would_be", "why", "route", "kind", "view", "access", "tier", "age_seconds", "fresh_for_seconds", "keys", "evicts", "detail"];
  $("explained").replaceChildren(...order.filter((name) => told[name] !== undefined && told[name] !== null).flatMap((name) => {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name.replaceAll("_", " "); dd.textContent = [told[name]].flat().join(", ");
    return [dt, dd];
  }));
});
$("evict").addEventListener("submit", (event) => {
  event.preventDefault();
  text("who", $("user").value); $("sure").returnValue = "no"; $("sure").showModal();
});
$("sure").addEventListener("close", async () => {
  if ($("sure").returnValue !== "yes") { text("evict-said", ""); return; }
  const answer = await ask("evict", { method: "POST", body: JSON.stringify({ id: $("user").value }) });
  const told = await answer.json();
  text("evict-said", told.error || told.detail || `Evicted: ${told.evicted.entries} entries, ${told.evicted.aliases} aliases.`);
});
follow();

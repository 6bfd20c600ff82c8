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
const percent = (part, all) => all > 0 ? (100 * part / all).toFixed(1) : "–";
const span = (seconds) => seconds < 90 ? Math.round(seconds) + " s" : seconds < 5400 ? Math.round(seconds / 60) + " min" : seconds < 172800 ? Math.round(seconds / 3600) + " h" : Math.round(seconds / 86400) + " d";

// A cell is a text, or [text, class], or [text, class, a smaller line below]; a row of one text is a heading.
function cell(given) {
  const [value, kind, below] = Array.isArray(given) ? given : [given, ""];
  const td = document.createElement("td");
  td.textContent = value;
  if (kind) td.className = kind;
  if (below) { const small = document.createElement("small"); small.textContent = below; td.append(small); }
  return td;
}

function rows(id, list, none) {
  const made = list.map((cells) => {
    const row = document.createElement("tr");
    if (typeof cells === "string") {
      const th = document.createElement("th");
      th.textContent = cells; th.colSpan = 2; th.scope = "rowgroup"; row.append(th);
    } else row.append(...cells.map(cell));
    return row;
  });
  if (!made.length) {
    const row = document.createElement("tr"), td = cell([none, "none"]);
    td.colSpan = 4; row.append(td); made.push(row);
  }
  const head = $(id).tHead;
  if (head) head.hidden = !list.length;
  $(id).tBodies[0].replaceChildren(...made);
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

// What an operator should know at once, most pressing first: [class, what, and what follows from it].
function notices(event, past) {
  const found = [];
  const stale = Object.entries(event.truth).filter(([, one]) => one.compared && one.percent < 100).map(([route]) => route);
  if (stale.length) found.push(["bad", "A stale answer was served", `on ${stale.join(", ")}: something writes users past the proxy. They were evicted; the log names the fields.`]);
  const failed = count(event.upstream, /failed|5xx/) - count(past.upstream, /failed|5xx/), asked = count(event.upstream, /./) - count(past.upstream, /./);
  if (failed > 0) found.push(["bad", "Upstream fails", `${whole.format(failed)} of ${whole.format(asked)} requests to it in the last ten seconds.`]);
  const waiting = event.connections.upstream.waiting;
  if (waiting) found.push(["bad", "Requests wait for upstream", `${whole.format(waiting)} have no connection; all ${whole.format(event.connections.upstream.limit)} are in use (upstream.max_connections).`]);
  const pending = event.gauges.pending_evictions;
  if (event.gauges.redis_breaker_open) found.push(["bad", "Redis is away", `for ${event.gauges.redis_breaker_open} of ${event.workers} workers. Memory answers for seconds at a time${pending ? `, and ${whole.format(pending)} evictions wait to be delivered` : ""}.`]);
  else if (event.store.feed && event.gauges.feed_alive < event.workers) found.push(["bad", "The feed is not proven", `for ${event.workers - event.gauges.feed_alive} of ${event.workers} workers: they answer from Redis and not from memory.`]);
  if (event.mode !== "serve") found.push(["", `Mode is ${event.mode}`, event.mode === "off" ? "and everything is forwarded; writes still evict." : "and everything is forwarded; what the cache would have said is compared."]);
  if (!event.requests) found.push(["", "No request has come yet.", "Clients are to use the address in LISTEN; below, Explain tells what would become of a URL."]);
  const told = found.map((one) => one.join(" ")).join();
  if ($("notices").dataset.told === told) return;
  $("notices").dataset.told = told;
  $("notices").hidden = !found.length;
  $("notices").replaceChildren(...found.map(([kind, what, more]) => {
    const li = document.createElement("li"), b = document.createElement("b");
    li.className = kind; b.textContent = what; li.append(b, " " + more);
    return li;
  }));
}

const count = (counts, names) => Object.entries(counts).reduce((sum, [name, n]) => sum + (names.test(name) ? n : 0), 0);
const points = (list) => list.slice(1).map((one, i) => [one[0], one[1] - list[i][1], one[2] - list[i][2]]).filter((one) => one[2] > 0);

function show(event) {
  // A restart begins to count anew, and what was seen before says nothing any more.
  if (seen.length && event.requests < seen[seen.length - 1].requests) seen = [];
  seen.push(event);
  seen = seen.slice(-180);
  const past = seen.find((one) => one.now > event.now - 10.5) || seen[0];
  const lookups = event.lookups - past.lookups, took = event.now - past.now;
  const rate = lookups > 0 ? percent(event.hits - past.hits, lookups) : percent(event.hits, event.lookups);
  text("rate", rate); $("rate").className = rate === "–" ? "empty" : "";
  document.title = (rate === "–" ? "" : rate + " % · ") + "user-cache-proxy";
  text("about", `${location.host} · ${event.version}`);
  text("rps", took > 0 ? whole.format((event.requests - past.requests) / took) : "–");
  $("rps").className = took > 0 ? "" : "empty";
  const rates = seen.slice(1).map((one, i) => (one.requests - seen[i].requests) / Math.max(0.2, one.now - seen[i].now));
  draw("rps-line", rates.map((r, i) => [i / Math.max(1, rates.length - 1), r]), Math.max(...rates, 1), 200, 36);
  const old = event.history.find((one) => one[0] > event.now - 3600) || [event.now, 0, 0];
  const hourly = percent(event.hits - old[1], event.lookups - old[2]);
  text("rate-hour", hourly === "–" ? hourly : hourly + " %");
  // Ten seconds apart over the hour; a page that is new to a young process has them a second apart.
  const hour = [...event.history, [event.now, event.hits, event.lookups]], live = seen.map((one) => [one.now, one.hits, one.lookups]);
  const young = event.now - hour[0][0] < 170, line = points(young && live.length > 4 ? live : hour);
  const since = Math.max(5, event.now - (line.length ? line[0][0] : hour[0][0]));
  text("hour-span", since < 3570 ? span(since) : "hour"); text("hour-from", line.length ? "−" + span(since) : "no look-ups yet");
  draw("hour", line.map((one) => [1 - (event.now - one[0]) / since, one[1] / one[2]]).filter((p) => p[0] >= 0), 1, 720, 120);
  const hit = event.hit_latency.p50_ms, up = event.upstream_latency.p50_ms, most = Math.max(hit || 0, up || 0) || 1;
  text("hit-ms", ms(hit)); text("up-ms", ms(up));
  text("hit-p99", ms(event.hit_latency.p99_ms)); text("up-p99", ms(event.upstream_latency.p99_ms));
  $("hit-bar").value = (hit || 0) / most; $("up-bar").value = (up || 0) / most;
  text("ab", hit && up ? `a hit is ${whole.format(up / hit)} times as fast${event.held_back ? `; ${whole.format(event.held_back)} were held back to compare` : ""}` : "\u00a0");
  text("saved", whole.format(event.saved)); text("uptime", span(event.uptime_seconds));
  text("saved-now", took > 0 ? whole.format((event.saved - past.saved) / took) + " /s" : "–");
  text("mode", "mode " + event.mode); $("mode").className = "badge " + (event.mode === "serve" ? "good" : "bad");
  const down = event.store.status !== "ok";
  text("backend", `${event.store.backend} ${event.store.status}`); $("backend").className = "badge " + (down ? "bad" : "good");
  notices(event, past);
  const first = seen[0], lately = (why) => event.reasons[why][0] - (first.reasons[why] || [0])[0];
  text("reason-span", span(Math.max(1, event.now - first.now)));
  rows("reasons", Object.keys(event.reasons).sort((a, b) => lately(b) - lately(a) || event.reasons[b][0] - event.reasons[a][0]).slice(0, 8)
    .map((why) => [[why, "", event.reasons[why][1].replaceAll("`", "")], whole.format(lately(why)), whole.format(event.reasons[why][0])]), event.lookups ? "everything was a hit" : "nothing yet");
  health(event);
  rows("truth", agreement(event.truth), "off; set truth: {sample: 1%} in routes.yaml");
  rows("shadow", agreement(event.shadow), "not in shadow mode");
  rows("evictions", event.recent_evictions.slice(0, 8).map((one) => [span(Math.max(0, event.now - one.time)) + " ago", one.cause, one.everything ? "everybody" : one.ids.length ? "user " + one.ids.join(", ") : "–", one.entries === 1 ? "1 entry" : `${one.entries} entries`]), "none yet");
}

function health(event) {
  const { store, gauges, tiers, connections } = event, { feed } = store, redis = connections.redis;
  const shared = redis.in_use !== undefined;
  const of = (part, all) => `${whole.format(part)} of ${whole.format(all)}`;
  rows("health", [
    "Memory",
    ["hits", whole.format(tiers.memory || 0)],
    ["users", whole.format(gauges.memory_users || 0)],
    ["held", `${((gauges.memory_bytes || 0) / 1048576).toFixed(1)} MiB`],
    ...(shared ? [
      "Redis",
      ["hits", whole.format(tiers.redis || 0)],
      ["answers in", ms(store.latency_ms)],
      ["breaker", [store.breaker || "–", store.breaker === "open" ? "bad" : ""]],
      ["evictions to deliver", [whole.format(gauges.pending_evictions || 0), gauges.pending_evictions ? "bad" : ""]],
      ["connections", whole.format(redis.in_use + redis.idle)],
      ["calls under way", whole.format(redis.waiting)],
    ] : []),
    ...(feed ? [
      "Feed",
      ["replicas", event.replicas === null ? "–" : whole.format(event.replicas)],
      ["this one", feed.replica],
      ["lease on the feed", [feed.alive ? "alive" : "not alive", feed.alive ? "" : "bad"]],
    ] : []),
    "Upstream",
    ["answers", whole.format(count(event.upstream, /xx/))],
    ["failed, or 5xx", [whole.format(count(event.upstream, /failed|5xx/)), ""]],
    ["connections in use", of(connections.upstream.in_use, connections.upstream.limit)],
    "Clients",
    ["connections", of(connections.client.busy + connections.client.idle, connections.client.limit)],
    ["refused before the walk", whole.format(event.refused)],
    ["workers", whole.format(event.workers)],
  ]);
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

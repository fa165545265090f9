"use strict";
/* Keeps the page that the daemon has written up to date. All text goes through textContent. */
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const fill = (e, attributes, children) => {
    for (const [name, value] of Object.entries(attributes || {})) if (value !== null) e.setAttribute(name, value);
    e.append(...children.flat().filter((c) => c !== null && c !== ""));
    return e;
  };
  const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const g = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
  const $ = (id) => document.getElementById(id);

  const time = (ms) => ms < 1000 ? `${Math.floor(ms)} ms` : ms < 10000 ? `${(ms / 1000).toFixed(1)} s`
    : ms < 120e3 ? `${Math.floor(ms / 1000)} s` : ms < 7200e3 ? `${Math.floor(ms / 60e3)} min`
    : ms < 48 * 3600e3 ? `${Math.floor(ms / 3600e3)} h` : `${Math.floor(ms / 86400e3)} days`;
  const ago = (ms) => ms < 1000 ? "just now" : `${time(Math.floor(ms / 1000) * 1000).replace(/\.\d/, "")} ago`;
  const count = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
  const part = (n, all) => all > 0 ? `${(100 * n / all).toFixed(2)}%` : "0%";

  const lane = (s) => g("svg", { class: "lane", role: "img", "aria-label": `${count(s.attempts.length, "attempt")} in ${time(s.total_ms)}` },
    g("rect", { class: "f-lane", x: "0", y: "3", width: "100%", height: "4" }),
    s.attempts.slice().reverse().map((a) => g("rect", { class: `f-${a.outcome}`, x: part(a.start_ms, s.total_ms), y: "0", height: "10",
      width: part(Math.max(a.duration_ms, s.total_ms / 100), s.total_ms) })));
  const what = (s) => h("span", { class: "mono" }, `${s.method} ${s.path}`);
  const tale = (s) => h("details", null, h("summary", null, what(s), s.model ? ` ${s.model}` : ""),
    h("ol", { class: "tale" }, h("li", null, h("span", { class: "mono" }, s.id)), s.sentences.map((t) => h("li", null, t))));
  const row = (s, now) => {
    const age = h("time", { datetime: new Date(s.began_ms).toISOString() }, ago(now - s.began_ms));
    age.dataset.ms = s.began_ms;
    const tone = s.rescued || s.end === "answered" ? "ok" : s.end === "client_gone" ? "dim" : "bad";
    return h("tr", null, h("td", { class: "t" }, age), h("td", { class: "full" }, tale(s)),
      h("td", { class: `full ${tone}` }, s.summary), h("td", { class: "n", "data-label": "attempts" }, `${s.attempts_made}`),
      h("td", { class: "n" }, time(s.total_ms)), h("td", { class: "bar" }, lane(s)));
  };

  const health = (d) => {
    $("health").className = `s-${d.health.state}`;
    $("state").textContent = d.health.sentence;
    document.title = `retryd: ${d.health.sentence}`;
    $("why").replaceChildren(...d.health.why.map((w) => h("li", null, w)));
    $("meta").textContent = `${d.version}, up ${time(d.now_ms - d.started_ms)}`;
  };
  const head = (...names) => h("thead", null, h("tr", null, names.map((n) => h("th", n[0] === "#" ? { class: "n" } : null, n.replace("#", "")))));
  const now = (d) => {
    const line = h("p", { class: "line" }, `${d.now.stories.length ? "" : "Nothing is being ridden out. "}${count(d.now.requests, "request")} in progress on ` +
      `${count(d.now.connections, "connection")}, ${d.now.waiting} waiting in the queue.`);
    const rows = d.now.stories.slice(0, 20).map((s) => h("tr", null, h("td", { class: "full" }, what(s), s.model ? ` ${s.model}` : ""),
      h("td", { class: "full" }, s.summary), h("td", { class: "n", "data-label": "for" }, time(s.total_ms)), h("td", { class: "bar" }, lane(s))));
    return rows.length ? [line, h("table", { class: "cards" }, head("Request", "State", "#For", "Attempts"), h("tbody", null, rows))] : [line];
  };
  const key = (name) => g("svg", { "aria-hidden": "true", viewBox: "0 0 10 10" }, g("rect", { class: `f-${name}`, width: "10", height: "10", rx: "2" }));
  const where = (d) => {
    const t = d.time, parts = [["up", "upstreams", t.upstream_ms], ["backoff", "backing off", t.backoff_ms], ["queue", "in the queue", t.queue_ms],
      ["other", "retryd and clients", t.other_ms]];
    const sum = parts.reduce((n, p) => n + p[2], 0);
    let x = 0;
    const cpu = t.cpu_us_per_request === null ? "" : `retryd needs ${t.cpu_us_per_request} \u00b5s of CPU a request. `;
    const facts = h("p", { class: "line dim" }, `${cpu}Longest iteration of an event loop in the last minute: ${t.loop_lag_max_ms} ms. ` +
      `Memory: ${Math.floor(t.memory_bytes / 1e6)} MB.`);
    if (!sum) return [h("p", { class: "line" }, "No request has taken any time in the last hour."), facts];
    return [g("svg", { class: "sum", role: "img", "aria-label": "Where the time of the last hour's requests went" }, parts.map(([name, , ms]) => {
      const r = g("rect", { class: `f-${name}`, x: part(x, sum), y: "0", width: part(ms, sum), height: "18" });
      x += ms;
      return r;
    })), h("ul", { class: "legend" }, parts.map(([name, label, ms]) => h("li", null, key(name), `${label} `, h("b", null, time(ms)),
      ` ${Math.floor(100 * ms / sum)} %`))), facts];
  };
  const upstream = (u) => {
    const facts = [u.max_concurrency === null ? `${u.in_flight} in flight` : `${u.in_flight} of at most ${u.max_concurrency} in flight`];
    if (u.requests_per_minute !== null) facts.push(`${u.requests_per_minute} requests a minute, the next ${u.rate_free_in_ms > 0 ? `in ${time(u.rate_free_in_ms)}` : "now"}`);
    facts.push(`${count(u.budget.retries, "retry").replace("retrys", "retries")} in 10 s, room for ${u.budget.left} more`);
    for (const k of u.keys) facts.push(k.changes_in_ms === null ? `key ${k.key} in use` : `key ${k.key} set aside for ${time(k.changes_in_ms)}`);
    const rows = u.models.flatMap((m) => m.targets.map((t) => {
      const shut = m.breaker.state !== "closed" || t.gate.state !== "open";
      return h("tr", shut ? { class: "shut" } : null, h("td", { class: "full" }, m.model || "(no model)", m.operation === "generate" ? "" : h("span", { class: "dim" }, ` ${m.operation}`),
        t.key === null ? "" : h("span", { class: "dim" }, ` key ${t.key}`)),
        h("td", { class: m.breaker.state === "closed" ? "full" : "full bad", "data-label": "breaker" }, m.breaker.sentence),
        h("td", { class: t.gate.state === "open" ? "full" : "full warn", "data-label": "gate" }, t.gate.sentence),
        h("td", { class: "n", "data-label": "waiting" }, `${t.waiting}`));
    }));
    const more = u.models_hidden ? [h("p", { class: "line dim" }, `${count(u.models_hidden, "model")} more`)] : [];
    return [h("h3", null, u.name, " ", h("small", null, u.host)), h("p", { class: "line dim" }, `${facts.join("; ")}.`),
      rows.length ? h("table", { class: "cards up" }, head("Model", "Breaker", "Gate", "#Waiting"), h("tbody", null, rows)) : null, ...more];
  };
  const plot = (title, peak, label, layers, legend) => h("div", null, h("p", null, title, h("span", { class: "dim" }, ` at most ${peak} a minute`)),
    g("svg", { class: "plot", viewBox: "0 0 600 72", preserveAspectRatio: "none", role: "img", "aria-label": label },
      layers.flatMap((stack, i) => {
        let y = 72;
        return stack.map(([name, n]) => {
          const tall = peak ? Math.floor(n * 70 / peak) : 0;
          y -= tall;
          return n ? g("rect", { class: `f-${name}`, x: `${i * 10 + 1}`, y: `${y}`, width: "8", height: `${tall}` }) : null;
        }).filter(Boolean);
      })),
    h("div", { class: "axis" }, h("span", null, "an hour ago"), h("span", null, "now")),
    h("ul", { class: "legend" }, legend.map(([name, word, n]) => h("li", null, key(name), `${word} `, h("b", null, `${n}`)))));
  const hour = (d) => {
    const minutes = d.hour.minutes, sum = (o) => Object.values(o).reduce((a, b) => a + b, 0);
    const whole = (m) => Math.max(m.requests, m.rescued + m.failed);
    const reasons = Object.entries(d.hour.failures).sort((a, b) => b[1] - a[1]);
    const top = reasons.slice(0, 5).map((r) => r[0]);
    const others = sum(d.hour.failures) - top.reduce((n, r) => n + d.hour.failures[r], 0);
    const legend = top.map((r, i) => [`r${i}`, r, d.hour.failures[r]]);
    if (others) legend.push(["r5", "others", others]);
    return [h("div", { class: "plots" },
      plot("Requests", Math.max(...minutes.map(whole)), "Requests of the last hour by minute",
        minutes.map((m) => [["failed", m.failed], ["rescued", m.rescued], ["up", whole(m) - m.failed - m.rescued]]),
        [["up", "requests", d.hour.requests], ["rescued", "rescued", d.hour.rescued], ["failed", "failed", d.hour.failed]]),
      plot("Failed attempts", Math.max(...minutes.map((m) => sum(m.failures))), "Failed attempts of the last hour by minute and reason",
        minutes.map((m) => [...top.map((r, i) => [`r${i}`, m.failures[r] || 0]),
          ["r5", sum(m.failures) - top.reduce((n, r) => n + (m.failures[r] || 0), 0)]]), legend))];
  };
  const config = (d) => {
    const c = d.configuration, r = c.last_reload;
    $("config").replaceChildren(h("dt", null, "File"), h("dd", null, c.file || "none: the built-in defaults", c.changed_on_disk ? " (changed since it was read)" : ""),
      h("dt", null, "In force"), h("dd", null, `since ${ago(d.now_ms - c.read_ms)}, hash `, h("code", null, c.hash)),
      h("dt", null, "Last reload"), h("dd", { class: r.ok ? null : "bad" }, r.ok ? "accepted, or none yet" : `refused ${ago(d.now_ms - r.at_ms)}: ${r.problem}`));
    if (c.dump !== null) $("dump").textContent = c.dump;
  };

  let serial = 0, started = 0, hash = "", first = true, busy = false;
  const show = (d) => {
    health(d);
    $("now").replaceChildren(...now(d));
    $("where").replaceChildren(...where(d));
    $("upstreams").replaceChildren(...d.upstreams.flatMap(upstream).filter(Boolean));
    $("hour").replaceChildren(...hour(d));
    const body = $("history");
    if (first) body.replaceChildren();
    body.prepend(...d.history.map((s) => row(s, d.now_ms)));
    while (body.children.length > 200) body.lastChild.remove();
    for (const t of body.querySelectorAll("time")) t.textContent = ago(d.now_ms - t.dataset.ms);
    $("none").hidden = body.children.length > 0;
    $("table").hidden = body.children.length === 0;
    config(d);
    serial = d.history_serial;
    started = d.started_ms;
    hash = d.configuration.hash;
    first = false;
    document.documentElement.dataset.live = `${d.now_ms}`;
  };
  const look = async () => {
    if (busy || document.hidden) return;
    busy = true;
    try {
      let d = await (await fetch(first ? "/status.json" : `/status.json?since=${serial}`, { cache: "no-store" })).json();
      /* Another process, or another configuration: everything is read again. */
      if (!first && (d.started_ms !== started || d.history_serial < serial || d.configuration.hash !== hash)) {
        first = true;
        d = await (await fetch("/status.json", { cache: "no-store" })).json();
      }
      show(d);
    } catch (e) {
      $("health").className = "s-lost";
      $("state").textContent = "retryd does not answer";
      $("why").replaceChildren();
      document.title = "retryd does not answer";
    }
    busy = false;
  };
  const actions = $("actions");
  if (actions) actions.hidden = false;
  if (actions) actions.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const r = await fetch(`/actions/${event.submitter.value}`, { method: "POST", headers: { Authorization: `Bearer ${$("token").value}` } });
      $("said").textContent = await r.text();
    } catch (e) {
      $("said").textContent = "retryd does not answer";
    }
  });
  document.addEventListener("visibilitychange", look);
  setInterval(look, 1000);
  look();
})();

// The web page: what the API says, shown to whom the token belongs. It only looks, and changes nothing.
//
// Texts reach the document as text, never as HTML. The one exception is a plugin's panel, which gets a frame that runs
// no script, has no origin, sends no form and, as it inherits this page's policy, loads nothing from elsewhere.

const KEPT_AS = "mooring.token";
const POLL = 10_000; // Milliseconds between two looks where no event asks for an earlier one.
const GATHER = 400; // Events come in groups: one look for all of a group.
const AGAIN = 5_000; // Until a stream that broke off is asked for again.
const PANELS = 30_000; // Each look calls plugins.
const SLOW = 30_000; // What has not begun to answer by then does not answer.
const LINES = 100; // Of the log, to begin with.
const MOST_LINES = 500;
const MOST_HTML = 1024 * 1024;
const RECENT = 10;

const $ = (id) => document.getElementById(id);

// ---- Asking the API ----

/** The server said no (`status`), or nothing at all (0). `message` is for people. */
class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let token = "";

async function ask(path, signal, accept = "application/json") {
  const headers = { Authorization: `Bearer ${token}`, Accept: accept };
  const slow = new AbortController();
  const timer = setTimeout(() => slow.abort(), SLOW);
  const both = AbortSignal.any([signal, slow.signal]);
  let response;
  try {
    response = await fetch(path, { headers, signal: both, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (error) {
    throw signal.aborted ? error : new Problem(0, "The server does not answer.");
  } finally {
    clearTimeout(timer);
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response) {
  const said = await response.json().catch(() => ({}));
  return new Problem(response.status, said.detail || `The server answered with the status ${response.status}.`);
}

async function get(path, signal) {
  return jsonOf(await ask(path, signal), signal);
}

async function jsonOf(response, signal) {
  try {
    return await response.json();
  } catch (error) {
    throw signal.aborted ? error : new Problem(0, "The server broke off in the middle of its answer.");
  }
}

/** A list in all of its pages. */
async function list(path, signal) {
  const found = [];
  for (let next = path; next; ) {
    const response = await ask(next, signal);
    found.push(...(await jsonOf(response, signal)));
    next = /^<(\/v1\/[^>]*)>; rel="next"$/.exec(response.headers.get("Link") || "")?.[1];
  }
  return found;
}

/** The values of an NDJSON stream as they come; blank lines in it are signs of life. */
async function* stream(path, signal) {
  const response = await ask(path, signal, "application/x-ndjson");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines.filter((each) => each.trim())) {
      const found = JSON.parse(line);
      if (found.problem) throw new Problem(found.problem.status, found.problem.detail);
      yield found;
    }
  }
}

const query = (values) => new URLSearchParams(values).toString();
const deploymentPath = (name) => `/v1/deployments/${encodeURIComponent(name)}`;
const servicePath = (at) => `${deploymentPath(at.deployment)}/services/${encodeURIComponent(at.service)}`;

// ---- Deciding what is said: plain values in, plain values out ----

/** One word or two for how a service is, the same as `moor apps` has, and how it is meant. */
export function stateOf(info) {
  const service = info.service;
  const paused = service.paused ? ", paused" : "";
  if (info.held !== null) return ["held", "busy"];
  if (service.stopped) return ["stopped", "still"];
  if (service.target !== null && service.target !== service.current) return [`deploying v${service.target}${paused}`, "busy"];
  if (service.current === null) return ["not deployed", service.rollout_failure ? "bad" : "still"];
  if (service.generation !== service.current_generation) return [`restarting${paused}`, "busy"];
  if (service.maintenance) return ["in maintenance", "busy"];
  if (info.running < info.due) return [`${info.running} of ${info.due} running`, "bad"];
  if (info.due) return ["running", "good"];
  return [Object.values(info.process_types).some((each) => each) ? "stopped" : "scaled to zero", "still"];
}

const TONES = {
  live: "good", running: "good", ready: "good", succeeded: "good",
  pending: "busy", starting: "busy", stopping: "busy", queued: "busy", removing: "busy",
  failed: "bad", crashed: "bad", "crash-looping": "bad", abandoned: "bad",
};

/** How long ago, in words. */
export function ago(moment, now) {
  const seconds = Math.max(0, (now - new Date(moment)) / 1000);
  for (const [size, word] of [[86400, "day"], [3600, "hour"], [60, "minute"]]) {
    const count = Math.floor(seconds / size);
    if (count) return `${count} ${word}${count === 1 ? "" : "s"} ago`;
  }
  return "just now";
}

/** What the address says: `#/deployment/service`. */
export function placeOf(hash) {
  let names;
  try {
    names = hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  } catch {
    names = [];
  }
  const [deployment = "", service = ""] = names.filter(Boolean);
  return { deployment, service };
}

const placeHash = (...names) => `#/${names.map(encodeURIComponent).join("/")}`;

// ---- Making elements ----

/** An element. Children that are null or empty are left out; what is no element becomes text. */
function h(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((each) => each !== null && each !== ""));
  return made;
}

/** Make `live` have the children that `made` has, touching only what differs: focus, scrolling and what was opened stay.
 * Elements with a `data-key` are the same only where it is. */
function morph(live, made) {
  let at = live.firstChild;
  const drop = () => {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  };
  for (const next of [...made.childNodes]) {
    let found = at;
    while (found !== null && !isSame(found, next)) found = found.nextSibling;
    if (found === null) {
      live.insertBefore(next, at);
      continue;
    }
    while (at !== found) drop();
    if (at.nodeType === Node.TEXT_NODE) {
      if (at.data !== next.data) at.data = next.data;
    } else {
      morphAttributes(at, next);
      morph(at, next);
    }
    at = at.nextSibling;
  }
  while (at !== null) drop();
}

const isSame = (one, other) => one.nodeName === other.nodeName && one.dataset?.key === other.dataset?.key;

function morphAttributes(live, made) {
  for (const { name } of [...live.attributes]) {
    if (!made.hasAttribute(name) && name !== "open") live.removeAttribute(name); // `open` is the reader's
  }
  for (const { name, value } of made.attributes) {
    if (live.getAttribute(name) !== value) live.setAttribute(name, value);
  }
}

const link = (text, ...names) => h("a", { href: placeHash(...names) }, text);
const badge = (text, tone) => h("span", { class: `state ${tone || "still"}` }, text);
const tonedBadge = (text) => badge(text, TONES[text]);
const quiet = (text) => h("span", { class: "quiet" }, text);

function outward(url) {
  if (!/^https?:\/\//.test(url)) return url;
  return h("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, url.replace(/^https?:\/\//, "").replace(/\/$/, ""));
}

function when(moment) {
  if (!moment) return "";
  return h("time", { datetime: moment, title: new Date(moment).toLocaleString() }, ago(moment, Date.now()));
}

function section(title, ...content) {
  return h("section", null, h("h2", null, title), ...content);
}

/** A table in a frame of its own, which the keyboard can move too. A row has a `key` of its own and `cells`, of which the
 * first says what it is about; the column `long` has sentences. */
function table(title, heads, long, rows) {
  const cell = (each, index) =>
    index === 0 ? h("th", { scope: "row" }, each) : h("td", { class: heads[index] === long ? "long" : "short" }, each);
  return h(
    "div",
    { class: "wide", tabindex: "0", role: "region", "aria-label": title },
    h(
      "table",
      null,
      h("thead", null, h("tr", null, heads.map((each) => h("th", { scope: "col" }, each)))),
      h("tbody", null, rows.map(({ key, cells }) => h("tr", { "data-key": key }, cells.map(cell)))),
    ),
  );
}

// ---- What services look like ----

function facts(...pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== "" && value?.length !== 0);
  return h("dl", { class: "facts" }, shown.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}

function serviceFacts(info) {
  const urls = info.urls.flatMap((each, index) => (index ? [", ", outward(each)] : [outward(each)]));
  return facts(
    ["Version", info.service.current === null ? "none yet" : `v${info.service.current}`],
    ["Instances", `${info.running} of ${info.due}`],
    ["Domains", urls],
  );
}

/** Why it is as it is: what holds it, what is under way, what failed. */
function reasons(info, deploys) {
  const own = deploys.filter((each) => each.deployment === info.service.deployment && each.service === info.service.name);
  const builds = own.filter((each) => each.build !== null);
  return [
    info.held === null ? null : h("p", { class: "why" }, `Held: ${info.held}`),
    info.rollout === null ? null : h("p", { class: "why" }, `Under way: ${info.rollout}`),
    ...builds.map((each) => h("p", { class: "why" }, `${each.state === "queued" ? "A build waits" : "A build runs"}: ${each.doing || each.reason || each.build}`)),
    info.service.rollout_failure ? h("p", { class: "failure" }, `The last rollout failed: ${info.service.rollout_failure}`) : null,
    info.staged.length ? h("p", { class: "quiet" }, `The next version has changes of ${info.staged.join(", ")}.`) : null,
  ];
}

function serviceItem(info, deploys) {
  const { deployment, name } = info.service;
  return h(
    "li",
    { class: "service", "data-key": name },
    h("h3", null, link(name, deployment, name), badge(...stateOf(info))),
    serviceFacts(info),
    reasons(info, deploys),
  );
}

function serviceList(infos, deploys) {
  if (!infos.length) return h("p", { class: "quiet" }, "It has no service yet: the first push makes one, or a service file.");
  return h("ul", { class: "services" }, infos.map((each) => serviceItem(each, deploys)));
}

// ---- The three views: each gives what stands below its heading ----

async function startView(_place, signal) {
  const [status, deployments, infos, deploys] = await Promise.all([
    get("/v1/status", signal),
    list("/v1/deployments?limit=1000", signal),
    list("/v1/services?limit=1000", signal),
    get("/v1/deploys", signal),
  ]);
  const wrong = h(
    "section",
    { class: "problems", "data-key": "/problems", "aria-label": "What is wrong now" },
    h("h2", null, "What is wrong now"),
    h("ul", null, status.problems.map((each) => h("li", null, each))),
  );
  const none = [
    h("p", null, "There is no deployment yet that you may view."),
    h("p", null, "An admin makes one with ", h("code", null, "moor create NAME"), ", and gives others a right on it with ",
      h("code", null, "moor access:add USER -a NAME --right view"), "."),
  ];
  const services = (name) => infos.filter((each) => each.service.deployment === name);
  return h(
    "div",
    null,
    status.problems.length ? wrong : null,
    deployments.length
      ? deployments.map(({ name }) => h("section", { "data-key": name }, h("h2", null, link(name, name)), serviceList(services(name), deploys)))
      : none,
  );
}

async function deploymentView(place, signal) {
  const path = deploymentPath(place.deployment);
  const only = query({ deployment: place.deployment });
  const [infos, resources, execs, deploys] = await Promise.all([
    list(`/v1/services?limit=1000&${only}`, signal),
    list(`${path}/resources?limit=1000`, signal),
    list(`${path}/execs?limit=1000`, signal),
    get(`/v1/deploys?${only}`, signal),
  ]);
  const said = (each) => (each.failure ? h("span", { class: "failure" }, each.failure) : each.waits || "");
  const rows = [
    ...resources.map((each) => ({ key: each.name, cells: [each.name, each.kind, tonedBadge(each.status), said(each)] })),
    ...execs.map((each) => ({ key: each.name, cells: [each.name, "command", tonedBadge(each.status), said(each)] })),
  ];
  return h(
    "div",
    null,
    section("Services", serviceList(infos, deploys)),
    rows.length ? section("Resources", table("Resources", ["Name", "Kind", "State", "Why"], "Why", rows)) : null,
  );
}

async function serviceView(place, signal) {
  const path = servicePath(place);
  const [info, instances, versions, builds, deploys] = await Promise.all([
    get(path, signal),
    list(`${path}/instances?limit=1000`, signal),
    get(`${path}/versions?limit=${RECENT}`, signal),
    get(`${path}/builds?limit=${RECENT}`, signal),
    get(`/v1/deploys?${query(place)}`, signal),
  ]);
  return h(
    "div",
    null,
    h(
      "div",
      { class: "sheet" },
      h("div", { class: "state-line" }, badge(...stateOf(info)), info.service.definition.image ? quiet(info.service.definition.image) : null),
      serviceFacts(info),
      reasons(info, deploys),
    ),
    section("Instances", instances.length ? instanceTable(instances) : h("p", { class: "quiet" }, "Nothing runs.")),
    section("Versions", versions.length ? versionTable(versions, info.service.current) : h("p", { class: "quiet" }, "It has none yet.")),
    builds.length ? section("Builds", buildTable(builds)) : null,
  );
}

function instanceTable(instances) {
  return table(
    "Instances",
    ["Instance", "State", "Version", "Since", "Restarts", "Why"],
    "Why",
    instances.map((each) => ({
      key: each.id,
      cells: [
        `${each.process_type || "web"}.${each.number}`,
        tonedBadge(each.state),
        `v${each.version}`,
        when(each.started_at),
        String(each.restarts),
        each.detail,
      ],
    })),
  );
}

function versionTable(versions, current) {
  const failure = (each) => [
    each.failure ? h("p", { class: each.status === "failed" ? "failure" : "quiet" }, each.failure) : null,
    each.failure_log.length
      ? h("details", null, h("summary", null, "Its last lines"), h("pre", null, each.failure_log.join("\n")))
      : null,
  ];
  return table(
    "Versions",
    ["Version", "State", "What", "By", "Made"],
    "What",
    versions.map((each) => ({
      key: each.number,
      cells: [
        h("span", { "aria-current": each.number === current ? "true" : null }, `v${each.number}`),
        tonedBadge(each.status),
        [each.reason, each.summary ? quiet(` (${each.summary})`) : null, ...failure(each)],
        each.actor,
        when(each.created_at),
      ],
    })),
  );
}

function buildTable(builds) {
  return table(
    "Builds",
    ["Code", "State", "What", "By", "When"],
    "What",
    builds.map((each) => ({
      key: each.id,
      cells: [
        (each.commit || each.id).slice(0, 7),
        tonedBadge(each.status),
        each.error ? h("span", { class: "failure" }, each.error) : each.doing || each.reason,
        each.actor,
        when(each.finished_at || each.started_at || each.queued_at),
      ],
    })),
  );
}

// ---- The log of a service ----

/** Its lines, added a frame at a time: many may come at once. It stays at its end unless the reader went back in it. */
class LogBox {
  constructor() {
    this.lines = h("pre", { class: "log", tabindex: "0", role: "region", "aria-label": "Lines of the log" });
    this.element = section("Log", this.lines, h("p", { class: "quiet" }, "Times are in UTC."));
    this.element.hidden = true; // until there are any
    this.waiting = [];
  }

  begin() {
    this.waiting = [];
    this.lines.replaceChildren();
    this.element.hidden = false;
  }

  add(text) {
    if (this.waiting.push(`${text}\n`) === 1) requestAnimationFrame(() => this.flush());
  }

  flush() {
    const lines = this.lines;
    const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 30;
    lines.append(...this.waiting.slice(-MOST_LINES));
    this.waiting = [];
    while (lines.childNodes.length > MOST_LINES) lines.firstChild.remove();
    if (atEnd) lines.scrollTop = lines.scrollHeight;
  }
}

async function followLog(box, place, signal) {
  for (; !signal.aborted; await pause(AGAIN, signal)) {
    try {
      let begun = false;
      for await (const line of stream(`${servicePath(place)}/logs?lines=${LINES}&follow=true`, signal)) {
        if (!begun) box.begin(); // what was there of an earlier connection comes again
        begun = true;
        box.add(`${line.time.slice(0, 19).replace("T", " ")} ${line.source}[${line.process}]: ${line.text}`);
      }
    } catch (error) {
      if (signal.aborted || signOutIfUnknown(error)) return;
      // The view tells where the server is away, or the service is not there.
      if (!error.status || error.status === 404) continue;
      box.begin();
      box.add(`The log can't be shown: ${error.message}`);
    }
  }
}

// ---- Panels of plugins ----

/** The document of a panel: its HTML with our style, as it may bring none. */
function panelDocument(html) {
  const head = '<meta charset="utf-8"><meta name="color-scheme" content="light dark"><link rel="stylesheet" href="/web/page.css">';
  // Links would only lead to an error within the frame; in a window of their own they lead nowhere.
  return `<!doctype html><html lang="en"><head>${head}<base target="_blank"></head><body class="panel">${html}`;
}

class PanelBox {
  constructor(panel) {
    this.panel = panel;
    this.html = null;
    this.body = h("div");
    this.element = h("section", { class: "panel-box sheet", "aria-label": panel.title },
      h("header", null, h("h3", null, panel.title), quiet(`plugin ${panel.plugin}`)), this.body);
  }

  async load(deployment, signal) {
    const asked = deployment ? `?${query({ deployment })}` : "";
    try {
      this.show(await panelHtml(this.panel.path + asked, signal));
    } catch (error) {
      if (signal.aborted || signOutIfUnknown(error)) return;
      this.html = null;
      this.body.replaceChildren(h("p", { class: "failure" }, `This panel failed: ${error.message}`));
    }
  }

  show(html) {
    if (html === this.html) return; // a new frame would lose where its reader is
    this.html = html;
    this.body.replaceChildren(
      h("iframe", { sandbox: "", title: this.panel.title, referrerpolicy: "no-referrer", srcdoc: panelDocument(html) }),
    );
  }
}

async function panelHtml(path, signal) {
  const response = await ask(path, signal, "text/html");
  const media = response.headers.get("Content-Type") || "";
  if (!media.startsWith("text/html")) throw new Error(`its route answers with ${media || "something"}, and no HTML.`);
  const html = await response.text();
  if (html.length > MOST_HTML) throw new Error("it is larger than 1 MiB.");
  return html;
}

async function keepPanels(place, holder, signal) {
  const boxes = new Map();
  const path = `/v1/plugin-panels?${query({ limit: 1000, ...(place.deployment && { deployment: place.deployment }) })}`;
  for (; !signal.aborted; await pause(PANELS, signal)) {
    let panels;
    try {
      panels = await list(path, signal);
    } catch (error) {
      if (signal.aborted || signOutIfUnknown(error)) return;
      continue; // the view says what is wrong
    }
    const wanted = new Map(panels.map((each) => [each.path, boxes.get(each.path) || new PanelBox(each)]));
    for (const [key, box] of boxes) if (!wanted.has(key)) box.element.remove();
    for (const [key, box] of wanted) if (!boxes.has(key)) holder.lastElementChild.append(box.element);
    boxes.clear();
    for (const [key, box] of wanted) boxes.set(key, box);
    holder.hidden = !boxes.size;
    await Promise.all([...boxes.values()].map((each) => each.load(place.deployment, signal)));
  }
}

// ---- Keeping what is shown fresh, for as long as somebody may be looking ----

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
  });
}

/** May be rung at any time: whoever waits for it, or does so next, goes on. */
class Bell {
  rung = false;
  wake = () => {};

  ring() {
    this.rung = true;
    this.wake();
  }

  /** Until it is rung, at most so long. */
  async wait(milliseconds, signal) {
    const ringing = new Promise((resolve) => { this.wake = resolve; });
    if (!this.rung) await Promise.race([ringing, pause(milliseconds, signal)]);
    this.rung = false;
  }
}

async function listen(place, bell, signal) {
  const path = place.deployment ? `/v1/events?${query({ deployment: place.deployment })}` : "/v1/events";
  for (; !signal.aborted; await pause(AGAIN, signal)) {
    try {
      for await (const _ of stream(path, signal)) bell.ring();
    } catch {
      // Looking goes on every few seconds, and says what is wrong.
    }
  }
}

async function keepFresh(place, view, box, signal) {
  const bell = new Bell();
  listen(place, bell, signal);
  while (!signal.aborted) {
    try {
      morph(box, await view(place, signal));
      tell("notice", "");
    } catch (error) {
      if (signal.aborted || signOutIfUnknown(error)) return;
      tellFailure(error, box);
    }
    await bell.wait(POLL, signal);
    await pause(GATHER, signal);
  }
}

/** Say it in a place that is read out, once. */
function tell(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function tellFailure(error, box) {
  if (error.status === 404 || error.status === 422) {
    morph(box, h("div", null, h("p", null, error.message), h("p", null, h("a", { href: "#/" }, "All deployments"))));
    return;
  }
  const said = error.status === undefined ? `This is a fault of the page: ${error.message}.` : error.message;
  tell("notice", `${said} What you see may be old; it is tried again every few seconds.`);
}

// ---- Going from place to place ----

let leaving = new AbortController(); // ends all that goes on for what is shown
let going = () => {}; // begins it again

function leave() {
  leaving.abort();
  leaving = new AbortController();
}

function showPlace() {
  leave();
  const place = placeOf(location.hash);
  const names = [place.deployment, place.service].filter(Boolean);
  const title = names.join("/") || "Deployments";
  const view = [startView, deploymentView, serviceView][names.length];
  const heading = h("h1", { tabindex: "-1" }, title);
  const box = h("div", null, h("p", { class: "quiet" }, "Loading…"));
  const log = names.length === 2 ? new LogBox() : null;
  const panels = section("From plugins", h("div", { class: "panels" }));
  panels.hidden = true; // until there are any
  $("view").replaceChildren(heading, box, log ? log.element : panels);
  $("trail").replaceChildren(...names.map((each, index) =>
    h("li", null, index === names.length - 1 ? h("span", { "aria-current": "page" }, each) : link(each, each))));
  tell("notice", "");
  document.title = names.length ? `${title} · Mooring` : "Mooring";
  heading.focus();
  going = () => {
    keepFresh(place, view, box, leaving.signal);
    if (log) followLog(log, place, leaving.signal);
    else keepPanels(place, panels, leaving.signal);
  };
  if (!document.hidden) going();
}

// ---- Signing in and out ----

const WAY_OUT = "Sign in with another one: `moor tokens:create` makes it.";

function showDoor(refusal, notice = "") {
  leave();
  going = () => {};
  $("view").replaceChildren();
  $("trail").replaceChildren();
  $("view").hidden = $("who").hidden = true;
  $("door").hidden = false;
  $("token").value = "";
  tell("refusal", refusal);
  tell("notice", notice);
  document.title = "Sign in · Mooring";
  $("token").focus();
}

function signOut(refusal, notice) {
  token = "";
  sessionStorage.removeItem(KEPT_AS);
  showDoor(refusal, notice);
}

/** Whether the error says that the token is good for nothing any more: then the reader is at the door again. */
function signOutIfUnknown(error) {
  if (error.status !== 401) return false;
  if (token) signOut(`${error.message} ${WAY_OUT}`);
  return true;
}

/** Raises Problem where the token is not taken, or nobody is there to take it. */
async function signIn(given) {
  if (!/^[\x21-\x7e]+$/.test(given)) throw new Problem(401, "This is no token.");
  token = given;
  const user = await get("/v1/me", new AbortController().signal);
  sessionStorage.setItem(KEPT_AS, given);
  $("user").textContent = user.admin ? `${user.name}, an admin` : user.name;
  $("door").hidden = true;
  $("view").hidden = $("who").hidden = false;
  showPlace();
}

async function trySignIn(given) {
  try {
    await signIn(given);
  } catch (error) {
    if (error.status === 401) signOut(`${error.message} ${WAY_OUT}`);
    else showDoor(`${error.message} Try again in a moment.`);
  }
}

/** With the token of before the page was loaded again; where only the server is away, until it is back. */
async function signInAgain(kept) {
  await trySignIn(kept);
  const waits = () => token === kept && !$("door").hidden && !$("token").value;
  if (waits()) setTimeout(() => { if (waits()) signInAgain(kept); }, AGAIN);
}

$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  trySignIn($("token").value.trim());
});
$("sign-out").addEventListener("click", () => signOut("", "You are signed out."));
window.addEventListener("hashchange", () => { if ($("door").hidden) showPlace(); });
document.addEventListener("visibilitychange", () => {
  leave();
  if (!document.hidden) going();
});

const kept = sessionStorage.getItem(KEPT_AS);
if (kept) signInAgain(kept);
else showDoor("");

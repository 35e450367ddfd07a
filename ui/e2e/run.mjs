// Drives the live page in a real browser against a running `weir up --demo`.
//   WEIR_URL=http://127.0.0.1:7070/#token=…   the login link (required)
//   WEIR_BIN=PATH                             for the case that kills a server of its own
//   WEIR_ARTIFACTS=DIR                        where screenshots go (default: ../artifacts/ui)
//   WEIR_CHROMIUM=/usr/bin/chromium
// Ends with status 1 at the first thing that is not so, naming it and leaving a screenshot of it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const LINK = process.env.WEIR_URL;
assert.ok(LINK && /#token=/.test(LINK), "WEIR_URL must be the login link that `weir up` prints on stderr");
const ORIGIN = new URL(LINK).origin;
const ARTIFACTS = process.env.WEIR_ARTIFACTS ?? join(dirname(fileURLToPath(import.meta.url)), "../../artifacts/ui");
const SLOW_MS = 30_000;
const WRONG = "import px\n\ndf = px.DataFrme(table='http_events', start_time='-1m')\npx.display(df.head(20))\n";
const RIGHT = WRONG.replace("DataFrme", "DataFrame");

mkdirSync(ARTIFACTS, { recursive: true });
const browser = await chromium.launch({
  executablePath: process.env.WEIR_CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

/** A page of its own login state; errors of the page are errors of the test. */
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: "light", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(SLOW_MS);
  const problems = [];
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("console", (message) => {
    // A refused request (401 before login, 404 in the wrong-script case) is logged by the browser itself.
    if (message.type() === "error" && !/Failed to load resource|WebSocket connection/.test(message.text())) problems.push(message.text());
  });
  return { context, page, problems };
}

const byId = (page, id) => page.getByTestId(id);
const live = (page) => page.waitForSelector('[data-testid="stage"][data-phase="live"]:not([data-stale="true"])');
const shot = (page, name) => page.screenshot({ path: join(ARTIFACTS, `${name}.png`) });

async function until(what, read, isGood, page, withinMs = SLOW_MS) {
  const endMs = Date.now() + withinMs;
  let value;
  for (;;) {
    value = await read();
    if (isGood(value)) return value;
    if (Date.now() > endMs) throw new Error(`${what}: still ${JSON.stringify(value)} after ${withinMs} ms`);
    await page.waitForTimeout(100);
  }
}

async function goTo(page, text, script) {
  await page.keyboard.press("Control+k");
  await byId(page, "command-input").fill(text);
  await page.locator(`[cmdk-item][data-value="${script}"]`).waitFor();
  await page.locator(`[cmdk-item][data-value="${script}"]`).click();
  await page.waitForFunction((name) => location.hash.startsWith(`#/s/${name}`), script);
  await live(page);
}

async function setEditor(page, text) {
  await byId(page, "editor").locator(".cm-content").click();
  await page.keyboard.press("Control+a");
  await page.keyboard.press("Delete");
  await page.keyboard.insertText(text);
}

const problemCount = async (page) => Number((await byId(page, "diagnostics").getAttribute("data-count").catch(() => null)) ?? -1);

/** A server of its own, at an address; gives the process and the login link once it is ready. */
function serve(address, dataDir, more = []) {
  const child = spawn(process.env.WEIR_BIN, ["up", "--demo", "--listen", address, "--data-dir", dataDir, ...more]);
  let said = "";
  return new Promise((resolve, reject) => {
    // Neither ready nor ended, it would be waited for without an end, and so would what it runs as.
    const late = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`weir up is not ready after ${SLOW_MS} ms: ${said.slice(-500)}`));
    }, SLOW_MS);
    const look = (text) => {
      said += text;
      const link = /http:\/\/\S+#token=[\w-]+/.exec(said)?.[0];
      if (link === undefined || !/^ready /m.test(said)) return;
      clearTimeout(late);
      resolve({ child, link });
    };
    child.stdout.on("data", look);
    child.stderr.on("data", look);
    child.on("exit", (status) => {
      clearTimeout(late);
      reject(new Error(`weir up ended (${status}): ${said.slice(-500)}`));
    });
  });
}

/** Once the server is gone. */
async function ended(server, signal) {
  if (server.child.exitCode !== null || server.child.signalCode !== null) return;
  const gone = new Promise((resolve) => server.child.once("exit", resolve));
  server.child.kill(signal);
  await gone;
}

const CASES = {
  async "without a login the page loads and says what to do"() {
    const { context, page, problems } = await open();
    await page.goto(`${ORIGIN}/`);
    await byId(page, "login").waitFor();
    assert.match(await byId(page, "login").innerText(), /printed by\s+weir up\s+on stderr/);
    await shot(page, "login");
    return { context, page, problems };
  },
  async "a wrong token is refused, and is not left in the address"() {
    const { context, page, problems } = await open();
    await page.goto(`${ORIGIN}/#token=not-the-token`);
    await byId(page, "login-note").waitFor();
    assert.ok(!page.url().includes("not-the-token"), page.url());
    // The right link pasted into the field logs in.
    await page.getByLabel("login link or token").fill(LINK);
    await page.getByRole("button", { name: "Log in" }).click();
    await live(page);
    return { context, page, problems };
  },
  async "the login link opens a live picture: map, table, truth"() {
    const { context, page, problems } = await open();
    await page.goto(LINK);
    await live(page);
    assert.ok(!page.url().includes("token="), "the token stays in the address");
    const map = byId(page, "service-map").first();
    if ((await map.count()) === 0) await goTo(page, "service_map", "px/service_map");
    await until("nodes of the map", async () => Number(await map.getAttribute("data-nodes")), (nodes) => nodes >= 2, page);
    await until("rows of a table", () => page.locator('[data-testid="table"] [role="row"][aria-rowindex]').count(), (rows) => rows >= 1, page);
    const badge = byId(page, "truth-badge");
    const before = await until("the badge", () => badge.innerText(), (text) => /(complete|partial) to \d\d:\d\d:\d\d · .*\d+ lost/.test(text), page);
    await until("the badge goes on", () => badge.innerText(), (text) => text !== before, page);
    const picture = () => page.locator('[data-testid="widget"]').allInnerTexts().then((texts) => texts.join("\n"));
    const first = await picture();
    await until("numbers that change in place", picture, (text) => text !== first, page);
    await shot(page, "overview-light");
    await badge.click();
    assert.match(await byId(page, "truth-details").innerText(), /Frontier[\s\S]*Complete to/);
    await shot(page, "truth");
    await page.keyboard.press("Escape");
    return { context, page, problems };
  },
  async "ctrl-K goes to another script; a row shows its details; pause holds the picture"() {
    const { context, page, problems } = await open({ colorScheme: "dark" });
    await page.goto(LINK);
    await live(page);
    await shot(page, "overview-dark");
    await goTo(page, "http_data", "px/http_data");
    const rows = page.locator('[data-testid="table"] [role="row"][aria-rowindex]');
    await until("rows of http_data", () => rows.count(), (count) => count >= 3, page);
    await byId(page, "pause").click();
    const badge = byId(page, "truth-badge");
    await page.waitForSelector('[data-testid="pause"][aria-pressed="true"]');
    const [frozen, frozenRows] = [await rows.first().innerText(), await badge.innerText()];
    await until("changes that wait", () => byId(page, "pause").innerText(), (text) => /chang/.test(text), page);
    assert.equal(await rows.first().innerText(), frozen, "the picture moves while paused");
    await rows.nth(1).click();
    await byId(page, "details").waitFor();
    const details = () => byId(page, "details").innerText();
    const one = await details();
    assert.match(one, /latency/);
    await page.keyboard.press("ArrowDown");
    await until("the next row by arrow key", details, (text) => text !== one, page);
    await shot(page, "http-data-dark");
    await byId(page, "pause").click();
    await until("the badge after a pause", () => badge.innerText(), (text) => text !== frozenRows, page);
    await page.keyboard.press("Escape");
    return { context, page, problems };
  },
  async "a click on a legend shows one line, a filter says what it leaves, an unknown name is not the host's fault"() {
    const { context, page, problems } = await open();
    await page.goto(LINK);
    await live(page);
    await goTo(page, "let_overview", "px/let_overview");
    const legend = byId(page, "timechart").first().getByRole("button");
    await until("lines of a chart", () => legend.count(), (count) => count >= 2, page);
    await legend.first().click();
    await until("one line shown", () => legend.first().getAttribute("aria-pressed"), (pressed) => pressed === "true", page);
    assert.equal(await byId(page, "timechart").first().locator('[data-dim="true"]').count(), (await legend.count()) - 1);
    await shot(page, "legend-one");
    await legend.first().click();
    await until("all lines again", () => byId(page, "timechart").first().locator('[data-dim="true"]').count(), (count) => count === 0, page);
    await goTo(page, "http_data", "px/http_data");
    await page.getByRole("button", { name: "filter rows" }).first().click();
    await page.getByRole("textbox", { name: "filter rows" }).fill("no row has this");
    await byId(page, "no-match").first().waitFor();
    await until("the count of what matches", () => byId(page, "row-count").first().innerText(), (text) => /^0 of [1-9]/.test(text), page);
    await shot(page, "filter-none");
    await page.goto(`${ORIGIN}/#/s/px/pod?pod=shop/no-such-pod`);
    await byId(page, "empty-hint").waitFor();
    const hint = await byId(page, "empty-hint").innerText();
    assert.match(hint, /Nothing seen of pod “shop\/no-such-pod”/);
    assert.doesNotMatch(hint, /No HTTP traffic/);
    await shot(page, "unknown-pod");
    return { context, page, problems };
  },
  async "arguments are in the address and can be changed"() {
    const { context, page, problems } = await open({ viewport: { width: 1024, height: 700 } });
    await page.goto(LINK);
    await live(page);
    await page.goto(`${ORIGIN}/#/s/px/service_map?start_time=-1m`);
    await live(page);
    assert.match(await byId(page, "arg-start_time").innerText(), /-1m/);
    await until("nodes of the map", async () => Number(await byId(page, "service-map").first().getAttribute("data-nodes")), (nodes) => nodes >= 2, page);
    await shot(page, "service-map-1024");
    await byId(page, "arg-start_time").click();
    await page.getByRole("dialog").getByRole("button", { name: "-15m" }).click();
    await page.waitForFunction(() => location.hash.includes("start_time=-15m"));
    await live(page);
    return { context, page, problems };
  },
  async "a wrong script is told while typing, a right one runs with ctrl-Enter"() {
    const { context, page, problems } = await open();
    await page.goto(LINK);
    await live(page);
    await goTo(page, "http_data", "px/http_data");
    await byId(page, "editor-toggle").click();
    await byId(page, "editor").waitFor();
    await until("the bundle's script compiles", () => problemCount(page), (count) => count === 0, page);
    await setEditor(page, WRONG);
    await until("a diagnostic", () => problemCount(page), (count) => count >= 1, page);
    assert.match(await byId(page, "diagnostics").innerText(), /3:\d+/);
    await page.locator(".cm-lintRange-error").first().waitFor();
    await shot(page, "editor-diagnostic");
    await page.keyboard.press("Control+Enter");
    await byId(page, "failed").waitFor();
    await setEditor(page, RIGHT);
    await until("no diagnostic", () => problemCount(page), (count) => count === 0, page);
    await page.keyboard.press("Control+Enter");
    await page.waitForFunction(() => location.hash === "#/x");
    await live(page);
    await until("rows of the edited script", () => page.locator('[data-testid="table"] [role="row"][aria-rowindex]').count(), (count) => count >= 1, page);
    await shot(page, "editor-run");
    return { context, page, problems };
  },
  async "every script of the bundle and every view opens without an error of the page"() {
    const { context, page, problems } = await open();
    await page.goto(LINK);
    await live(page);
    const scripts = await page.evaluate(() => fetch("/api/v1/scripts").then((response) => response.json()).then((json) => json.scripts));
    assert.ok(scripts.length > 0);
    for (const script of scripts.filter((each) => (each.args ?? []).every((arg) => arg.default !== undefined))) {
      await page.goto(`${ORIGIN}/#/s/${script.name}`);
      await page.waitForSelector('[data-testid="stage"]:is([data-phase="live"],[data-phase="failed"]):not([data-stale="true"])');
      await shot(page, `script-${script.name.replaceAll("/", "-")}`);
    }
    for (const name of ["queries", "nodes", "scripts"]) {
      await page.goto(`${ORIGIN}/#/${name}`);
      await byId(page, `page-${name}`).waitFor();
      // No view is kept while nobody looks at one: then the page says so.
      const shown = () => byId(page, `page-${name}`).locator("td, b").or(page.getByText("No view is being kept")).count();
      await until(`something on ${name}`, shown, (count) => count > 0, page);
      assert.equal(await page.getByText("Not up to date").count(), 0, `${name} could not be read`);
      await shot(page, name);
    }
    return { context, page, problems };
  },
  // Catches: a list of queries without what they cost, and a dataflow that does not reach down to the node.
  async "a running query opens to its operators, down to the scan"() {
    const { context, page, problems } = await open();
    await page.goto(LINK);
    await live(page);
    await page.goto(`${ORIGIN}/#/s/px/http_data`);
    await live(page);
    const other = await context.newPage();
    await other.goto(`${ORIGIN}/#/queries`);
    await byId(other, "query").first().waitFor();
    await other.getByRole("button", { name: "operators of px/http_data" }).first().click();
    const operators = byId(other, "operators");
    const scans = () => operators.getByText(/^scan http_events/).count();
    await until("the scan of its table", scans, (count) => count > 0, other);
    const rates = () => operators.locator("td", { hasText: "/s" }).count();
    await until("rates", rates, (count) => count > 4, other);
    await shot(other, "queries-operators");
    return { context, page, problems };
  },
  // Catches: tabs that stay on an error for good after their server has died.
  async "three open tabs come back by themselves after the server was killed and started again"() {
    if (process.env.WEIR_BIN === undefined) throw new Error("WEIR_BIN is needed");
    const data = mkdtempSync(join(tmpdir(), "weir-e2e-"));
    const dataDir = join(data, "weir");
    let server = await serve("127.0.0.1:0", dataDir);
    try {
      const { origin } = new URL(server.link);
      const { context, page, problems } = await open();
      await page.goto(server.link);
      await live(page);
      const tabs = [page, await context.newPage(), await context.newPage()];
      await tabs[1].goto(`${origin}/#/s/px/http_data`);
      await tabs[2].goto(`${origin}/#/s/px/nodes`);
      for (const tab of tabs) await live(tab);
      await ended(server, "SIGKILL");
      for (const tab of tabs) await tab.waitForSelector('[data-testid="stage"]:not([data-phase="live"]), [data-testid="stage"][data-stale="true"], [data-testid="unreachable"]');
      server = await serve(new URL(origin).host, dataDir);
      for (const [idx, tab] of tabs.entries()) {
        await tab.bringToFront();
        await tab.waitForSelector('[data-testid="stage"][data-phase="live"]:not([data-stale="true"])', { timeout: 60_000 });
        await shot(tab, `after-restart-${idx}`);
      }
      // The session outlives the server: nobody logs in again.
      assert.equal(await byId(page, "login").count(), 0);
      return { context, page, problems };
    } finally {
      await ended(server, "SIGTERM");
      rmSync(data, { recursive: true, force: true });
    }
  },
  // Catches: a page that shows what was when it was opened.
  async "alerts and sinks are shown as they become: rows behind them, what happened, what would have been"() {
    if (process.env.WEIR_BIN === undefined) throw new Error("WEIR_BIN is needed");
    const data = mkdtempSync(join(tmpdir(), "weir-e2e-"));
    const manager = createServer((request, response) => request.resume().on("end", () => response.end()));
    await new Promise((resolve) => manager.listen(0, "127.0.0.1", resolve));
    const rule = (least) => writeFileSync(join(data, "rules.yml"), `groups:
- name: shop
  rules:
  - alert: Busy
    expr: |
      import px
      df = px.DataFrame('http_events', start_time='-10s')
      df = df[df.trace_role == 2]
      df.service = df.ctx['service']
      df = df.groupby('service').agg(value=('latency', px.count))
      px.display(df[df.value > ${least}])
    annotations: {summary: '{{ $labels.service }} is busy'}
`);
    rule(0);
    writeFileSync(join(data, "weir.yaml"), `rules: [rules.yml]
alertmanagers: [{url: 'http://127.0.0.1:${manager.address().port}'}]
sinks:
  nothing: {type: blackhole, inputs: [{text: "import px\\npx.display(px.DataFrame('http_events', start_time='-10s'))"}], encoding: {mode: append}}
  nobody: {type: http, url: 'http://127.0.0.1:9/', inputs: [{text: "import px\\npx.display(px.DataFrame('http_events', start_time='-10s'))"}], encoding: {mode: append}}
`);
    let server = await serve("127.0.0.1:0", join(data, "weir"), ["--config", join(data, "weir.yaml")]);
    try {
      const { origin } = new URL(server.link);
      const { context, page, problems } = await open();
      await page.goto(server.link);
      await live(page);
      await page.goto(`${origin}/#/alerts`);
      await page.locator('[data-testid="alert"][data-state="firing"]').first().waitFor();
      assert.match(await byId(page, "alert").first().innerText(), /Busy[\s\S]* is busy/);
      assert.ok((await page.getByRole("link", { name: "silence" }).first().getAttribute("href")).startsWith("http://127.0.0.1:"));
      await page.getByRole("button", { name: "rows of Busy" }).first().click();
      await byId(page, "behind").locator("tbody tr").first().waitFor();
      await page.getByRole("button", { name: "text of Busy" }).click();
      await byId(page, "preview").getByRole("button").click();
      await until("the preview", () => byId(page, "preview").innerText(), (text) => /would (not )?have fired/.test(text), page, 120_000);
      await shot(page, "alerts");
      rule(1_000_000_000);
      await page.getByText("Nothing fires.").waitFor();
      await until("what happened", () => byId(page, "happened").allInnerTexts(), (rows) => rows.some((row) => /resolved/.test(row)), page);
      await until("who was told", () => byId(page, "receiver").innerText(), (text) => /alertmanager/.test(text), page);

      await page.goto(`${origin}/#/sinks`);
      await page.locator('[data-testid="sink"][data-state="running"]').waitFor();
      const hindered = page.locator('[data-testid="sink"]:not([data-state="running"])');
      await until("the error", () => hindered.innerText(), (text) => /could not connect|refused/i.test(text), page);
      await shot(page, "sinks");
      // What waited in memory goes with the server, and the next one says so beside what hinders the sink now.
      await ended(server, "SIGKILL");
      server = await serve("127.0.0.1:0", join(data, "weir"), ["--config", join(data, "weir.yaml")]);
      await page.goto(server.link);
      await live(page);
      await page.goto(`${new URL(server.link).origin}/#/sinks`);
      await until("what is lost", () => hindered.locator("td").nth(4).innerText(), (text) => /what waited since \d\d:/.test(text), page);
      assert.match(await hindered.locator("td").nth(5).innerText(), /could not connect|refused/i);
      await shot(page, "sinks-after-a-kill");
      return { context, page, problems };
    } finally {
      await ended(server, "SIGTERM");
      manager.close();
      manager.closeAllConnections();
      rmSync(data, { recursive: true, force: true });
    }
  },
  // Catches: a state that is right only after a reload, a pending alert that is not shown as one, and cells that stand still.
  async "a pending alert turns into a firing one and a sink goes through its states, before the eyes of who looks"() {
    if (process.env.WEIR_BIN === undefined) throw new Error("WEIR_BIN is needed");
    const data = mkdtempSync(join(tmpdir(), "weir-e2e-"));
    let answer = 200;
    const hook = createServer((request, response) => request.resume().on("end", () => response.writeHead(answer).end()));
    await new Promise((resolve) => hook.listen(0, "127.0.0.1", resolve));
    const rule = (least) => writeFileSync(join(data, "rules.yml"), `groups:
- name: shop
  rules:
  - alert: Held
    for: 5s
    expr: |
      import px
      df = px.DataFrame('http_events', start_time='-10s')
      df = df[df.trace_role == 2].agg(value=('latency', px.count))
      px.display(df[df.value > ${least}])
`);
    rule(1_000_000_000);
    writeFileSync(join(data, "weir.yaml"), `rules: [rules.yml]
sinks:
  hook: {type: http, url: 'http://127.0.0.1:${hook.address().port}/', inputs: [{text: "import px\\npx.display(px.DataFrame('http_events', start_time='-10s'))"}], encoding: {mode: append}, retry: {initial: 200ms, max: 500ms}}
`);
    const server = await serve("127.0.0.1:0", join(data, "weir"), ["--config", join(data, "weir.yaml")]);
    try {
      const { origin } = new URL(server.link);
      const { context, page, problems } = await open();
      await page.goto(server.link);
      await live(page);
      await page.goto(`${origin}/#/alerts`);
      await page.getByText("Nothing fires.").waitFor();
      // From here on nothing is loaded or asked for: what comes, comes over the websocket.
      const asked = [];
      page.on("request", (request) => { if (!request.url().endsWith("/favicon.svg")) asked.push(request.url()); });
      const alert = byId(page, "alert");
      const [pending, firing] = ["pending", "firing"].map((state) => page.locator(`[data-testid="alert"][data-state="${state}"]`));
      rule(0);
      await pending.waitFor();
      assert.match(await pending.innerText(), /Held\s*pending/);
      assert.equal(await byId(page, "rule").locator("td").nth(4).innerText(), "1", "of the rule, pending");
      await shot(page, "alert-pending");
      await firing.waitFor();
      assert.equal(await alert.count(), 1);
      assert.equal(await byId(page, "rule").locator("td").nth(5).innerText(), "1", "of the rule, firing");
      const happened = (await byId(page, "happened").allInnerTexts()).map((row) => /pending|firing/.exec(row)?.[0]);
      assert.deepEqual(happened, ["firing", "pending"]);

      await page.evaluate(() => { location.hash = "#/sinks"; });
      const sink = byId(page, "sink");
      const state = () => sink.getAttribute("data-state");
      const cell = (number) => sink.locator("td").nth(number).innerText();
      const size = async (number) => {
        const [, value, unit] = /^([\d.]+)\s*(\S*)$/.exec((await cell(number)).trim()) ?? [];
        return Number(value) * ({ ms: 0.001, min: 60, KiB: 1024, MiB: 1 << 20 }[unit] ?? 1);
      };
      const sent = async () => Number((await cell(3)).replace(/\D/g, ""));
      const sinkIs = (wanted) => until(`a sink that is ${wanted}`, state, (have) => have === wanted, page);
      await sinkIs("running");
      const before = await sent();
      await until("rows that are sent", sent, (rows) => rows > before, page);
      answer = 503;
      await sinkIs("retrying");
      assert.match(await cell(0), /retrying/);
      const waits = await until("what waits", () => size(2), (have) => have > 0, page);
      await until("that more waits", () => size(2), (have) => have > waits, page);
      await until("how far it is behind", () => size(1), (seconds) => seconds >= 3, page);
      assert.match(await cell(5), /503/);
      await shot(page, "sink-retrying");
      answer = 200;
      await sinkIs("running");
      assert.doesNotMatch(await cell(0), /retrying/);
      await until("that it has caught up", async () => [await size(1), await size(2)], ([behind, buffer]) => behind < 3 && buffer < waits, page);
      await shot(page, "sink-again");
      assert.deepEqual(asked, [], "the page asked");
      return { context, page, problems };
    } finally {
      await ended(server, "SIGTERM");
      hook.close();
      hook.closeAllConnections();
      rmSync(data, { recursive: true, force: true });
    }
  },
  // Catches: a draft that has to be saved before anybody knows what it does, and findings without their place.
  async "a rule is tried before it is there: what it would have done, and what is wrong with it where it is"() {
    const { context, page, problems } = await open();
    await page.goto(LINK);
    await live(page);
    await page.goto(`${ORIGIN}/#/alerts`);
    const draft = byId(page, "draft");
    const said = byId(page, "draft-said");
    const ask = () => draft.getByRole("button", { name: "What would it have done?" }).click();
    const findings = () => byId(page, "draft-finding").allInnerTexts();
    await draft.getByLabel("script").fill(`import px
df = px.DataFrame('http_events', start_time='-10s')
df = df[df.trace_role == 2]
df = df.groupby('req_path').agg(n=('latency', px.count))
px.display(df)
`);
    await draft.getByLabel("condition").fill("n > 0");
    await draft.getByLabel("for", { exact: true }).fill("");
    await ask();
    await until("what it would have done", () => said.innerText(), (text) => /would have fired (once|\d+ times) in the last hour/.test(text), page, 120_000);
    await said.getByText("as a rule file, to add").click();
    assert.match(await said.locator("pre").innerText(), /alert: "Draft"[\s\S]*df\[df\.n > 0\]/);
    await draft.scrollIntoViewIfNeeded();
    await shot(page, "draft");

    await draft.getByLabel("condition").fill("nope > 0");
    await ask();
    await until("the condition's finding", findings, (all) => all.some((text) => /^condition\s+.*nope/s.test(text)), page);
    await draft.getByLabel("for", { exact: true }).fill("soon");
    await draft.getByLabel("condition").fill("n > 0");
    await ask();
    await until("the duration's finding", findings, (all) => all.some((text) => /^for\s+.*soon/s.test(text)), page);
    await draft.getByRole("tab", { name: "Rule file" }).click();
    await draft.getByLabel("rule file").fill("groups:\n- name: g\n  rules:\n  - alert: A\n    expr: |\n      import px\n      px.display(px.DataFrame('nope'))\n");
    await ask();
    await until("the rule's finding", findings, (all) => all.some((text) => /^rule file, line 7, column \d+\s/.test(text)), page);
    await byId(page, "draft-finding").getByRole("button").first().click();
    const marked = await draft.getByLabel("rule file").evaluate((field) => field.value.slice(field.selectionStart, field.selectionEnd));
    assert.equal(marked, "      px.display(px.DataFrame('nope'))");
    await shot(page, "draft-wrong");
    return { context, page, problems };
  },
  async "logging out ends the session, in every tab"() {
    const { context, page, problems } = await open();
    await page.goto(LINK);
    await live(page);
    const other = await context.newPage();
    await other.goto(`${ORIGIN}/#/s/px/http_data`);
    await live(other);
    await shot(page, "log-out");
    await page.getByRole("button", { name: "Log out" }).click();
    await byId(page, "login-note").waitFor();
    await byId(other, "login").waitFor();
    await page.reload();
    await byId(page, "login").waitFor();
    return { context, page, problems };
  },
};

let failed = 0;
for (const [name, run] of Object.entries(CASES)) {
  if (process.argv[2] !== undefined && !name.includes(process.argv[2])) continue;
  const startMs = Date.now();
  try {
    const { context, problems } = await run();
    assert.deepEqual(problems, [], "errors in the page's console");
    await context.close();
    console.log(`ok      ${name} (${Date.now() - startMs} ms)`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${error.message}`);
    for (const context of browser.contexts()) {
      for (const page of context.pages()) await page.screenshot({ path: join(ARTIFACTS, `failed-${failed}.png`) }).catch(() => undefined);
      await context.close();
    }
  }
}
await browser.close();
console.log(failed === 0 ? "all well" : `${failed} failed`);
process.exit(failed === 0 ? 0 : 1);

// What is nicer with JavaScript. Every page works without it: each piece below builds on a plain link or form.
// No library: no third-party script runs on a page that shows secrets.

const root = document.documentElement;
root.classList.add("js");
const $ = (selector, from = document) => from.querySelector(selector);
const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];
const path = () => document.body.dataset.path || "/";
let leaving = false;

function toast(text) {
  const box = document.createElement("div");
  box.textContent = text;
  const place = $("dialog.modal[open]") || document.body;
  const list = $("#toasts");
  place.append(list);
  list.append(box);
  setTimeout(() => box.remove(), 2600);
}

async function copy(text, button) {
  await navigator.clipboard.writeText(text);
  toast("Copied");
  button?.focus();
}

/** Fetches a page; answers where it ended and its document. A page of our own always comes back as HTML. */
async function page(url, options) {
  const answer = await fetch(url, { credentials: "same-origin", cache: "no-store", ...options });
  const html = new DOMParser().parseFromString(await answer.text(), "text/html");
  return { html, url: answer.url, ok: answer.ok, status: answer.status };
}

const formBody = (form, submitter) => new URLSearchParams(new FormData(form, submitter));

function swap(selector, html) {
  const fresh = $(selector, html), old = $(selector);
  if (!fresh || !old) return false;
  old.replaceWith(fresh);
  enhance(fresh);
  return true;
}

// ── Dark at once: the server sends the state of every vault; a page that shows another one is loaded again.
function live() {
  if (!document.body.dataset.states) return;
  const events = new EventSource("/events");
  events.addEventListener("vaults", (event) => turn(JSON.parse(event.data)));
  // Closed for good: the session has ended, and what it may see is asked anew.
  events.addEventListener("error", () => { if (events.readyState === EventSource.CLOSED) refresh(); });
}

async function turn(now) {
  const shown = JSON.parse(document.body.dataset.states);
  const changed = Object.keys(now).filter((id) => id in shown && shown[id] !== now[id]);
  if (!changed.length) return;
  for (const id of changed) $$(`[data-vault="${CSS.escape(id)}"]`).forEach((part) => part.remove());
  document.body.dataset.states = JSON.stringify({ ...shown, ...now });
  await refresh();
}

async function refresh() {
  const fresh = await page(path());
  if (!$("body.app", fresh.html)) return location.replace(path());
  if ($("[data-guard]") && !$("[data-guard]", fresh.html)) leaving = true;
  document.body.dataset.states = $("body", fresh.html).dataset.states;
  const checks = $("#main #checks:has(li[data-code])"), cause = checks && $("#check-cause", checks);
  const top = cause?.getBoundingClientRect().top, inSight = top > 0 && top < innerHeight;
  swap("#nav", fresh.html);
  swap("#main", fresh.html);
  // What was just found out stays, and goes on if it is still running.
  if (checks) $("#main #checks")?.replaceWith(checks);
  if (inSight) cause.scrollIntoView({ block: "center" });
}

// ── Jobs: what goes on is looked at again by itself, in place, until it has ended.
const LOOK_MS = 2000;

function poll(part) {
  setTimeout(async () => {
    if (!part.isConnected) return;
    const answer = await page(part.dataset.poll).catch(() => null);
    if (!part.isConnected) return;
    if (!answer || (!answer.ok && answer.status >= 500)) return poll(part);
    const fresh = document.getElementById(part.id) && answer.html.getElementById(part.id);
    if (!fresh) return location.replace(path());
    // On which page it stands says this one, not the one that was asked for.
    $$("[name=next]", fresh).forEach((input) => { input.value = path(); });
    const focused = $$("a, button", part).indexOf(document.activeElement);
    part.replaceWith(fresh);
    $$("a, button", fresh)[focused]?.focus();
    if (fresh.dataset.poll) return poll(fresh);
    // It has ended: what it changed shows on the rest of the page.
    toast($("h2", fresh) ? `${$("h2", fresh).innerText}: ${$(".chip", fresh).innerText}` : "Every job has ended");
    refresh();
  }, LOOK_MS);
}

// ── Reveal in place, hide after 30 seconds.
let hideTimer;
async function reveal(form) {
  const answer = await page(form.action, { method: "POST" });
  if (!answer.ok || !swap("#content", answer.html)) return location.replace(path());
  $("[data-revealed] .btn")?.focus();
}

function hideLater(part) {
  const shown = $("[data-hide-in]", part);
  let left = 30;
  clearInterval(hideTimer);
  hideTimer = setInterval(async () => {
    left -= 1;
    if (shown) shown.textContent = left;
    if (left > 0) return;
    clearInterval(hideTimer);
    hide(part);
  }, 1000);
}

async function hide(part) {
  clearInterval(hideTimer);
  part.remove();
  await refresh();
}

async function copySealed(button) {
  const answer = await page($("[data-reveal]").action, { method: "POST" });
  if (!answer.ok) return location.replace(path());
  const field = $(`[data-field="${CSS.escape(button.dataset.copySealed)}"] [data-copy]`, answer.html);
  if (!field) return toast(`No field here is called ${button.dataset.copySealed}`);
  await copy(field.dataset.copy, button);
}

function countTotp(part) {
  let left = Number(part.dataset.totp);
  const row = part.closest("dd");
  const tick = () => {
    if (!part.isConnected) return clearInterval(timer);
    $("[data-totp-left]", row).textContent = Math.max(left, 0);
    $(".hand", row).setAttribute("stroke-dashoffset", 100 - (left / Number(part.dataset.period)) * 100);
    if (left <= 0) { part.textContent = "expired"; clearInterval(timer); }
    left -= 1;
  };
  const timer = setInterval(tick, 1000);
  tick();
}

// ── Dialogs: a link marked data-dialog opens its page's <dialog> over this one.
function modal(className = "") {
  $("dialog.modal")?.remove();
  const dialog = document.createElement("dialog");
  dialog.className = `modal ${className}`;
  dialog.addEventListener("close", () => { checking?.abort(); document.body.append($("#toasts")); dialog.remove(); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  return dialog;
}

function showBox(dialog, answer) {
  const box = $("dialog.box", answer.html);
  if (!box) {
    leaving = true;
    if (answer.ok) location.href = answer.url;
    else root.replaceWith(answer.html.documentElement);
    return;
  }
  const kept = Object.fromEntries($$("[data-keep-secrets] [data-secret]", dialog).map((input) => [input.name, input.value]));
  const frame = document.createElement("div");
  frame.className = box.className;
  frame.append(...box.childNodes);
  dialog.setAttribute("aria-labelledby", "box-title");
  dialog.replaceChildren(frame);
  for (const [name, value] of Object.entries(kept)) {
    const input = $(`[name="${name}"]`, frame);
    if (input) input.value = value;
  }
  enhance(frame);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  ($("[aria-invalid=true]", frame) || $("#checks-told", frame) || $("[autofocus]", frame) || $("input:not([type=hidden]), .btn.primary", frame))?.focus();
}

async function openDialog(url, dialog = modal()) {
  showBox(dialog, await page(url));
}

// ── Checks: the server tells each line of a check as it is known; without JavaScript the same form gets a whole page.
/** The server ends before that; this is for a connection that hangs. */
const CHECK_LIMIT_MS = 15_000;
let checking;
/** The panel beside a form: a dialog's own, although the page below has one too. */
const checksOf = (part) => $("#checks", part.closest("dialog.modal") || $("#main"));

async function check(form, submitter) {
  checking?.abort();
  const stop = (checking = new AbortController());
  const limit = AbortSignal.timeout(CHECK_LIMIT_MS);
  const board = checkBoard(checksOf(form), form);
  submitter.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(submitter.getAttribute("formaction") || form.getAttribute("action"), {
      method: "POST", body: formBody(form, submitter), credentials: "same-origin", cache: "no-store",
      headers: { accept: "application/x-ndjson" }, signal: AbortSignal.any([stop.signal, limit]),
    });
    if (!answer.headers.get("content-type")?.startsWith("application/x-ndjson")) return showInstead(form, answer);
    for await (const news of jsonLines(answer.body)) {
      if (stop.signal.aborted) return;
      if (news.end) return board.end(news);
      board.line(news);
    }
    board.end({ problem: "The connection to the server broke off. Check again." });
  } catch (error) {
    if (stop.signal.aborted) return;
    if (limit.aborted) board.end({ problem: "Stopped: no answer from the server within 15 seconds. Check again." });
    else board.end({ problem: "The server could not be reached. Check again." });
  } finally {
    board.stop();
    if (checking === stop) submitter.removeAttribute("aria-busy");
  }
}

/** What was refused before the first line is a page: shown where the form is. */
async function showInstead(form, answer) {
  const html = new DOMParser().parseFromString(await answer.text(), "text/html");
  const dialog = form.closest("dialog.modal");
  if (dialog) return showBox(dialog, { html, url: answer.url, ok: answer.ok });
  if (answer.ok) location.href = answer.url;
  else root.replaceWith(html.documentElement);
}

async function* jsonLines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

/** The panel of checks while they run. Only what matters is read aloud: the beginning, each failure, the end. */
function checkBoard(panel, form) {
  const list = $("ol.checks", panel), total = panel.dataset.total;
  $("#checks-head", panel).replaceWith(partOf(panel, "running"));
  $("#checks-end", panel).replaceChildren();
  $$("[data-check-error]", form).forEach((error) => error.remove());
  $$("[aria-invalid]", form).forEach((input) => input.removeAttribute("aria-invalid"));
  list.replaceChildren(partOf(panel, "waiting"));
  list.hidden = false;
  panel.classList.remove("stale");
  const waiting = $(".waiting", list), count = $(".running strong", panel);
  const scroller = getComputedStyle(panel).overflowY === "auto" ? panel : panel.closest("dialog.modal");
  const say = (text) => { $("#checks-said", panel).textContent = text; };
  let asked = Date.now();
  const tick = setInterval(() => {
    const seconds = Math.floor((Date.now() - asked) / 1000);
    $(".ms", waiting).textContent = seconds ? `${seconds} s` : "";
  }, 500);
  count.textContent = `Checked 0 of ${total}…`;
  say("Checking…");
  if (scroller === panel) panel.scrollTop = 0;
  else panel.scrollIntoView({ block: scroller ? "start" : "nearest" });
  return {
    line(news) {
      const follows = scroller && scroller.scrollTop + scroller.clientHeight > scroller.scrollHeight - 80;
      if (news.html) waiting.before(...fragment(news.html).children);
      $("strong", waiting).textContent = news.next || "";
      $(".ms", waiting).textContent = "";
      asked = Date.now();
      count.textContent = `Checked ${news.at} of ${news.of}…`;
      $("progress", panel).value = news.at;
      if (news.said) say(news.said);
      if (news.field) markField(form, news.field, news.cause, list);
      if (follows) scroller.scrollTop = scroller.scrollHeight;
    },
    end(news) {
      waiting.remove();
      if (news.problem) {
        count.textContent = news.problem;
        $("progress", panel).remove();
        return say(news.problem);
      }
      const whole = fragment(news.html);
      for (const id of ["#checks-head", "#checks-end"]) $(id, panel).replaceWith($(id, whole));
      say(news.said);
      ($("#check-cause", panel) || $(".tick", panel))?.scrollIntoView({ block: scroller === panel ? "nearest" : "start" });
    },
    stop: () => { clearInterval(tick); waiting.remove(); },
  };
}

const partOf = (panel, name) => $(`template[data-${name}]`, panel).content.cloneNode(true);

/** *Create vault* and its like: the server checks once more and answers with a page. */
function checkingAgain(panel, told) {
  $("#checks-head", panel).replaceWith(partOf(panel, "running"));
  $(".running strong", panel).textContent = told;
  $("progress", panel).removeAttribute("value");
  $("#checks-said", panel).textContent = told;
}

/** The values are others than those that were checked. */
function outdate(panel) {
  if (panel.classList.contains("stale") || !$("#checks-told", panel)) return;
  panel.classList.add("stale");
  $("#checks-said", panel).textContent = $(".stale-note", panel).textContent;
}

const fragment = (html) => new DOMParser().parseFromString(html, "text/html").body;

/** What is wrong with a value stands beside it too, as on a page that comes back from the server. */
function markField(form, name, cause, list) {
  const input = form.elements[name];
  if (!input?.setAttribute || $(`[data-check-error="${CSS.escape(name)}"]`, form)) return;
  const error = document.createElement("p");
  error.className = "error";
  error.id = `${name}-error`;
  error.dataset.checkError = name;
  error.append($("li.bad:last-of-type .icon", list)?.cloneNode(true) || "", cause);
  (input.closest(".with-button") || input).after(error);
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-describedby", error.id);
}

// ── Password generator: rejection sampling from the browser's random source.
const SETS = { "a–z": "abcdefghijkmnopqrstuvwxyz", "A–Z": "ABCDEFGHJKLMNPQRSTUVWXYZ", "0–9": "23456789", "!?": "!#$%&*+-=?@^_~" };

function randomBelow(limit) {
  const top = Math.floor(2 ** 32 / limit) * limit;
  const number = new Uint32Array(1);
  do crypto.getRandomValues(number); while (number[0] >= top);
  return number[0] % limit;
}

function generate(length, sets) {
  const pick = (text) => text[randomBelow(text.length)];
  const letters = sets.map(pick);
  while (letters.length < length) letters.push(pick(sets.join("")));
  for (let i = letters.length - 1; i > 0; i -= 1) {
    const j = randomBelow(i + 1);
    [letters[i], letters[j]] = [letters[j], letters[i]];
  }
  return letters.join("");
}

function openGenerator(target) {
  const dialog = modal();
  dialog.innerHTML = `<form class="box" method="dialog"><header><h1 id="box-title">Generate a password</h1></header>
    <div class="generator"><output></output>
    <label>Length <b></b><input type="range" min="8" max="64" value="20" aria-label="Length"></label>
    <div class="row">${Object.keys(SETS).map((name) => `<label><input type="checkbox" value="${name}" checked>${name}</label>`).join("")}</div></div>
    <footer><button class="btn" value="">Cancel</button><button type="button" class="btn" data-again>Again</button><button class="btn primary" value="use">Use it</button></footer></form>`;
  dialog.setAttribute("aria-labelledby", "box-title");
  const range = $("input[type=range]", dialog), output = $("output", dialog);
  const again = () => {
    const sets = $$("input:checked", dialog).map((box) => SETS[box.value]);
    if (!sets.length) { $("input[type=checkbox]", dialog).checked = true; return again(); }
    output.value = generate(Number(range.value), sets);
    $("b", dialog).textContent = range.value;
  };
  dialog.addEventListener("input", again);
  $("[data-again]", dialog).addEventListener("click", again);
  dialog.addEventListener("close", () => {
    if (dialog.returnValue === "use") {
      target.value = output.value;
      target.type = "text";
      target.dispatchEvent(new Event("input", { bubbles: true }));
    }
    target.focus();
  });
  again();
  dialog.showModal();
}

// ── Selection: what is ticked in a list, and how many.
function selected(box) {
  const bar = $("[data-selection]"), boxes = $$("input[form=selection]"), all = $("[data-select-all]", bar);
  if (box === all) boxes.forEach((one) => { one.checked = all.checked; });
  const count = boxes.filter((one) => one.checked).length;
  all.checked = count === boxes.length;
  all.indeterminate = count > 0 && count < boxes.length;
  bar.classList.toggle("some", count > 0);
  $("[data-selected]", bar).textContent = count ? `${count} selected` : "";
  $$("button", bar).forEach((button) => { button.disabled = !count; });
}

// ── Palette: every place of the navigation, and search.
function openPalette() {
  const dialog = modal("palette");
  dialog.setAttribute("aria-label", "Go to");
  dialog.innerHTML = `<div class="box"><input role="combobox" aria-expanded="true" aria-controls="places" aria-label="Go to, or search" placeholder="Go to, or search for…" autocomplete="off" spellcheck="false"><ul id="places" role="listbox" aria-label="Places"></ul></div>`;
  const places = [...$$("#nav .nav a"), ...$$("#nav .me")].map((link) => [link.innerText.split("\n")[0].trim(), link.getAttribute("href")]);
  places.push(["New account", "/items/new?type=account"], ["New secret", "/items/new?type=secret"]);
  const input = $("input", dialog), list = $("ul", dialog);
  let chosen = 0;
  const draw = () => {
    const wanted = input.value.trim().toLowerCase();
    const hits = places.filter(([name]) => name.toLowerCase().includes(wanted));
    if (wanted) hits.push([`Search for “${input.value.trim()}”`, ""]);
    chosen = Math.max(0, Math.min(chosen, hits.length - 1));
    list.replaceChildren(...hits.map(([name, url], index) => {
      const link = document.createElement("a");
      link.id = `place-${index}`;
      link.setAttribute("role", "option");
      link.setAttribute("aria-selected", String(index === chosen));
      link.href = url || "#";
      link.textContent = name;
      if (!url) link.addEventListener("click", (event) => { event.preventDefault(); search(input.value); });
      return link;
    }));
    input.setAttribute("aria-activedescendant", `place-${chosen}`);
  };
  input.addEventListener("input", () => { chosen = 0; draw(); });
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) { event.preventDefault(); chosen += step; draw(); }
    if (event.key === "Enter") { event.preventDefault(); list.children[chosen]?.click(); }
  });
  draw();
  dialog.showModal();
}

function search(text) {
  const form = $("form.search");
  form.elements.q.value = text;
  form.submit();
}

// ── Search while typing, on the list of items.
let searching;
function searchSoon(form) {
  clearTimeout(searching);
  if (!$("#results")) return;
  searching = setTimeout(async () => {
    const text = form.elements.q.value;
    const answer = text.trim() ? await page(form.action, { method: "POST", body: formBody(form) }) : await page("/items");
    if (answer.ok && form.elements.q.value === text) swap("#results", answer.html);
  }, 180);
}

// ── Wiring. One listener a kind on the document, so that swapped parts need none of their own.
document.addEventListener("click", (event) => {
  const from = (selector) => event.target.closest(selector);
  const button = from("[data-copy]") || from("[data-copy-sealed]") || from("[data-peek]") || from("[data-generator]") || from("[data-remove-row]") || from("[data-add-row]");
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey;
  if (button?.dataset.copy !== undefined) return copy(button.dataset.copy, button);
  if (button?.dataset.copySealed !== undefined) return copySealed(button);
  if (button?.dataset.peek) {
    const input = document.getElementById(button.dataset.peek);
    const shown = input.type === "password";
    input.type = shown ? "text" : "password";
    return button.setAttribute("aria-pressed", String(shown));
  }
  if (button?.dataset.generator) return openGenerator(document.getElementById(button.dataset.generator));
  if (button?.matches("[data-remove-row]")) {
    const row = button.closest(".free-row");
    $$("input, textarea", row).forEach((input) => { input.value = ""; });
    return (row.hidden = true);
  }
  if (button?.matches("[data-add-row]")) return addRow(event);
  if (from("[data-hide]")) { event.preventDefault(); return hide(from("[data-revealed]")); }
  if (plain && from("dialog.modal [data-close]")) { event.preventDefault(); return from("dialog.modal").close(); }
  const opener = from("a[data-dialog]");
  if (opener && plain) { event.preventDefault(); openDialog(opener.href, opener.closest("dialog.modal") || modal()); }
  for (const menu of $$("[data-menu][open]")) if (!menu.contains(event.target)) menu.open = false;
});

function addRow(event) {
  const rows = $("[data-rows]"), last = rows.lastElementChild;
  if (!last) return; // the server adds the first one
  event.preventDefault();
  const number = rows.children.length + 1;
  const row = last.cloneNode(true);
  row.hidden = false;
  row.innerHTML = row.innerHTML.replaceAll(/(field-(?:name|kind|value))-\d+/g, `$1-${number}`).replaceAll(/([Ff]ield) \d+/g, `$1 ${number}`);
  $$("input, textarea", row).forEach((input) => { input.value = ""; });
  $$(".error", row).forEach((error) => error.remove());
  $("select", row).value = "text";
  rows.append(row);
  veil(row);
  $("input", row).focus();
}

function veil(row) {
  const kind = $("[data-field-kind]", row).value, value = $("textarea", row);
  value.classList.toggle("veiled", ["hidden", "password", "totp", "private_key"].includes(kind));
  value.rows = ["notes", "private_key"].includes(kind) ? 5 : 1;
}

document.addEventListener("submit", async (event) => {
  const form = event.target, dialog = form.closest("dialog.modal");
  if (event.submitter?.matches("[data-check]") && checksOf(form)) { event.preventDefault(); return check(form, event.submitter); }
  checking?.abort();
  leaving = true;
  if (form.matches("[data-dialog]")) {
    event.preventDefault();
    leaving = false;
    return showBox(modal(), await page(form.getAttribute("action"), { method: "POST", body: formBody(form, event.submitter) }));
  }
  if (form.matches("[data-reveal]")) { event.preventDefault(); leaving = false; return reveal(form); }
  if (dialog && form.method === "post") {
    event.preventDefault();
    event.submitter?.setAttribute("aria-busy", "true");
    if ($("#checks", form)) checkingAgain($("#checks", form), form.dataset.doing);
    const url = event.submitter?.getAttribute("formaction") || form.getAttribute("action");
    showBox(dialog, await page(url, { method: "POST", body: formBody(form, event.submitter) }));
  }
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-select-all], [form=selection]")) return selected(event.target);
  if (event.target.matches("[data-field-kind]")) return veil(event.target.closest(".free-row"));
  event.target.closest("[data-autosubmit]")?.requestSubmit();
});

document.addEventListener("input", (event) => {
  if (event.target.matches("[data-search]")) searchSoon(event.target.form);
  if (event.target.matches(".asked *") && $("ol.checks li", checksOf(event.target))) outdate(checksOf(event.target));
  const guarded = event.target.closest("[data-guard]");
  if (guarded) guarded.dataset.dirty = "yes";
});

document.addEventListener("keydown", (event) => {
  if ((event.metaKey || event.ctrlKey) && event.key.toLowerCase() === "k" && $("#nav")) { event.preventDefault(); return openPalette(); }
  if (event.key === "Escape") $$("[data-menu][open]").forEach((menu) => { menu.open = false; $("summary", menu).focus(); });
  const typing = event.target.closest("input, textarea, select, dialog.modal");
  if (event.key === "/" && !typing && $("#q")) { event.preventDefault(); $("#q").focus(); $("#q").select(); }
});

window.addEventListener("beforeunload", (event) => { if ($("[data-dirty]") && !leaving) event.preventDefault(); });
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

function enhance(part) {
  for (const revealed of $$("[data-revealed]", part)) hideLater(revealed);
  for (const totp of $$("[data-totp]", part)) countTotp(totp);
  for (const job of $$("[data-poll]", part)) poll(job);
  const all = $("[data-select-all]", part);
  if (all) selected(all);
}

enhance(document);
live();

// A hand that has only a keyboard: it tabs to a control by the name that is read aloud, and never clicks.

import assert from "node:assert/strict";

const MOST_STOPS = 80;

/** Tabs until the control with this accessible name has the focus. `role` narrows: "link", "button", "textbox" … */
export async function tabTo(page, name, role) {
  const wanted = role ? page.getByRole(role, { name, exact: true }) : page.getByLabel(name, { exact: true });
  for (let stop = 0; stop < MOST_STOPS; stop += 1) {
    if (await wanted.evaluateAll((found) => found.includes(document.activeElement))) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`no Tab reaches ${role ?? "the field"} “${name}” on ${page.url()}`);
}

/** Tabs to it and presses Enter. */
export async function press(page, role, name) {
  await tabTo(page, name, role);
  await page.keyboard.press("Enter");
}

/** Tabs to the field of this label and types, in place of what is there. */
export async function type(page, label, text) {
  await tabTo(page, label);
  await page.keyboard.press("Control+A");
  await page.keyboard.insertText(text);
}

/** Tabs to the drop-down of this label and chooses by typing the first letters, as a keyboard does. */
export async function choose(page, label, option) {
  await tabTo(page, label);
  await page.keyboard.type(option);
}

/** Tabs to the box of this label and ticks it. */
export async function tick(page, label) {
  await tabTo(page, label, "checkbox");
  await page.keyboard.press("Space");
}

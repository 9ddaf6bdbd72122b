// What the page shows. Texts from outside get into it as text only, never as markup.

export const byId = (id) => document.getElementById(id);

// Makes an element out of its name, its attributes, and texts or elements.
export function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

const secrets = new Set();

// A text that is never shown, also where an answer repeats it, as it is or in JSON.
export function keepSecret(text) {
  if (typeof text === "string" && text.length >= 4) secrets.add(text).add(JSON.stringify(text).slice(1, -1));
  return text;
}

// The longest come first: one may be a part of another one.
function redacted(text) {
  for (const secret of [...secrets].sort((a, b) => b.length - a.length)) text = text.replaceAll(secret, "[secret]");
  return text;
}

// A text from outside, without secrets, and short enough to be shown.
export function shown(value) {
  // Cut first, a secret would be recognized no more.
  const text = redacted(typeof value === "string" ? value : (JSON.stringify(value) ?? "nothing"));
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}

// Lets a button copy a text, and says so on the button itself.
export function copies(button, text) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    button.textContent = (await copy(text())) ? "Copied" : "Select the text and copy it by hand";
    setTimeout(() => (button.textContent = label), 2000);
  });
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without TLS there is no clipboard.
    const area = element("textarea", { class: "hidden", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

const STATES = {
  waiting: ["…", "in progress"],
  fine: ["✓", "fine"],
  warning: ["!", "worth a look"],
  problem: ["✕", "problem"],
};

// The outcome of a check or a test call: steps in the order in which they are taken.
export class Results {
  #title;
  #list;
  #steps = [];

  constructor(title, list) {
    this.#title = title;
    this.#list = list;
    list.replaceChildren();
    delete list.dataset.done;
  }

  step(title) {
    const step = new Step(title);
    this.#steps.push(step);
    this.#list.append(step.item);
    return step;
  }

  // Nothing more comes. A step that is still waited for has failed with another one.
  close() {
    for (const step of this.#steps) if (step.state === "waiting") step.warning("It wasn’t finished.");
    this.#list.dataset.done = "true";
  }

  text() {
    const head = [this.#title, `at ${new Date().toISOString()}, with ${navigator.userAgent}`];
    return redacted([...head, ...this.#steps.map(String)].join("\n")) + "\n";
  }
}

class Step {
  #title;
  #detail = "";
  #remedy = "";

  constructor(title) {
    this.#title = title;
    this.item = element("li", {});
    this.#show("waiting");
  }

  // Shows what the step waits for.
  waiting(detail) {
    this.#show("waiting", detail);
  }

  fine(detail) {
    this.#show("fine", detail);
  }

  warning(detail, remedy) {
    this.#show("warning", detail, remedy);
  }

  problem(detail, remedy) {
    this.#show("problem", detail, remedy);
  }

  #show(state, detail = "", remedy = "") {
    [this.state, this.#detail, this.#remedy] = [state, redacted(detail), redacted(remedy)];
    const [mark, word] = STATES[state];
    const title = element(
      "p",
      {},
      element("strong", {}, this.#title),
      element("span", { class: "hidden" }, `: ${word}`),
    );
    const texts = [title];
    if (this.#detail) texts.push(element("p", {}, this.#detail));
    if (this.#remedy) texts.push(element("p", { class: "remedy" }, this.#remedy));
    this.item.dataset.state = state;
    this.item.replaceChildren(
      element("span", { class: "mark", "aria-hidden": "true" }, mark),
      element("div", {}, ...texts),
    );
  }

  toString() {
    const lines = [`[${STATES[this.state][1]}] ${this.#title}`, this.#detail, this.#remedy && `→ ${this.#remedy}`];
    return lines.filter(Boolean).join("\n    ");
  }
}

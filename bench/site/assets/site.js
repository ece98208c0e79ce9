// Adds to pages that are complete without it: search, a t0 slider, a picture viewer, copy buttons.
"use strict";

function element(name, attributes, text) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function addSearch() {
  const cards = [...document.querySelectorAll(".card")];
  if (cards.length < 2) return;
  const input = element("input", { type: "search", placeholder: "Search plugins", "aria-label": "Search plugins" });
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    for (const card of cards) card.hidden = !card.dataset.name.toLowerCase().includes(wanted);
  });
  document.querySelector(".top").append(input);
}

function addSlider(strip) {
  const t0s = strip.dataset.t0s.split(" ").filter(Boolean);
  if (t0s.length < 2) return;
  const label = element("label", { class: "slider" }, "How much is redrawn (t0)");
  const input = element("input", { type: "range", min: 0, max: t0s.length - 1, step: 1 });
  const value = element("output");
  const all = element("button", { type: "button", "aria-pressed": "false" }, "Show all");
  function show() {
    const chosen = t0s[Number(input.value)];
    const everything = all.getAttribute("aria-pressed") === "true";
    value.textContent = everything ? "all" : chosen;
    input.setAttribute("aria-valuetext", `t0 ${chosen}`);
    for (const cell of strip.querySelectorAll("[data-t0]")) {
      if (cell !== strip) cell.hidden = !everything && Number(cell.dataset.t0) !== Number(chosen);
    }
  }
  const preset = t0s.findIndex((t0) => Number(t0) === Number(strip.dataset.t0));
  input.value = strip.dataset.t0 && preset >= 0 ? preset : 0;
  input.addEventListener("input", () => {
    all.setAttribute("aria-pressed", "false");
    show();
  });
  all.addEventListener("click", () => {
    all.setAttribute("aria-pressed", all.getAttribute("aria-pressed") === "true" ? "false" : "true");
    show();
  });
  label.append(input, value);
  const line = element("div", { class: "slider" });
  line.append(label, all);
  strip.before(line);
  show();
}

class Viewer {
  constructor(strip) {
    this.run = strip.dataset.run;
    this.rows = [...strip.querySelectorAll("tbody tr")];
    this.dialog = element("dialog", { class: "viewer", "aria-label": "Picture", tabindex: -1 });
    this.title = element("p", { "aria-live": "polite" });
    this.image = element("img", { alt: "" });
    this.command = element("code");
    const buttons = element("div", { class: "buttons" });
    const actions = { "← Method": "ArrowLeft", "Method →": "ArrowRight", "↑ Prompt": "ArrowUp",
      "Prompt ↓": "ArrowDown", "Flip with before": " ", Close: "Escape" };
    for (const [text, key] of Object.entries(actions)) {
      const button = element("button", { type: "button" }, text);
      button.addEventListener("click", () => this.act(key));
      buttons.append(button);
    }
    this.dialog.append(this.title, this.image, buttons, element("p", { class: "faint" }, "Everything about it: "));
    this.dialog.lastChild.append(this.command);
    this.dialog.addEventListener("keydown", (event) => {
      if (event.target.tagName === "BUTTON" && event.key === " ") return;
      if (["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", " "].includes(event.key)) {
        event.preventDefault();
        this.act(event.key);
      }
    });
    document.body.append(this.dialog);
    strip.addEventListener("click", (event) => {
      const shot = event.target.closest("a.shot");
      if (!shot || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.row = this.rows.indexOf(shot.closest("tr"));
      this.place = this.shots(this.row).indexOf(shot);
      this.flipped = false;
      this.opener = shot;
      this.dialog.showModal();
      this.dialog.focus(); // a focused button would take the space key
      this.show();
    });
    this.dialog.addEventListener("close", () => this.opener.focus());
    this.image.addEventListener("click", () => this.act(" "));
  }

  shots(row) {
    return [...this.rows[row].querySelectorAll("a.shot")].filter((shot) => !shot.closest("[hidden]"));
  }

  act(key) {
    if (key === "Escape") return this.dialog.close();
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[key];
    if (key === " ") this.flipped = !this.flipped;
    else if (key === "ArrowLeft" || key === "ArrowRight") this.place += step;
    else this.row = (this.row + step + this.rows.length) % this.rows.length;
    if (key !== " ") this.flipped = false;
    const n = this.shots(this.row).length;
    this.place = (this.place + n) % n;
    this.show();
  }

  show() {
    const shots = this.shots(this.row);
    const shot = this.flipped ? shots[0] : shots[this.place];
    const picture = shot.querySelector("img");
    const { title, score, trial } = shot.dataset;
    this.image.src = shot.href;
    this.image.alt = picture ? picture.alt : title;
    this.title.textContent = [title, score, picture && picture.alt.slice(title.length + 2)].filter(Boolean).join(" | ");
    this.command.textContent = `xbench explain ${this.run} ${trial}`;
  }
}

function addCopying() {
  if (!navigator.clipboard) return;
  for (const block of document.querySelectorAll("main pre")) {
    const button = element("button", { type: "button" }, "Copy");
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.textContent.trim());
      button.textContent = "Copied";
    });
    block.after(button);
  }
}

addSearch();
for (const strip of document.querySelectorAll(".strip")) {
  addSlider(strip);
  new Viewer(strip);
}
addCopying();

// Adds to picture strips that are complete without it: choice of prompts, a t0 slider, a viewer, copying.
"use strict";

function element(name, attributes, text) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function pressed(button) {
  return button.getAttribute("aria-pressed") === "true";
}

function press(button, value) {
  button.setAttribute("aria-pressed", String(value));
}

function addFilter(strip, line) {
  const tags = strip.dataset.tags.split(" ").filter(Boolean);
  if (tags.length < 2) return;
  const names = { examples: "Examples", failures: "Failures", differ: "Differ most" };
  const buttons = ["", ...tags].map((tag) => {
    const button = element("button", { type: "button", "aria-pressed": String(!tag) }, tag ? names[tag] || tag : "All");
    button.addEventListener("click", () => {
      for (const other of buttons) press(other, other === button);
      for (const row of strip.querySelectorAll("tbody tr")) row.hidden = Boolean(tag) && !row.dataset.tags.split(" ").includes(tag);
    });
    return button;
  });
  line.append(...buttons);
}

function addSlider(strip, line) {
  const t0s = strip.dataset.t0s.split(" ").filter(Boolean);
  if (t0s.length < 2) return;
  const label = element("label", {}, "How much is redrawn (t0)");
  const input = element("input", { type: "range", min: 0, max: t0s.length - 1, step: 1 });
  const value = element("output");
  const all = element("button", { type: "button", "aria-pressed": "false" }, "Show all t0");
  function show() {
    const chosen = t0s[Number(input.value)];
    value.textContent = pressed(all) ? "all" : chosen;
    input.setAttribute("aria-valuetext", `t0 ${chosen}`);
    for (const cell of strip.querySelectorAll("th[data-t0], td[data-t0]")) {
      cell.hidden = !pressed(all) && Number(cell.dataset.t0) !== Number(chosen);
    }
  }
  const preset = t0s.findIndex((t0) => Number(t0) === Number(strip.dataset.t0));
  input.value = strip.dataset.t0 && preset >= 0 ? preset : 0;
  input.addEventListener("input", () => {
    press(all, false);
    show();
  });
  all.addEventListener("click", () => {
    press(all, !pressed(all));
    show();
  });
  label.append(input, value);
  line.append(label, all);
  show();
}

class Viewer {
  constructor() {
    this.dialog = element("dialog", { class: "xb viewer", "aria-label": "Picture", tabindex: -1 });
    this.title = element("p", { "aria-live": "polite" });
    this.frame = element("div", { class: "frame" });
    this.image = element("img", { class: "current", alt: "" });
    this.over = element("img", { class: "over", alt: "" });
    this.frame.append(this.image, this.over);
    this.other = element("div", { class: "frame" });
    this.otherImage = element("img", { alt: "" });
    this.other.append(this.otherImage);
    this.stage = element("div", { class: "stage" });
    this.stage.append(this.other, this.frame);
    this.command = element("code");
    this.addButtons();
    this.addZoom();
    this.dialog.addEventListener("keydown", (event) => this.key(event));
    this.dialog.addEventListener("close", () => this.opener && this.opener.focus());
    document.body.append(this.dialog);
  }

  addButtons() {
    const moves = element("div", { class: "choices" });
    const actions = { "← Method": "ArrowLeft", "Method →": "ArrowRight", "↑ Prompt": "ArrowUp",
      "Prompt ↓": "ArrowDown", "Flip with before": " ", "−": "-", "+": "+", Close: "Escape" };
    const words = { "−": "Zoom out", "+": "Zoom in" };
    for (const [text, key] of Object.entries(actions)) {
      const button = element("button", words[text] ? { type: "button", "aria-label": words[text] } : { type: "button" }, text);
      button.addEventListener("click", () => this.act(key));
      moves.append(button);
    }
    const views = element("div", { class: "choices" });
    this.modes = {};
    for (const [mode, text] of Object.entries({ beside: "Before beside it", difference: "Difference", condition: "Condition over it" })) {
      const button = element("button", { type: "button", "aria-pressed": "false" }, text);
      button.addEventListener("click", () => {
        press(button, !pressed(button));
        if (mode !== "beside") for (const other of ["difference", "condition"]) if (other !== mode) press(this.modes[other], false);
        this.show();
      });
      this.modes[mode] = button;
      views.append(button);
    }
    this.label = element("label", {}, "t0");
    this.range = element("input", { type: "range", min: 0, step: 1 });
    this.output = element("output");
    this.range.addEventListener("input", () => this.chooseT0(Number(this.range.value)));
    this.label.append(this.range, this.output);
    views.append(this.label);
    const line = element("p", { class: "faint" }, "Everything about it: ");
    line.append(this.command, " ", copyButton(() => this.command.textContent));
    this.dialog.append(this.title, this.stage, moves, views, line);
  }

  addZoom() {
    this.zoom = { scale: 1, x: 0, y: 0 };
    const touches = new Map();
    this.stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2);
    }, { passive: false });
    this.stage.addEventListener("pointerdown", (event) => {
      touches.set(event.pointerId, [event.clientX, event.clientY]);
      this.start = { x: event.clientX, y: event.clientY, moved: false };
      this.stage.setPointerCapture(event.pointerId);
    });
    this.stage.addEventListener("pointermove", (event) => {
      const last = touches.get(event.pointerId);
      if (!last) return;
      const others = [...touches].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const distance = (place) => Math.hypot(place[0] - others[0][0], place[1] - others[0][1]);
      const here = [event.clientX, event.clientY];
      if (Math.hypot(here[0] - this.start.x, here[1] - this.start.y) > 6) this.start.moved = true;
      if (others.length) this.zoomBy(distance(here) / Math.max(distance(last), 1));
      else if (this.zoom.scale > 1) this.pan(here[0] - last[0], here[1] - last[1]);
      touches.set(event.pointerId, here);
    });
    this.stage.addEventListener("pointerup", (event) => {
      const only = touches.size === 1;
      touches.delete(event.pointerId);
      if (!only) return;
      const dx = event.clientX - this.start.x;
      if (!this.start.moved) this.act(" ");
      else if (this.zoom.scale === 1 && Math.abs(dx) > 40) this.act(dx < 0 ? "ArrowRight" : "ArrowLeft");
    });
    this.stage.addEventListener("pointercancel", (event) => touches.delete(event.pointerId));
  }

  zoomBy(factor) {
    const scale = Math.min(8, Math.max(1, this.zoom.scale * factor));
    const ratio = scale / this.zoom.scale;
    this.zoom = scale === 1 ? { scale, x: 0, y: 0 } : { scale, x: this.zoom.x * ratio, y: this.zoom.y * ratio };
    this.pan(0, 0);
  }

  pan(dx, dy) {
    const limit = (this.frame.clientWidth * (this.zoom.scale - 1)) / 2;
    const inside = (value) => Math.min(limit, Math.max(-limit, value));
    this.zoom.x = inside(this.zoom.x + dx);
    this.zoom.y = inside(this.zoom.y + dy);
    this.stage.style.setProperty("--zoom", this.zoom.scale);
    this.stage.style.setProperty("--x", `${this.zoom.x}px`);
    this.stage.style.setProperty("--y", `${this.zoom.y}px`);
  }

  open(shot) {
    this.strip = shot.closest(".strip");
    this.opener = shot;
    this.rows = [...this.strip.querySelectorAll("tbody tr")].filter((row) => !row.hidden && row.querySelector("a.shot"));
    this.row = this.rows.indexOf(shot.closest("tr"));
    this.shot = shot;
    this.flipped = false;
    this.zoomBy(0);
    this.dialog.showModal();
    this.dialog.focus(); // a focused button would take the space key
    this.show();
  }

  key(event) {
    if (["BUTTON", "INPUT"].includes(event.target.tagName) && (event.key === " " || event.target.tagName === "INPUT")) return;
    if (["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", " ", "+", "-"].includes(event.key)) {
      event.preventDefault();
      this.act(event.key);
    }
  }

  shots(row) {
    return [...row.querySelectorAll("a.shot")].filter((shot) => !shot.closest("td[hidden]") || shot === this.shot);
  }

  act(key) {
    if (key === "Escape") return this.dialog.close();
    if (key === "+" || key === "-") return this.zoomBy(key === "+" ? 1.5 : 1 / 1.5);
    if (key === " ") this.flipped = !this.flipped;
    else if (key === "ArrowLeft" || key === "ArrowRight") this.move(key === "ArrowLeft" ? -1 : 1);
    else this.moveRow(key === "ArrowUp" ? -1 : 1);
    if (key !== " ") this.flipped = false;
    this.show();
  }

  move(step) {
    const shots = this.shots(this.rows[this.row]);
    this.shot = shots[(shots.indexOf(this.shot) + step + shots.length) % shots.length];
  }

  moveRow(step) {
    const { title } = this.shot.dataset;
    this.row = (this.row + step + this.rows.length) % this.rows.length;
    const all = [...this.rows[this.row].querySelectorAll("a.shot")];
    this.shot = all.find((shot) => shot.dataset.title === title) || this.shots(this.rows[this.row])[0];
  }

  t0s() {
    const { method } = this.shot.dataset;
    return [...this.rows[this.row].querySelectorAll("a.shot")].filter((shot) => shot.dataset.t0 && shot.dataset.method === method);
  }

  chooseT0(place) {
    this.shot = this.t0s()[place];
    this.flipped = false;
    this.show();
  }

  show() {
    const row = this.rows[this.row];
    const before = row.querySelector("a.shot");
    const shot = this.flipped ? before : this.shot;
    const condition = row.querySelector("img.condition");
    this.modes.condition.hidden = !condition;
    const words = (link) => {
      const picture = link.querySelector("img");
      return picture ? picture.alt : link.dataset.title;
    };
    const { title, score, trial } = shot.dataset;
    this.image.src = shot.href;
    this.image.alt = words(shot);
    this.title.textContent = [title, score, words(shot).slice(title.length + 2)].filter(Boolean).join(" | ");
    const isDifference = pressed(this.modes.difference);
    const isCondition = condition && pressed(this.modes.condition);
    this.over.hidden = !isDifference && !isCondition;
    this.over.className = `over ${isDifference ? "is-difference" : "is-condition"}`;
    this.frame.className = isDifference ? "frame is-difference" : "frame";
    if (isDifference) this.over.src = before.href;
    else if (isCondition) this.over.src = condition.dataset.full;
    this.other.hidden = !pressed(this.modes.beside);
    this.otherImage.src = before.href;
    this.otherImage.alt = words(before);
    const t0s = this.t0s();
    this.label.hidden = t0s.length < 2;
    if (t0s.length > 1) {
      this.range.max = t0s.length - 1;
      this.range.value = t0s.indexOf(this.shot);
      this.output.textContent = this.shot.dataset.t0;
      this.range.setAttribute("aria-valuetext", `t0 ${this.shot.dataset.t0}`);
    }
    this.command.textContent = `xbench explain ${shot.dataset.run || this.strip.dataset.run} ${trial}`;
  }
}

function copyButton(text, label = "Copy") {
  const button = element("button", { type: "button" }, label);
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text().trim());
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 1500);
  });
  return button;
}

function openPicture(event) {
  const shot = event.target.closest && event.target.closest(".strip a.shot");
  if (!shot || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  document.xbenchViewer = document.xbenchViewer || new Viewer();
  document.xbenchViewer.open(shot);
}

function enhancePictures() {
  for (const strip of document.querySelectorAll(".xb .strip:not([data-enhanced])")) {
    strip.dataset.enhanced = "";
    const line = element("div", { class: "choices" });
    addFilter(strip, line);
    addSlider(strip, line);
    strip.before(line);
  }
  for (const block of document.querySelectorAll(".xb pre:not([data-enhanced]), .xb code.copy:not([data-enhanced])")) {
    block.dataset.enhanced = "";
    block.after(copyButton(() => block.textContent));
  }
  for (const place of document.querySelectorAll(".xb button.copy-link:not([data-enhanced])")) {
    place.dataset.enhanced = "";
    place.replaceWith(copyButton(() => place.dataset.copy || location.href, "Copy link"));
  }
}

if (!document.xbenchListens) {
  document.xbenchListens = true;
  document.addEventListener("click", openPicture);
}

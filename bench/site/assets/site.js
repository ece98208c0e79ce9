// Adds to pages that are complete without it: search and choice of cards by verdict.
"use strict";

function addSearch() {
  const cards = [...document.querySelectorAll(".card, tr[data-search]")];
  if (document.querySelectorAll(".card").length < 2) return;
  const input = element("input", { type: "search", placeholder: "Search plugin, file, sha256", "aria-label": "Search plugins" });
  const chosen = new Set();
  const none = element("p", { class: "notice", role: "status" }, "No plugin matches.");
  none.hidden = true;
  function show() {
    const wanted = input.value.trim().toLowerCase();
    let n = 0;
    for (const card of cards) {
      const found = card.dataset.search.toLowerCase().includes(wanted);
      card.hidden = !found || (chosen.size > 0 && !chosen.has(card.dataset.word));
      n += !card.hidden;
    }
    none.hidden = n > 0;
  }
  input.addEventListener("input", show);
  document.querySelector(".top").append(input);
  document.querySelector(".cards").before(none);
  addChips(cards, chosen, show);
}

function addChips(cards, chosen, show) {
  const counts = new Map();
  for (const card of cards.filter((one) => one.tagName === "TR")) counts.set(card.dataset.word, (counts.get(card.dataset.word) || 0) + 1);
  if (counts.size < 2) return;
  const line = element("div", { class: "choices", role: "group", "aria-label": "Verdicts to show" });
  for (const [word, n] of counts) {
    const text = `${word[0].toUpperCase()}${word.slice(1)} ${n}`;
    const button = element("button", { type: "button", "aria-pressed": "false" }, text);
    button.addEventListener("click", () => {
      press(button, !pressed(button));
      if (pressed(button)) chosen.add(word);
      else chosen.delete(word);
      show();
    });
    line.append(button);
  }
  document.querySelector(".legend").before(line);
}

addSearch();
enhancePictures();

"use strict";
// Shows the examples that contain what is typed, in all lists, and how many they are.
const field = document.querySelector("#find");
const items = [...document.querySelectorAll("[data-example]")].map((node) => ({
  node,
  text: node.textContent.normalize("NFKC").toLowerCase(),
}));
const count = document.querySelector("#found");
const say = count.dataset.of;
field.addEventListener("input", () => {
  const words = field.value.normalize("NFKC").toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const { node, text } of items) {
    node.hidden = !words.every((word) => text.includes(word));
    shown += !node.hidden;
  }
  for (const group of document.querySelectorAll("[data-group]")) {
    group.hidden = words.length > 0 && !group.querySelector("[data-example]:not([hidden])");
    if (words.length > 0 && !group.hidden) group.open = true;
  }
  count.textContent = words.length ? `${shown} of ${say} examples` : `${say} examples`;
});

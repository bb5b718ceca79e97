"use strict";
// Shows the values nearest to the pointer; the charts can be read without it.
for (const svg of document.querySelectorAll("svg[data-hover]")) {
  const series = JSON.parse(svg.dataset.hover), figure = svg.parentNode;
  const marks = JSON.parse(svg.dataset.marks ?? "[]");
  const tip = Object.assign(document.createElement("div"), {className: "tip", hidden: true});
  const cursor = document.createElementNS(svg.namespaceURI, "line");
  cursor.setAttribute("class", "cursor");
  cursor.setAttribute("y1", svg.dataset.top);
  cursor.setAttribute("y2", svg.dataset.bottom);
  figure.append(tip);
  const nearest = (xs, x) => {
    let best = 0;
    for (let i = 1; i < xs.length; i++) if (Math.abs(xs[i] - x) <= Math.abs(xs[best] - x)) best = i;
    return best;
  };
  const hide = () => { tip.hidden = true; cursor.remove(); };
  const show = (event) => {
    const box = svg.getBoundingClientRect(), unit = svg.dataset.wide / box.width;
    const x = (event.clientX - box.left) * unit;
    if (x < 40 || x > +svg.dataset.right + 8) return hide();
    const found = series.map((s) => ({s, i: nearest(s.x, x)}));
    const first = found.reduce((a, b) =>
      Math.abs(b.s.x[b.i] - x) < Math.abs(a.s.x[a.i] - x) ? b : a);
    const at = first.s.x[first.i];
    tip.replaceChildren(first.s.t[first.i]);
    for (const {s, i} of found) {
      if (Math.abs(s.x[i] - at) > 6) continue;
      const line = document.createElement("div"), mark = document.createElement("i");
      mark.className = s.c;
      line.append(mark, `${s.n}  ${s.v[i]}`);
      tip.append(line);
    }
    for (const [where, text] of marks) {
      if (Math.abs(where - x) > 6) continue;
      const line = document.createElement("div");
      line.textContent = text;
      tip.append(line);
    }
    cursor.setAttribute("x1", at);
    cursor.setAttribute("x2", at);
    svg.append(cursor);
    tip.hidden = false;
    const left = box.left - figure.getBoundingClientRect().left + at / unit;
    const room = figure.clientWidth - tip.offsetWidth - 4;
    tip.style.left = `${Math.max(4, left + 12 > room ? Math.min(room, left - tip.offsetWidth - 12) : left + 12)}px`;
    tip.style.top = `${svg.offsetTop + 6}px`;
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", hide);
}

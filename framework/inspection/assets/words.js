/** Text, elements and small drawings. Text from a file goes through textContent alone. */
const SVG = "http://www.w3.org/2000/svg";

/** Marks by tone, on a field of 12 x 12: shapes, so that no one needs the colour. */
const MARKS = {
  "loaded": "M6 1a5 5 0 1 1 0 10a5 5 0 1 1 0-10z",
  "adapted": "M6 1a5 5 0 1 1 0 10a5 5 0 1 1 0-10zm0 1.6v6.8a3.4 3.4 0 0 0 0-6.8z",
  "fresh": "M6 1a5 5 0 1 1 0 10a5 5 0 1 1 0-10zm0 2a3 3 0 1 0 0 6a3 3 0 1 0 0-6z",
  "mismatched": "M2.4 1L6 4.6L9.6 1L11 2.4L7.4 6L11 9.6L9.6 11L6 7.4L2.4 11L1 9.6L4.6 6L1 2.4z",
  "ignored": "M1 1h4v10h-4zM7 1h4v10h-4z",
  "computed": "M6 3.5a2.5 2.5 0 1 1 0 5a2.5 2.5 0 1 1 0-5z",
  "unused": "M1 4.7h10v2.6h-10z",
  "no-weight": "M3 3h6v6h-6zm1.5 1.5v3h3v-3z",
  "elsewhere": "M6 .5L11.5 6L6 11.5L.5 6zm0 2.8L3.3 6L6 8.7L8.7 6z",
  "part-1": "M1 1h10v10h-10z",
  "part-2": "M6 1a5 5 0 1 1 0 10a5 5 0 1 1 0-10z",
  "part-3": "M6 .5L11.5 6L6 11.5L.5 6z",
  "part-4": "M6 1L11.5 11h-11z",
  "part-5": "M4.5 1h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",
  "part-6": "M.5 1h11L6 11z",
  "part-7": "M1 1h10v10h-10zm2 2v6h6v-6z",
};
const SIGNS = {
  good: "M1 6.4L2.6 4.8L4.8 7L9.6 2L11 3.5L4.8 10z",
  partly: "M6 .6L11.8 11.2H.2zM5.3 4.4v3.4h1.4v-3.4zm0 4.1v1.4h1.4v-1.4z",
  bad: MARKS.mismatched,
};

/** Return an element with attributes, and with children that are elements or plain text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function drawing(path, attributes, box = "0 0 12 12") {
  const svg = document.createElementNS(SVG, "svg");
  const shape = document.createElementNS(SVG, "path");
  shape.setAttribute("d", path);
  shape.setAttribute("fill", "currentColor");
  shape.setAttribute("fill-rule", "evenodd");
  svg.setAttribute("viewBox", box);
  svg.setAttribute("aria-hidden", "true");
  for (const [name, value] of Object.entries(attributes)) svg.setAttribute(name, value);
  svg.append(shape);
  return svg;
}

function mark(kind) {
  return drawing(MARKS[kind.tone], { class: `mark tone-${kind.tone}` });
}

/** Return a bar of the kinds in a node, by parameters; by tensors where it has no parameters. */
function fillBar(bar, node, kinds, labelled) {
  const amounts = node.size ? node.sizes : node.counts;
  const total = amounts.reduce((sum, amount) => sum + amount, 0);
  bar.replaceChildren();
  kinds.forEach((kind, i) => {
    if (!amounts[i]) return;
    const part = make("span", { class: `tone tone-${kind.tone}` });
    part.style.flexGrow = amounts[i] / total;
    if (labelled && amounts[i] / total > 0.08) {
      part.append(make("span", {}, `${kind.label} ${percentText(amounts[i] / total)}`));
    }
    bar.append(part);
  });
  return bar;
}

function percentText(share) {
  if (share === 0 || share === 1) return `${share * 100}%`;
  return `${(Math.min(Math.max(share, 0.001), 0.999) * 100).toFixed(1)}%`;
}

/** Write a number shortly: 86.6 M. */
function shortNumber(number) {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["K", 1e3]]) {
    if (number >= size) return `${(number / size).toFixed(1)} ${unit}`;
  }
  return String(number);
}

function fullNumber(number) {
  return number.toLocaleString("en-US");
}

function plural(number, what) {
  return `${fullNumber(number)} ${what}${number === 1 ? "" : "s"}`;
}

function shapeText(shape) {
  return shape.length ? shape.map(fullNumber).join(" × ") : "a single number";
}

/** Say how many tensors of a node are of which kind. */
function kindsText(node, kinds) {
  const present = kinds.filter((_, i) => node.counts[i]);
  if (present.length === 1) return `all ${present[0].label}`;
  return kinds.flatMap((kind, i) => (node.counts[i] ? [`${fullNumber(node.counts[i])} ${kind.label}`] : [])).join(", ");
}

const HEIGHTS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ENOUGH_ROWS = 16;
const MOST_ROWS = 300;

/** Return what the panel says of a tensor: what became of it, where its values are from, and what they are like. */
function tensorDetail(node, data) {
  const tensor = node.tensor;
  const kind = data.kinds[tensor.kind];
  const sources = tensor.from.map((i) => data.sources[i]);
  const isFile = data.verdict.share === null;
  const own = isFile || tensor.root !== 0;
  const facts = [["Shape", `${shapeText(tensor.shape)} (${plural(tensor.size, "parameter")})`]];
  if (!own && sources.length) {
    const taken = kind.label === "loaded" ? "taken as it is" : "";
    facts.push(["Operation", tensor.how || taken || "none"]);
    facts.push([sources.length > 1 ? "Source keys" : "Source key", sources.map((one) => one.key).join(", ")]);
  }
  const parts = [make("h2", {}, pathOf(node)), statusLine(kind), definitions(facts)];
  return [...parts, ...sources.map((source) => sourceDetail(source, own, sources.length))];
}

function statusLine(kind) {
  return make("p", { class: "status" }, mark(kind), make("b", {}, kind.label), make("span", {}, kind.about));
}

function sourceDetail(source, own, count) {
  const facts = [["Type", source.dtype]];
  if (!own) facts.unshift(["Shape in the file", shapeText(source.shape)]);
  if (source.same) facts.push(["Same values as", source.same]);
  const box = make("div", { class: "source" });
  if (count > 1) box.append(make("h3", { class: "key" }, source.key));
  box.append(definitions(facts));
  if (source.values) box.append(...valuesDetail(source.values));
  else box.append(make("p", { class: "note" }, "Its values were not read."));
  return box;
}

function valuesDetail(values) {
  if (!values.finite) {
    return [make("p", { class: "note" }, values.elements ? "None of its values is a finite number." : "It is empty.")];
  }
  const share = (count) => (count ? `${fullNumber(count)} (${percentText(count / values.elements)})` : "none");
  const figures = [
    ["Mean", String(values.mean)],
    ["Standard deviation", String(values.std)],
    ["Zeros", share(values.zeros)],
  ];
  const others = values.elements - values.finite;
  if (others) figures.push(["Not finite", `${share(others)}, of them NaN ${fullNumber(values.nan)}`]);
  if (values.bars.length < 2) return [definitions([["Values", `all are ${values.low}`], ...figures.slice(2)])];
  const ends = [values.low, values.high].map((value) => make("span", {}, String(value)));
  const axis = make("div", { class: "axis" }, ...ends);
  return [histogram(values), axis, definitions(figures)];
}

function histogram(values) {
  const width = 10;
  const top = HEIGHTS.length - 1;
  const bars = [...values.bars].map((letter, i) => {
    const height = HEIGHTS.indexOf(letter);
    return height ? `M${i * width} ${top}v${-height}h${width - 1}v${height}z` : "";
  });
  const total = values.bars.length * width;
  const looks = { "class": "histogram", "preserveAspectRatio": "none", "role": "img", "aria-hidden": "false" };
  const svg = drawing(bars.join(""), looks, `0 0 ${total} ${top}`);
  svg.setAttribute("aria-label", `Histogram of the values, from ${values.low} to ${values.high}, mean ${values.mean}, `
    + `standard deviation ${values.std}`);
  if (values.low < 0 && values.high > 0) svg.append(zeroLine((-values.low / (values.high - values.low)) * total, top));
  return svg;
}

function zeroLine(x, height) {
  const line = document.createElementNS(SVG, "line");
  for (const [name, value] of Object.entries({ x1: x, x2: x, y1: 0, y2: height })) line.setAttribute(name, value);
  return line;
}

/** Return what the panel says of a group: how much of it is of which kind. */
function groupDetail(node, data, onZoom) {
  const total = `${plural(node.count, "tensor")}, ${plural(node.size, "parameter")}`;
  const bar = fillBar(make("div", { class: "mini wide" }), node, data.kinds, false);
  const zoom = make("button", { type: "button" }, "Show in the map alone");
  zoom.addEventListener("click", () => onZoom(node));
  return [
    make("h2", {}, pathOf(node)),
    make("p", { class: "note" }, total),
    bar,
    kindTable(node, data.kinds),
    make("div", { class: "actions" }, zoom),
  ];
}

function kindTable(node, kinds) {
  const rows = kinds.flatMap((kind, i) => {
    if (!node.counts[i]) return [];
    const name = make("th", { scope: "row" }, mark(kind), ` ${kind.label}`);
    return [tableRow(name, [fullNumber(node.counts[i]), fullNumber(node.sizes[i]), shareOf(node.sizes[i], node.size)])];
  });
  return makeTable(["", "Tensors", "Parameters", "Share"], rows);
}

function shareOf(size, total) {
  return total ? percentText(size / total) : "";
}

/** Return the map's areas as a table, one row for each part of the node that it shows. */
function mapTable(top, kinds) {
  const present = kinds.map((kind, i) => ({ kind, i })).filter(({ i }) => top.counts[i]);
  const parts = partsOf(top);
  const rows = parts.slice(0, MOST_ROWS).map((part) => {
    const shares = present.map(({ i }) => (part.counts[i] ? fullNumber(part.counts[i]) : "-"));
    const name = make("th", { scope: "row", title: pathOf(part) }, pathOf(part));
    return tableRow(name, [fullNumber(part.count), fullNumber(part.size), shareOf(part.size, top.size), ...shares]);
  });
  if (parts.length > MOST_ROWS) {
    const rest = make("th", { scope: "row" }, `${fullNumber(parts.length - MOST_ROWS)} smaller ones`);
    rows.push(tableRow(rest, []));
  }
  return makeTable(["Part", "Tensors", "Parameters", "Share", ...present.map(({ kind }) => kind.label)], rows);
}

/** Return parts of a node, the largest first: groups are divided as long as there are few. */
function partsOf(node) {
  let parts = [...node.children];
  while (parts.length < ENOUGH_ROWS) {
    const groups = parts.filter((part) => part.children.length);
    if (!groups.length) break;
    const largest = groups.reduce((a, b) => (b.size > a.size ? b : a));
    parts = [...parts.filter((part) => part !== largest), ...largest.children];
  }
  return parts.sort((a, b) => b.size - a.size);
}

function makeTable(heads, rows) {
  const head = make("tr", {}, ...heads.map((text) => (text ? make("th", { scope: "col" }, text) : make("td"))));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
}

function tableRow(name, texts) {
  return make("tr", {}, name, ...texts.map((text) => make("td", {}, text)));
}

function definitions(pairs) {
  return make("dl", {}, ...pairs.flatMap(([term, text]) => [make("dt", {}, term), make("dd", {}, text)]));
}

/** Return what is known of the file, and the report of the load in its own words. */
function aboutFile(data) {
  const parts = [make("h2", {}, "The file"), definitions(data.facts)];
  if (!data.headline) return parts;
  const notes = data.notes.map((note) => {
    const [fate, ...rest] = note.split(": ");
    return make("li", {}, make("b", {}, fate), `: ${rest.join(": ")}`);
  });
  return [make("h2", {}, "The report"), make("p", { class: "headline" }, data.headline),
    make("ul", { class: "notes" }, ...notes), make("h3", {}, "The file"), definitions(data.facts)];
}

const HEADER = 17; // height of the name of a group
const ROOMY = 76; // height from which a group has room for its name
const SMALLEST = 24; // square pixels below which pieces are drawn together
const STROKES = { // directions of the lines over an area, by tone
  "adapted": ["across"], "fresh": ["up"], "mismatched": ["up", "down"], "unused": ["down"], "ignored": ["along"],
  "part-2": ["down"], "part-3": ["up"], "part-5": ["up", "down"], "part-6": ["along"],
};

/** Areas of a node's tensors on a canvas. Small ones are drawn together, so that thousands cost little. */
class AreaMap {
  constructor(canvas, { tip, frame }, kinds, { onSelect, onZoom }) {
    Object.assign(this, { canvas, tip, frame, kinds, selected: null, filtered: false, cells: [] });
    this.context = canvas.getContext("2d");
    new ResizeObserver(() => this.layOut()).observe(canvas);
    canvas.addEventListener("mousemove", (event) => this.hover(event));
    canvas.addEventListener("mouseleave", () => { tip.hidden = true; });
    canvas.addEventListener("click", (event) => this.pick(event, (cell) => onSelect(cell.node)));
    canvas.addEventListener("dblclick", (event) => this.pick(event, (cell) => onZoom(this.groupOf(cell.node))));
  }

  show(node) {
    this.node = node;
    this.layOut();
  }

  layOut() {
    const { clientWidth: w, clientHeight: h } = this.canvas;
    if (!this.node || !w || !h) return;
    const sharp = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(w * sharp);
    this.canvas.height = Math.round(h * sharp);
    this.context.setTransform(sharp, 0, 0, sharp, 0, 0);
    this.cells = [];
    this.place(this.node, { x: 0, y: 0, w, h }, 0);
    this.draw();
    this.outline();
  }

  /** Find the pieces of a group; those that are too small to be told apart become one. */
  place(node, box, depth) {
    const children = node.children.filter((child) => child.size > 0).sort((a, b) => b.size - a.size);
    const scale = (box.w * box.h) / Math.max(node.size, 1);
    const large = children.filter((child) => child.size * scale >= SMALLEST);
    const small = children.slice(large.length);
    const items = small.length ? [...large, together(node, small)] : large;
    for (const { item, x, y, w, h } of squarify(items, box)) this.placeOne(item, { x, y, w, h }, depth);
  }

  placeOne(item, { x, y, w, h }, depth) {
    const isGroup = !item.tensor && !item.together;
    const isLast = isGroup && item.children.every((child) => child.tensor);
    const hasHeader = isGroup && !isLast && w > 44 && h > (depth < 4 ? ROOMY : 2 * ROOMY);
    const hasInside = isGroup && w > 12 && h > 12;
    this.cells.push({ node: item.together ? item.parent : item, item, x, y, w, h, hasHeader, hasInside, depth });
    if (!hasInside) return;
    const edge = depth < 2 ? 2 : 1;
    const top = hasHeader ? HEADER : edge;
    const inside = { x: x + edge, y: y + top, w: w - 2 * edge, h: h - top - edge };
    if (inside.w > 2 && inside.h > 2) this.place(item, inside, depth + 1);
  }

  draw() {
    const style = getComputedStyle(this.canvas);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const { context } = this;
    context.clearRect(0, 0, this.canvas.clientWidth, this.canvas.clientHeight);
    context.font = "11.5px system-ui, sans-serif";
    context.textBaseline = "middle";
    const fills = this.kinds.map((kind) => ({ base: colour(kind.tone), lines: this.lines(kind.tone) }));
    const looks = { fills, on: colour("on"), text: colour("text"), frame: colour("raised"), gap: colour("surface") };
    for (const cell of this.cells) {
      if (cell.hasInside) this.drawGroup(cell, looks);
      else this.drawArea(cell, looks);
    }
  }

  drawGroup({ item, x, y, w, h, hasHeader }, looks) {
    this.context.fillStyle = looks.frame;
    this.context.fillRect(x, y, w - 1, h - 1);
    if (!hasHeader) return;
    this.context.fillStyle = looks.text;
    this.write(item.label, x + 5, y + HEADER / 2 + 1, w - 10);
  }

  /** Fill a piece with the colours of the kinds in it, side by side; what the filter leaves out is pale. */
  drawArea({ item, x, y, w, h }, looks) {
    const { context } = this;
    const gap = w > 6 && h > 6 ? 1 : 0.4;
    const isPale = this.filtered && !item.hits;
    context.globalAlpha = isPale ? 0.16 : 1;
    let left = x;
    item.sizes.forEach((size, i) => {
      if (!size) return;
      const width = (w * size) / item.size;
      const box = [left, y, Math.max(width - gap, 0.4), Math.max(h - gap, 0.4)];
      context.fillStyle = looks.fills[i].base;
      context.fillRect(...box);
      if (looks.fills[i].lines && w > 5 && h > 5) {
        context.fillStyle = looks.fills[i].lines;
        context.fillRect(...box);
      }
      left += width;
    });
    context.globalAlpha = 1;
    const isOne = item.sizes.filter(Boolean).length === 1;
    if (w > 34 && h > 15 && isOne && !isPale) this.label(item, x, y, w, h, looks);
  }

  /** Write the name on a plain patch, so that lines do not run through it. */
  label(item, x, y, w, h, looks) {
    const text = this.cut(this.nameFor(item, w - 10), w - 10);
    if (text.endsWith("…") && text.length < 5) return;
    if (!text) return;
    this.context.fillStyle = looks.fills[item.sizes.findIndex(Boolean)].base;
    this.context.fillRect(x + 2, y + h / 2 - 7, Math.min(this.context.measureText(text).width + 6, w - 4), 14);
    this.context.fillStyle = looks.on;
    this.context.fillText(text, x + 5, y + h / 2 + 0.5);
  }

  /** Return the name of a piece with that of its layer, or of its layer alone where there is no room. */
  nameFor(item, width) {
    if (!item.tensor || !item.parent.path) return item.label;
    const full = item.path.slice(item.parent.path.length - item.parent.label.length);
    return this.context.measureText(full).width <= width ? full : item.parent.label;
  }

  write(text, x, y, width) {
    this.context.fillText(this.cut(text, width), x, y);
  }

  cut(text, width) {
    if (this.context.measureText(text).width <= width) return text;
    let length = Math.max(0, Math.floor((text.length * width) / this.context.measureText(text).width) - 1);
    while (length > 0 && this.context.measureText(`${text.slice(0, length)}…`).width > width) length -= 1;
    return length ? `${text.slice(0, length)}…` : "";
  }

  lines(tone) {
    const directions = STROKES[tone];
    if (!directions) return null;
    const tile = document.createElement("canvas");
    tile.width = tile.height = 8;
    const pen = tile.getContext("2d");
    pen.strokeStyle = "rgba(255, 255, 255, 0.28)";
    pen.lineWidth = 1.6;
    const strokes = {
      up: [[-2, 2, 2, -2], [-2, 10, 10, -2], [6, 10, 10, 6]], down: [[-2, 6, 2, 10], [-2, -2, 10, 10], [6, -2, 10, 2]],
      across: [[0, 4, 8, 4]], along: [[4, 0, 4, 8]],
    };
    for (const [x1, y1, x2, y2] of directions.flatMap((name) => strokes[name])) {
      pen.beginPath();
      pen.moveTo(x1, y1);
      pen.lineTo(x2, y2);
      pen.stroke();
    }
    return this.context.createPattern(tile, "repeat");
  }

  /** Put the frame around the chosen piece; it is an element of its own, so that choosing draws nothing. */
  outline() {
    const cell = this.selected && this.cellOf(this.selected);
    this.frame.hidden = !cell;
    if (!cell) return;
    const place = { left: cell.x, top: cell.y, width: Math.max(cell.w, 6), height: Math.max(cell.h, 6) };
    for (const [name, value] of Object.entries(place)) this.frame.style[name] = `${value}px`;
  }

  /** Return the piece that shows a node, or the smallest one that holds it. */
  cellOf(node) {
    for (let up = node; up && up !== this.node; up = up.parent) {
      const cell = this.cells.find((one) => one.item === up);
      if (cell) return cell;
    }
    return null;
  }

  select(node) {
    this.selected = node;
    this.outline();
  }

  /** Return the group to zoom into: one step from what is shown towards the node. */
  groupOf(node) {
    if (node === this.node) return node;
    let group = node;
    while (group.parent && group.parent !== this.node) group = group.parent;
    return group.children.length ? group : this.node;
  }

  pick(event, act) {
    const { x, y } = this.point(event);
    const inside = this.cells.filter((c) => x >= c.x && x < c.x + c.w && y >= c.y && y < c.y + c.h);
    if (inside.length) act(inside[inside.length - 1]);
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  hover(event) {
    this.tip.hidden = true;
    this.pick(event, ({ item }) => {
      const { x, y } = this.point(event);
      const name = item.together ? `${plural(item.count, "small tensor")} of ${pathOf(item.parent)}` : pathOf(item);
      this.tip.replaceChildren(
        make("b", {}, name),
        make("div", {}, `${plural(item.size, "parameter")}, ${kindsText(item, this.kinds)}`),
      );
      this.tip.hidden = false;
      const { clientWidth: w, clientHeight: h } = this.canvas;
      this.tip.style.left = `${Math.min(x + 14, w - this.tip.offsetWidth)}px`;
      this.tip.style.top = y + 20 + this.tip.offsetHeight > h ? `${y - this.tip.offsetHeight - 8}px` : `${y + 18}px`;
    });
  }
}

/** Return one item in place of many small ones. */
function together(parent, nodes) {
  const item = { together: true, parent, label: `${nodes.length} small`, count: 0, size: 0, hits: 0 };
  item.counts = parent.counts.map(() => 0);
  item.sizes = parent.sizes.map(() => 0);
  for (const node of nodes) {
    item.count += node.count;
    item.size += node.size;
    item.hits += node.hits;
    node.counts.forEach((count, i) => { item.counts[i] += count; });
    node.sizes.forEach((size, i) => { item.sizes[i] += size; });
  }
  return item;
}

const ROW = 26;
const SPARE = 8; // rows that are drawn above and below what can be seen
const ARROW = "M3 1L9 6L3 11z";

/** A tree of names of which only the rows that can be seen are in the document. */
class Tree {
  constructor(host, forest, kinds, { onSelect, onEnter }) {
    this.host = host;
    this.forest = forest;
    this.kinds = kinds;
    this.onSelect = onSelect;
    this.onEnter = onEnter;
    this.filtered = false;
    this.selected = null;
    this.active = 0;
    this.first = -1;
    this.space = make("div", { role: "none" });
    host.append(this.space);
    host.addEventListener("scroll", () => this.draw());
    host.addEventListener("keydown", (event) => this.onKey(event));
    host.addEventListener("click", (event) => this.onClick(event));
    new ResizeObserver(() => this.draw(true)).observe(host);
    this.openFirst();
    this.update();
  }

  /** Open the top levels as long as they are short. */
  openFirst() {
    let rows = this.forest.roots.length;
    let level = this.forest.roots.filter((root) => root.shown);
    while (level.length && rows < 24) {
      const next = level.flatMap((node) => node.children);
      if (rows > this.forest.roots.length && rows + next.length > 40) break;
      for (const node of level) node.open = node.children.length > 0;
      rows += next.length;
      level = next.filter((node) => node.children.length > 0);
    }
  }

  /** Find the rows anew, after a filter or after a group was opened or closed. */
  update() {
    const active = this.rows ? this.rows[this.active] : null;
    this.rows = [];
    for (const [i, root] of this.forest.roots.entries()) this.collect(root, i + 1, this.forest.roots.length);
    this.active = Math.max(0, active ? this.rows.indexOf(active) : 0);
    this.space.style.height = `${this.rows.length * ROW}px`;
    this.draw(true);
  }

  collect(node, place, siblings) {
    if (!node.hits) return;
    node.place = place;
    node.siblings = siblings;
    this.rows.push(node);
    if (!this.isOpen(node)) return;
    const children = this.filtered ? node.children.filter((child) => child.hits) : node.children;
    children.forEach((child, i) => this.collect(child, i + 1, children.length));
  }

  /** While a filter is on, groups are open unless they were closed since. */
  isOpen(node) {
    return this.filtered ? !this.closed.has(node) : node.open;
  }

  setFiltered(filtered, roomy) {
    this.filtered = filtered;
    this.closed = new Set();
    if (filtered && !roomy) this.closeDeep();
    this.host.scrollTop = 0;
    this.update();
  }

  /** Leave only the top open where a filter leaves nearly everything. */
  closeDeep() {
    for (const root of this.forest.roots) {
      for (const child of root.children) this.closed.add(child);
    }
  }

  setOpen(node, open) {
    if (!node.children.length) return;
    if (this.filtered) open ? this.closed.delete(node) : this.closed.add(node);
    else node.open = open;
    this.update();
  }

  draw(anew = false) {
    const first = Math.max(0, Math.floor(this.host.scrollTop / ROW) - SPARE);
    const last = Math.min(this.rows.length, first + Math.ceil(this.host.clientHeight / ROW) + 2 * SPARE);
    if (!anew && first === this.first) return;
    this.first = first;
    this.shown = new Map();
    for (let at = first; at < last; at += 1) this.shown.set(at, this.row(this.rows[at], at));
    if (this.rows.length && !this.shown.has(this.active)) { // focus is on it
      this.shown.set(this.active, this.row(this.rows[this.active], this.active));
    }
    this.space.replaceChildren(...this.shown.values());
    this.point();
  }

  /** Draw single rows again. */
  redraw(places) {
    for (const at of places) {
      if (!this.shown.has(at) || at >= this.rows.length) continue;
      const row = this.row(this.rows[at], at);
      this.shown.get(at).replaceWith(row);
      this.shown.set(at, row);
    }
    this.point();
  }

  point() {
    if (this.rows.length) this.host.setAttribute("aria-activedescendant", `row-${this.active}`);
    else this.host.removeAttribute("aria-activedescendant");
  }

  row(node, at) {
    const row = make("div", {
      "id": `row-${at}`, "role": "treeitem", "class": at === this.active ? "row active" : "row",
      "aria-level": node.level, "aria-posinset": node.place, "aria-setsize": node.siblings,
      "aria-selected": node === this.selected, "aria-label": this.spoken(node),
    });
    row.style.top = `${at * ROW}px`;
    row.style.paddingLeft = `${(Math.min(node.level, 12) - 1) * 15}px`;
    const twisty = make("span", { class: "twisty" });
    const label = make("span", { class: "label", title: pathOf(node) }, node.label);
    if (node.tensor) {
      row.append(twisty, mark(this.kinds[node.tensor.kind]), label);
      row.append(make("span", { class: "extra" }, node.tensor.shape.join("×")));
    } else {
      row.setAttribute("aria-expanded", this.isOpen(node));
      twisty.append(drawing(ARROW, {}));
      row.append(twisty, fillBar(make("span", { class: "mini" }), node, this.kinds, false), label);
      row.append(make("span", { class: "extra" }, fullNumber(this.filtered ? node.hits : node.count)));
    }
    row.append(make("span", { class: "size" }, shortNumber(node.size)));
    return row;
  }

  spoken(node) {
    const size = `${shortNumber(node.size)} parameters`;
    if (node.tensor) return `${node.label}, ${this.kinds[node.tensor.kind].label}, ${size}`;
    return `${node.label}, ${plural(node.count, "tensor")}, ${size}, ${kindsText(node, this.kinds)}`;
  }

  /** Make a row the one that keys act on, and show its details. */
  choose(at) {
    if (!this.rows.length) return;
    const before = new Set([this.active, this.rows.indexOf(this.selected)]);
    this.active = Math.min(Math.max(at, 0), this.rows.length - 1);
    this.selected = this.rows[this.active];
    this.scrollTo(this.active);
    this.draw(!this.shown.has(this.active));
    this.redraw(before.add(this.active));
    this.onSelect(this.selected);
  }

  /** Show a node that was chosen elsewhere; a filter that hides it stays. */
  reveal(node) {
    this.selected = node;
    for (let up = node.parent; up; up = up.parent) {
      if (this.filtered) this.closed.delete(up);
      else up.open = true;
    }
    this.update();
    const at = this.rows.indexOf(node);
    if (at >= 0) {
      this.active = at;
      this.scrollTo(at);
    }
    this.draw(true);
  }

  scrollTo(at) {
    const top = at * ROW;
    const height = this.host.clientHeight;
    if (top < this.host.scrollTop) this.host.scrollTop = top;
    else if (top + ROW > this.host.scrollTop + height) this.host.scrollTop = top + ROW - height;
  }

  onClick(event) {
    const row = event.target.closest(".row");
    if (!row) return;
    const at = Number(row.id.slice(4));
    const node = this.rows[at];
    if (event.target.closest(".twisty") || node === this.selected) this.setOpen(node, !this.isOpen(node));
    this.choose(this.rows.indexOf(node));
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.rows.length) return;
    const node = this.rows[this.active];
    const page = Math.max(1, Math.floor(this.host.clientHeight / ROW) - 1);
    const steps = {
      ArrowDown: () => this.choose(this.active + 1),
      ArrowUp: () => this.choose(this.active - 1),
      PageDown: () => this.choose(this.active + page),
      PageUp: () => this.choose(this.active - page),
      Home: () => this.choose(0),
      End: () => this.choose(this.rows.length - 1),
      ArrowRight: () => this.into(node),
      ArrowLeft: () => this.outOf(node),
      " ": () => this.choose(this.active),
      Enter: () => this.enter(node),
      "*": () => this.openBeside(node),
    };
    const step = steps[event.key] || this.typed(event.key);
    if (!step) return;
    event.preventDefault();
    step();
  }

  into(node) {
    if (node.children.length && this.isOpen(node)) this.choose(this.active + 1);
    else this.setOpen(node, true);
  }

  outOf(node) {
    if (node.children.length && this.isOpen(node)) this.setOpen(node, false);
    else if (node.parent) this.choose(this.rows.indexOf(node.parent));
  }

  enter(node) {
    this.choose(this.active);
    if (node.tensor) this.onEnter();
    else this.setOpen(node, !this.isOpen(node));
  }

  openBeside(node) {
    const beside = node.parent ? node.parent.children : this.forest.roots;
    for (const one of beside) this.setOpen(one, true);
  }

  /** Go to the next row whose name starts with the letter. */
  typed(key) {
    if (key.length !== 1 || key === "/") return null;
    const letter = key.toLowerCase();
    const order = [...this.rows.keys()].map((i) => (this.active + 1 + i) % this.rows.length);
    const at = order.find((i) => this.rows[i].label.toLowerCase().startsWith(letter));
    return at === undefined ? null : () => this.choose(at);
  }
}

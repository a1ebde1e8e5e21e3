/** What stands where, and who tells whom. */
class Page {
  constructor(data) {
    this.data = data;
    this.forest = buildForest(data);
    this.haystacks = haystacksOf(data);
    this.kinds = new Set();
    this.all = this.everything();
    filterForest(this.forest, this.haystacks, "", this.kinds);
    this.startTheme();
    this.fillHeader();
    this.tree = new Tree(byId("tree"), this.forest, data.kinds, {
      onSelect: (node) => this.select(node, false),
      onEnter: () => byId("detail").focus(),
    });
    this.map = new AreaMap(byId("map"), { tip: byId("tip"), frame: byId("chosen") }, data.kinds, {
      onSelect: (node) => this.select(node, true),
      onZoom: (node) => this.zoom(node),
    });
    this.startKeys();
    byId("about").append(...aboutFile(data));
    byId("table").addEventListener("toggle", () => this.fillTable());
    this.zoom(this.all);
    this.detail(this.forest.roots[0]);
  }

  /** Return a node above the roots that the map and the bar show. */
  everything() {
    const roots = this.forest.roots.filter((root) => root.shown);
    if (roots.length === 1) return roots[0];
    const all = newNode("everything", null, null, this.data.kinds.length);
    all.children = roots;
    for (const root of roots) {
      all.count += root.count;
      all.size += root.size;
      root.counts.forEach((count, i) => { all.counts[i] += count; });
      root.sizes.forEach((size, i) => { all.sizes[i] += size; });
    }
    return all;
  }

  fillHeader() {
    const { data } = this;
    const { tone, word, sentence } = data.verdict;
    byId("title").textContent = data.title;
    if (word) byId("verdict").append(make("strong", { class: tone }, drawing(SIGNS[tone], {}), `${word}.`), " ");
    byId("verdict").append(sentence);
    const model = this.forest.roots[0]; // the bar answers for the model alone
    fillBar(byId("bar"), model, data.kinds, true);
    byId("bar").setAttribute("aria-label", `${pathOf(model)}: ${this.sharesText(model)}`);
    data.kinds.forEach((kind, i) => {
      const count = data.tensors.filter((tensor) => tensor.kind === i).length;
      if (count) byId("legend").append(this.legendButton(kind, i, count));
    });
  }

  sharesText(node) {
    const parts = this.data.kinds.map((kind, i) => [kind.label, node.sizes[i]]).filter(([, size]) => size);
    return parts.map(([label, size]) => `${label} ${percentText(size / node.size)}`).join(", ");
  }

  legendButton(kind, i, count) {
    const label = make("span", {}, kind.label);
    const button = make("button", { "type": "button", "aria-pressed": "false", "title": kind.about }, mark(kind), label,
      make("span", {}, fullNumber(count)));
    button.addEventListener("click", () => {
      this.kinds.has(i) ? this.kinds.delete(i) : this.kinds.add(i);
      button.setAttribute("aria-pressed", this.kinds.has(i));
      this.filter();
    });
    return button;
  }

  startTheme() {
    const system = window.matchMedia("(prefers-color-scheme: dark)");
    const button = byId("theme");
    const apply = (theme) => {
      document.documentElement.dataset.theme = theme;
      button.textContent = theme === "dark" ? "Light" : "Dark";
      button.setAttribute("aria-label", `Use ${theme === "dark" ? "light" : "dark"} colours`);
      if (this.map) this.map.draw();
    };
    system.addEventListener("change", () => apply(system.matches ? "dark" : "light"));
    button.addEventListener("click", () => apply(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
    apply(system.matches ? "dark" : "light");
  }

  startKeys() {
    const input = byId("search");
    input.addEventListener("input", () => this.filter());
    input.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowDown" && event.key !== "Enter") return;
      event.preventDefault();
      byId("tree").focus();
      this.chooseFirst();
    });
    byId("detail").addEventListener("keydown", (event) => {
      if (event.key === "Escape") byId("tree").focus();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.target === input || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      input.focus();
    });
  }

  /** Choose the first tensor that a search leaves, or else the first row. */
  chooseFirst() {
    const first = this.tree.filtered ? this.tree.rows.findIndex((node) => node.tensor) : 0;
    this.tree.choose(Math.max(first, 0));
  }

  filter() {
    const text = byId("search").value;
    const found = filterForest(this.forest, this.haystacks, text, this.kinds);
    const isOn = text.trim() !== "" || this.kinds.size > 0;
    byId("found").textContent = isOn ? plural(found, "tensor") : "";
    this.map.filtered = isOn;
    this.tree.setFiltered(isOn, found <= 1000);
    this.map.draw();
  }

  select(node, fromMap) {
    if (fromMap) this.tree.reveal(node);
    this.map.select(node);
    this.detail(node);
  }

  detail(node) {
    const parts = node.tensor ? tensorDetail(node, this.data) : groupDetail(node, this.data, (one) => this.zoom(one));
    byId("detail").replaceChildren(...parts);
  }

  /** Let the map show a part alone. */
  zoom(node) {
    this.map.show(node);
    const trail = [];
    for (let up = node; up; up = up.parent) trail.unshift(up);
    if (trail[0] !== this.all) trail.unshift(this.all);
    byId("crumbs").replaceChildren(...trail.map((one, i) => this.crumb(one, i === trail.length - 1)));
    const labels = `${pathOf(node)}: ${this.sharesText(node)}. The table after the map says the same.`;
    byId("map").setAttribute("aria-label", `Map of the parameters of ${labels}`);
    this.fillTable();
  }

  crumb(node, isLast) {
    if (isLast) return make("span", { "aria-current": "true" }, node.label);
    const button = make("button", { type: "button" }, node.label);
    button.addEventListener("click", () => this.zoom(node));
    return button;
  }

  fillTable() {
    if (byId("table").open) byId("table").lastElementChild.replaceChildren(mapTable(this.map.node, this.data.kinds));
  }
}

function byId(id) {
  return document.getElementById(id);
}

new Page(JSON.parse(byId("data").textContent));

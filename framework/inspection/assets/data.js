"use strict";

const DEEPEST = 24; // levels of a name

/**
 * The tensors of the page as a tree.
 *
 * A node is {label, path, parent, level, children, tensor, count, size, counts, sizes, hits, open}. `counts`
 * and `sizes` are numbers of tensors and of their elements by kind; `hits` is how many tensors the filter
 * leaves; `tensor` is null for a group.
 */
function buildForest(data) {
  const roots = data.roots.map((root) => newNode(root.label, null, null, data.kinds.length));
  roots.forEach((root, i) => { root.shown = data.roots[i].shown; });
  const leaves = data.tensors.map((tensor) => addTensor(roots[tensor.root], tensor, data.kinds.length));
  const used = roots.filter((root) => root.count > 0);
  for (const root of used) {
    joinChains(root);
    setLevels(root, 1);
  }
  return { roots: used, leaves };
}

function newNode(label, parent, tensor, kinds) {
  return {
    label, parent, tensor, path: "", level: 1, children: [], index: new Map(), count: 0, size: 0,
    counts: new Int32Array(kinds), sizes: new Float64Array(kinds), hits: 0, open: false,
  };
}

function addTensor(root, tensor, kinds) {
  let node = root;
  for (const end of levelsOf(tensor.name)) {
    const isLeaf = end === tensor.name.length;
    const path = tensor.name.slice(0, end);
    let next = isLeaf ? undefined : node.index.get(path);
    if (!next) {
      next = newNode(path.slice(node.path && node.path.length + 1) || "(no name)", node, isLeaf ? tensor : null, kinds);
      next.path = path;
      node.children.push(next);
      if (!isLeaf) node.index.set(path, next);
    }
    node = next;
  }
  for (let up = node; up; up = up.parent) {
    up.count += 1;
    up.size += tensor.size;
    up.counts[tensor.kind] += 1;
    up.sizes[tensor.kind] += tensor.size;
  }
  return node;
}

/** Return where the levels of a name end; beyond `DEEPEST` they are one. */
function levelsOf(name) {
  const ends = [...name.matchAll(/[./]/g)].slice(0, DEEPEST - 1).map((match) => match.index);
  return [...ends, name.length];
}

/** Put a group that holds nothing but one other group together with it. */
function joinChains(node) {
  node.children = node.children.map((child) => {
    while (child.children.length === 1 && !child.children[0].tensor) {
      const only = child.children[0];
      only.label = only.path.slice(node.path && node.path.length + 1);
      only.parent = node;
      child = only;
    }
    joinChains(child);
    return child;
  });
}

function setLevels(node, level) {
  node.level = level;
  for (const child of node.children) setLevels(child, level + 1);
}

/**
 * Say which tensors a search text and a choice of kinds leave; `*` in the text stands for anything.
 *
 * Returns how many are left.
 */
function filterForest(forest, haystacks, text, kinds) {
  const fits = textFilter(text);
  for (const root of forest.roots) clearHits(root);
  let found = 0;
  forest.leaves.forEach((leaf, i) => {
    if ((kinds.size && !kinds.has(leaf.tensor.kind)) || !fits(haystacks[i])) return;
    found += 1;
    for (let node = leaf; node; node = node.parent) node.hits += 1;
  });
  return found;
}

function clearHits(node) {
  node.hits = 0;
  node.children.forEach(clearHits);
}

function textFilter(text) {
  const parts = text.trim().toLowerCase().split("*").filter(Boolean);
  return (haystack) => {
    let from = 0;
    return parts.every((part) => {
      const at = haystack.indexOf(part, from);
      from = at + part.length;
      return at >= 0;
    });
  };
}

/** Return what the search looks at: the name of each tensor, and the keys of the file that it comes from. */
function haystacksOf(data) {
  return data.tensors.map((tensor) => {
    const keys = tensor.from.map((i) => data.sources[i].key);
    return [tensor.name, ...keys].join("\n").toLowerCase();
  });
}

function pathOf(node) {
  return node.path || node.label;
}

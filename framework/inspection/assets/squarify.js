/**
 * Divide a rectangle among items by their sizes, each piece as near to a square as can be.
 *
 * Squarified treemaps, Bruls, Huizing and van Wijk 2000. Items are [{size, ...}], the largest first; the answer is
 * [{item, x, y, w, h}] in the same order. Items without a size have no place.
 */
function squarify(items, box) {
  const placed = [];
  const total = items.reduce((sum, item) => sum + item.size, 0);
  const scale = total ? (box.w * box.h) / total : 0;
  let { x, y, w, h } = box;
  let start = 0;
  while (start < items.length && items[start].size > 0 && w > 0 && h > 0) {
    const { end, area } = longestRow(items, start, scale, Math.min(w, h));
    const isColumn = w >= h;
    const side = isColumn ? h : w;
    const thick = area / side;
    let along = 0;
    for (const item of items.slice(start, end)) {
      const length = (item.size * scale) / thick;
      placed.push(isColumn
        ? { item, x, y: y + along, w: thick, h: length }
        : { item, x: x + along, y, w: length, h: thick });
      along += length;
    }
    if (isColumn) { x += thick; w -= thick; } else { y += thick; h -= thick; }
    start = end;
  }
  return placed;
}

/** Return how far a row goes before its worst piece would become longer, and the area of the row. */
function longestRow(items, start, scale, side) {
  const largest = items[start].size * scale;
  let area = largest;
  let worst = Math.max(side * side / largest, largest / (side * side));
  let end = start + 1;
  for (; end < items.length && items[end].size > 0; end += 1) {
    const smallest = items[end].size * scale;
    const sum = area + smallest;
    const next = Math.max((side * side * largest) / (sum * sum), (sum * sum) / (side * side * smallest));
    if (next > worst) break;
    worst = next;
    area = sum;
  }
  return { end, area };
}

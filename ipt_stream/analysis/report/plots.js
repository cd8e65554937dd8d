// Plots: bars, lines and points as SVG, drawn to the width there is, with values on pointing at them or by arrow keys.

const TEXT = 6.4; // about the width of a character, px

/** Draws `plot` (analysis/part.py) into `figure`, now and whenever its width changes. */
function showPlot(figure, plot) {
  const host = figure.querySelector('.drawing');
  const shown = plot.series.map(() => true);
  const canvas = element('div', {
    class: 'canvas', tabindex: 0, role: 'img',
    'aria-label': `${plot.title}: ${plot.y_label} by ${plot.x_label}. Arrow keys read its values; they follow as a table.`,
  });
  const tip = element('div', { class: 'tip', hidden: true });
  const spoken = element('p', { class: 'hidden', 'aria-live': 'polite' });
  if (plot.series.length > 1) host.append(legend(plot, shown, () => draw()));
  host.append(canvas, tip, spoken);
  let places = [];
  let marks = null;
  let current = -1;

  function draw() {
    const width = Math.max(240, Math.floor(canvas.clientWidth));
    hide();
    const drawn = drawPlot(plot, shown, width);
    places = drawn.places;
    marks = drawn.marks;
    canvas.replaceChildren(drawn.svg);
  }
  function show(number, aloud) {
    if (number < 0 || number >= places.length) return;
    const place = places[number];
    if (number !== current) {
      current = number;
      marks.replaceChildren(...place.marks());
      tip.replaceChildren(
        element('div', { class: 'title' }, place.title),
        ...place.rows.map((row) => element('div', { class: `row s${row.series % 8}` },
          element('span', { class: 'swatch' }), element('span', {}, row.name), element('span', { class: 'amount' }, row.value))),
      );
      tip.hidden = false;
    }
    const box = host.getBoundingClientRect();
    const inner = canvas.getBoundingClientRect();
    const left = place.x + inner.left - box.left;
    const top = place.y + inner.top - box.top - canvas.scrollTop;
    const half = tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(left + 14 + half > box.width ? left - 14 - half : left + 14, box.width - half))}px`;
    tip.style.top = `${Math.max(0, Math.min(top - tip.offsetHeight / 2, box.height - tip.offsetHeight))}px`;
    if (aloud) {
      spoken.textContent = `${place.title}: ${place.rows.map((row) => `${row.name} ${row.value}`).join(', ')}`;
      if (place.y < canvas.scrollTop || place.y > canvas.scrollTop + canvas.clientHeight) canvas.scrollTop = place.y - canvas.clientHeight / 2;
    }
  }
  function hide() {
    current = -1;
    tip.hidden = true;
    marks?.replaceChildren();
  }
  canvas.addEventListener('pointermove', (event) => {
    const box = canvas.firstChild.getBoundingClientRect();
    const number = nearest(places, event.clientX - box.left, event.clientY - box.top);
    if (number < 0) hide();
    else show(number, false);
  });
  canvas.addEventListener('pointerleave', hide);
  canvas.addEventListener('blur', hide);
  canvas.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === 'Escape') hide();
    if (step === undefined) return;
    event.preventDefault();
    show(Math.max(0, Math.min(places.length - 1, current < 0 ? 0 : current + step)), true);
  });
  let last = 0;
  new ResizeObserver(() => {
    if (canvas.clientWidth && canvas.clientWidth !== last) {
      last = canvas.clientWidth;
      draw();
    }
  }).observe(canvas);
}

function legend(plot, shown, changed) {
  const list = element('div', { class: 'legend', role: 'group', 'aria-label': 'Series' });
  plot.series.forEach((series, number) => {
    const button = element('button', { type: 'button', class: `s${number % 8}`, 'aria-pressed': 'true' },
      element('span', { class: 'swatch', 'aria-hidden': 'true' }), series.name);
    button.addEventListener('click', () => {
      shown[number] = !shown[number];
      button.setAttribute('aria-pressed', String(shown[number]));
      changed();
    });
    list.append(button);
  });
  return list;
}

/** The place that a pointer is at: the nearest point, or the nearest column of a place that takes one. */
function nearest(places, x, y) {
  let best = -1;
  let least = Infinity;
  places.forEach((place, number) => {
    const far = place.distance(x, y);
    if (far < least) [best, least] = [number, far];
  });
  return least < REACH ? best : -1;
}
const REACH = 40; // px
/** A distance that is never too far, but for the order of places. */
const always = (far) => (REACH * far) / (far + 100);

/** The SVG of a plot of `width`, and the places that can be pointed at. */
function drawPlot(plot, shown, width) {
  const series = plot.series.map((one, number) => ({ ...one, number })).filter((one) => shown[one.number]);
  if (plot.kind === 'bar') {
    const names = [...new Set(plot.series.flatMap((one) => one.x.map(String)))];
    const longest = Math.max(0, ...names.map((name) => name.length));
    const room = (width - 60) / Math.max(names.length, 1);
    return longest * TEXT + 8 > room || room < 12 * plot.series.length
      ? drawBarsAcross(plot, series, names, width) : drawUpright(plot, series, names, width);
  }
  const names = plot.series.some((one) => one.x.some((x) => typeof x === 'string'))
    ? [...new Set(plot.series.flatMap((one) => one.x.map(String)))] : null;
  return drawUpright(plot, series, names, width);
}

/** Columns, lines or points, y upwards. `names`: of the places, where x is no number. */
function drawUpright(plot, series, names, width) {
  const height = Math.round(Math.max(210, Math.min(330, width * 0.52)));
  const ys = scale(extent(series, plot.kind === 'bar', plot.percent), height < 260 ? 4 : 5);
  const labels = ys.ticks.map((tick) => amount(tick, plot.percent));
  const frame = { left: Math.max(...labels.map((label) => label.length)) * TEXT + 12, right: width - 10, top: 26, bottom: height - 40 };
  const y = (value) => frame.bottom - ((value - ys.low) / (ys.high - ys.low)) * (frame.bottom - frame.top);
  const svg = shape('svg', { viewBox: `0 0 ${width} ${height}`, height, 'aria-hidden': 'true' });
  svg.append(shape('text', { x: 0, y: 11, class: 'axis-title' }, cut(plot.y_label, width - 8)));
  ys.ticks.forEach((tick, number) => {
    svg.append(
      shape('line', { class: tick === 0 ? 'base' : 'grid', x1: frame.left, x2: frame.right, y1: y(tick), y2: y(tick) }),
      shape('text', { x: frame.left - 7, y: y(tick) + 4, 'text-anchor': 'end' }, labels[number]),
    );
  });
  const x = names ? steps(names, frame) : axis(series, frame);
  x.ticks.forEach((tick) => svg.append(
    shape('text', { x: tick.at, y: frame.bottom + 17, 'text-anchor': 'middle' }, cut(tick.label, tick.room)),
  ));
  svg.append(shape('text', { x: frame.right, y: height - 4, 'text-anchor': 'end', class: 'axis-title' }, cut(plot.x_label, width - 8)));
  const marks = shape('g');
  if (plot.kind !== 'bar') svg.append(marks);
  const points = [];
  series.forEach((one, order) => points.push(...drawSeries(svg, plot, one, order, series.length, x, y, frame)));
  if (plot.kind === 'bar') svg.append(marks);
  const places = plot.kind === 'point' ? points.map((point) => lonePlace(plot, point)) : columnPlaces(plot, points, x, frame);
  return { svg, marks, places };
}

function drawSeries(svg, plot, one, order, count, x, y, frame) {
  const group = shape('g', { class: `s${one.number % 8}` });
  const wide = plot.kind === 'bar' ? Math.min(40, (x.step * 0.74) / count) : 0;
  const points = one.x.map((value, index) => ({
    series: one, index, value, at: x.at(value) + (plot.kind === 'bar' ? (order - (count - 1) / 2) * wide : 0), y: one.y[index],
    low: one.low[index] ?? null, high: one.high[index] ?? null,
  })).filter((point) => point.y !== null && Number.isFinite(point.at));
  if (plot.kind === 'line' && points.length) {
    const between = points.filter((point) => point.low !== null && point.high !== null);
    if (between.length > 1) {
      const path = [...between.map((p) => `${p.at},${y(p.high)}`), ...between.reverse().map((p) => `${p.at},${y(p.low)}`)];
      group.append(shape('polygon', { class: 'band', points: path.join(' ') }));
    }
    group.append(shape('polyline', { class: 'line', points: points.map((p) => `${p.at},${y(p.y)}`).join(' ') }));
  }
  const dots = plot.kind === 'point' || points.length <= 40;
  for (const point of points) {
    point.top = y(point.y);
    if (plot.kind === 'bar') {
      const zero = y(0);
      group.append(shape('rect', {
        class: 'bar', x: point.at - wide / 2 + 0.5, width: Math.max(wide - 1, 1), y: Math.min(point.top, zero), rx: Math.min(2, wide / 4),
        height: Math.max(Math.abs(zero - point.top), 0.75),
      }));
    }
    if (plot.kind !== 'line' && point.low !== null && point.high !== null) {
      const line = { x1: point.at, x2: point.at, y1: y(point.low), y2: y(point.high) };
      group.append(...whisker(line, plot.kind !== 'bar'));
    }
    if (plot.kind !== 'bar' && dots) group.append(shape('circle', { class: 'dot', cx: point.at, cy: point.top, r: plot.kind === 'point' ? 4 : 3.25 }));
  }
  svg.append(group);
  return points;
}

/** The line of an interval: on a bar, with a light one behind it, so that both its ends are seen. */
function whisker(line, own) {
  return own ? [shape('line', { class: 'whisker own', ...line })]
    : [shape('line', { class: 'halo', ...line }), shape('line', { class: 'whisker', ...line })];
}

/** One place a column: all series that have a value there. */
function columnPlaces(plot, points, x, frame) {
  const columns = new Map();
  for (const point of points) {
    const key = String(point.value);
    if (!columns.has(key)) columns.set(key, []);
    columns.get(key).push(point);
  }
  return [...columns.values()].map((found) => {
    const at = x.at(found[0].value);
    return {
      x: at, y: Math.min(...found.map((point) => point.top)), title: placeTitle(plot, found[0].value), rows: found.map((point) => row(plot, point)),
      distance: (px) => always(Math.abs(px - at)),
      marks: () => (plot.kind === 'bar'
        ? [shape('rect', { class: 'column', x: at - x.step / 2, width: x.step, y: frame.top, height: frame.bottom - frame.top })]
        : [shape('line', { class: 'cross', x1: at, x2: at, y1: frame.top, y2: frame.bottom }),
          ...found.map((point) => shape('circle', { class: `dot on s${point.series.number % 8}`, cx: point.at, cy: point.top, r: 4.5 }))]),
    };
  }).sort((one, other) => one.x - other.x);
}

function lonePlace(plot, point) {
  return {
    x: point.at, y: point.top, title: placeTitle(plot, point.value), rows: [row(plot, point)],
    distance: (px, py) => Math.hypot(px - point.at, py - point.top),
    marks: () => [shape('circle', { class: `dot on s${point.series.number % 8}`, cx: point.at, cy: point.top, r: 5.5 })],
  };
}

/** Bars that lie, each name on a line of its own: for many or long names. */
function drawBarsAcross(plot, series, names, width) {
  const thick = series.length > 1 ? Math.max(6, 15 - series.length * 1.5) : 15;
  const line = Math.max(series.length * thick + 9, 22);
  const longest = Math.max(...names.map((name) => name.length), 1) * TEXT + 10;
  const height = 44 + names.length * line;
  const ends = scale(extent(series, true, plot.percent), width < 420 ? 3 : 5);
  const frame = { left: Math.min(longest, width * 0.42), right: width - 26, top: 22, bottom: height - 20 };
  const x = (value) => frame.left + ((value - ends.low) / (ends.high - ends.low)) * (frame.right - frame.left);
  const svg = shape('svg', { viewBox: `0 0 ${width} ${height}`, height, 'aria-hidden': 'true' });
  const marks = shape('g');
  svg.append(shape('text', { x: width, y: height - 4, 'text-anchor': 'end', class: 'axis-title' }, cut(plot.y_label, width - 8)), marks);
  for (const tick of ends.ticks) {
    svg.append(
      shape('line', { class: tick === 0 ? 'base' : 'grid', x1: x(tick), x2: x(tick), y1: frame.top - 4, y2: frame.bottom }),
      shape('text', { x: x(tick), y: 11, 'text-anchor': 'middle' }, amount(tick, plot.percent)),
    );
  }
  const places = names.map((name, number) => {
    const middle = frame.top + (number + 0.5) * line;
    svg.append(shape('text', { x: frame.left - 7, y: middle + 4, 'text-anchor': 'end' }, cut(name, frame.left - 8)));
    const found = [];
    series.forEach((one, order) => {
      const index = one.x.findIndex((value) => String(value) === name);
      if (index < 0 || one.y[index] === null) return;
      const group = shape('g', { class: `s${one.number % 8}` });
      const top = middle + (order - series.length / 2) * thick;
      const end = x(one.y[index]);
      group.append(shape('rect', { class: 'bar', y: top + 0.5, height: thick - 1, x: Math.min(end, x(0)), width: Math.max(Math.abs(end - x(0)), 0.75), rx: 2 }));
      const [low, high] = [one.low[index] ?? null, one.high[index] ?? null];
      if (low !== null && high !== null) {
        group.append(...whisker({ x1: x(low), x2: x(high), y1: top + thick / 2, y2: top + thick / 2 }, false));
      }
      svg.append(group);
      found.push({ series: one, index, value: name, y: one.y[index], low, high, at: end });
    });
    return {
      x: Math.max(frame.left, ...found.map((point) => point.at)), y: middle, title: name, rows: found.map((point) => row(plot, point)),
      distance: (px, py) => always(Math.abs(py - middle)),
      marks: () => [shape('rect', { class: 'column', x: 0, width, y: middle - line / 2, height: line })],
    };
  }).filter((place) => place.rows.length);
  return { svg, marks, places };
}

function placeTitle(plot, value) {
  return typeof value === 'string' ? value : `${plot.x_label} ${amount(value)}`;
}

function row(plot, point) {
  const own = point.series.labels[point.index];
  const ends = point.low !== null && point.high !== null ? ` (${amount(point.low, plot.percent)} to ${amount(point.high, plot.percent)})` : '';
  return { series: point.series.number, name: own ?? point.series.name, value: amount(point.y, plot.percent) + ends };
}

/** Least and greatest y, intervals included. Zero is in it for bars, and where it is near. */
function extent(series, withZero, percent) {
  const values = series.flatMap((one) => [...one.y, ...one.low, ...one.high]).filter((value) => value !== null);
  if (!values.length) return [0, 1];
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (withZero || (low > 0 && low < high * 0.4)) low = Math.min(low, 0);
  if (withZero) high = Math.max(high, 0);
  if (low === high) {
    const around = percent ? 0.05 : Math.abs(high) * 0.1 || 1;
    const [least, most] = percent && low >= 0 && high <= 1 ? [0, 1] : [-Infinity, Infinity]; // of a share
    [low, high] = [low === 0 && withZero ? 0 : Math.max(least, low - around), Math.min(most, high + around)];
  }
  if (percent && high - low < 0.02) low = Math.max(0, high - 0.02); // labels are of a tenth of a percent at best
  if (percent && high <= 1) high = Math.min(1, high + (high - low) * 0.02);
  return [low, high];
}

/** Round steps of 1, 2 or 5 that hold an extent, about `count` of them. */
function scale([low, high], count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((times) => times * power).find((found) => found >= rough * 0.999);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  const ticks = Array.from({ length: last - first + 1 }, (_, number) => Number(((first + number) * step).toPrecision(12)));
  return { low: ticks[0], high: ticks[ticks.length - 1], ticks };
}

function steps(names, frame) {
  const step = (frame.right - frame.left) / Math.max(names.length, 1);
  const at = (value) => frame.left + (names.indexOf(String(value)) + 0.5) * step;
  return { at, step, ticks: names.map((name) => ({ at: at(name), label: name, room: step - 4 })) };
}

function axis(series, frame) {
  const values = [...new Set(series.flatMap((one) => one.x))].sort((one, other) => one - other);
  if (!values.length) return { at: () => frame.left, step: 0, ticks: [] };
  const few = values.length <= 8 && values.every(Number.isInteger);
  let [low, high] = [values[0], values[values.length - 1]];
  let ticks = values;
  if (!few) ({ low, high, ticks } = scale(low === high ? [low - 0.5, high + 0.5] : [low, high], frame.right - frame.left < 380 ? 4 : 6));
  const margin = few ? Math.min(40, (frame.right - frame.left) / (2 * values.length)) : 8;
  const at = (value) => (low === high ? (frame.left + frame.right) / 2
    : frame.left + margin + ((value - low) / (high - low)) * (frame.right - frame.left - 2 * margin));
  const room = (frame.right - frame.left) / Math.max(ticks.length, 1);
  return { at, step: 0, ticks: ticks.map((tick) => ({ at: at(tick), label: amount(tick), room })) };
}

function cut(text, room) {
  const most = Math.max(3, Math.floor(room / TEXT));
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

// Lines of the last hour.

import { duration, el, svg } from './text.js';

const POINTS = 240;

/** The path of a line through values, the newest at the right edge; gaps stay open. A value between two of
 * them is a dot. */
function path(values, width, height, max) {
  let line = '';
  values.forEach((value, place) => {
    if (value == null) return;
    const x = width - (values.length - 1 - place) * (width / (POINTS - 1));
    const y = height - 1 - (max > 0 ? (value / max) * (height - 2) : 0);
    const begins = values[place - 1] == null;
    line += `${begins ? 'M' : 'L'}${x.toFixed(1)} ${y.toFixed(1)}`;
    if (begins && values[place + 1] == null) line += 'h0';
  });
  return line;
}

/** The largest of the known values, if there is one. */
function largest(values) {
  return values.reduce((max, value) => (value != null && (max == null || value > max) ? value : max), null);
}

/** A line without axes, for a row of a table. */
export function spark() {
  const line = svg('path', { class: 'line' });
  const chart = svg(
    'svg', { class: 'spark', viewBox: '0 0 120 24', preserveAspectRatio: 'none', role: 'img' }, line,
  );
  return { element: chart, line };
}

/** Draws the values into a line of `spark`. */
export function drawSpark({ element, line }, values, format) {
  const max = largest(values);
  line.setAttribute('d', path(values, 120, 24, max));
  element.setAttribute('aria-label', max == null ? 'no history yet' : `at most ${format(max)} a second`);
}

/** A chart of lines of one unit, each with its last and its largest value. The first line is the main one.
 * `lines`: names and values; `most`: what the chart is at least as high as. */
export function chart(title, lines, format, most = 0) {
  const max = Math.max(most, ...lines.map(([, values]) => largest(values) ?? 0));
  const said = lines.map(([name, values]) => {
    const now = `now ${format(values.at(-1))}, at most ${format(largest(values))}`;
    return el('span', {}, name ? `${name}: ${now}` : now);
  });
  const paths = lines.map(([, values], place) => (
    svg('path', { class: place ? 'line second' : 'line', d: path(values, 480, 90, max) })
  ));
  return figure(title, said, svg('svg', { viewBox: '0 0 480 90', ...HIDDEN }, paths.reverse()));
}

/** A band that shows which of some states held when, with how long each of them did. */
export function band(title, states, seconds) {
  const each = 480 / POINTS;
  const runs = [];
  states.forEach((state, place) => {
    const run = runs.at(-1);
    if (run?.state === state) run.length += 1;
    else runs.push({ state, place: place + POINTS - states.length, length: 1 });
  });
  const known = runs.filter(({ state }) => state);
  const total = new Map();
  for (const { state, length } of known) total.set(state, (total.get(state) ?? 0) + length * seconds);
  const said = [...total].map(([state, time]) => `${state} ${duration(time)}`).join(', ');
  const bars = known.map(({ state, place, length }) => (
    svg('rect', { class: `bar ${state}`, x: place * each, width: length * each, height: 90 })
  ));
  return figure(title, [el('span', {}, said || '–')], svg('svg', { class: 'band', viewBox: '0 0 480 90', ...HIDDEN }, bars));
}

const HIDDEN = { preserveAspectRatio: 'none', 'aria-hidden': 'true' };

function figure(title, said, drawing) {
  return el(
    'figure', {}, el('figcaption', {}, el('strong', {}, title), said), drawing,
    el('div', { class: 'axis', 'aria-hidden': 'true' }, el('span', {}, '1 h ago'), el('span', {}, 'now')),
  );
}

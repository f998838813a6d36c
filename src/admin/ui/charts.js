// Lines of the last hour.

import { el, svg } from './text.js';

const POINTS = 240;

/** The path of a line through values, the newest at the right edge; gaps stay open. */
function path(values, width, height, max) {
  let line = '';
  let pen = 'M';
  values.forEach((value, place) => {
    if (value == null) {
      pen = 'M';
      return;
    }
    const x = width - (values.length - 1 - place) * (width / (POINTS - 1));
    const y = height - 1 - (max > 0 ? (value / max) * (height - 2) : 0);
    line += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = 'L';
  });
  return line;
}

function largest(values) {
  return values.reduce((max, value) => (value != null && value > max ? value : max), 0);
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
  element.setAttribute('aria-label', values.length ? `at most ${format(max)} a second` : 'no history yet');
}

/** A chart with a title, its largest and its last value. */
export function chart(title, values, format) {
  const max = largest(values);
  const last = values.length ? values[values.length - 1] : null;
  return el(
    'figure', {},
    el('figcaption', {}, el('strong', {}, title), el('span', {}, `now ${format(last)}, at most ${format(max)}`)),
    svg(
      'svg', { viewBox: '0 0 480 90', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      svg('path', { class: 'line', d: path(values, 480, 90, max) }),
    ),
    el('div', { class: 'axis', 'aria-hidden': 'true' }, el('span', {}, '1 h ago'), el('span', {}, 'now')),
  );
}

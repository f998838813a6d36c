// Elements, and numbers and times as people read them.
//
// Whatever a spoke could have written reaches the page through `text` alone: as text, with everything
// invisible in it shown.

const INVISIBLE = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** Text with its control, format and other invisible characters as escapes. */
export function visible(text) {
  return String(text).replace(INVISIBLE, (it) => `\\u{${it.codePointAt(0).toString(16)}}`);
}

/** Text of a spoke, which does not change the direction of what is around it. */
export function foreign(text) {
  return el('bdi', {}, visible(text));
}

/** An element with these attributes and children; strings become text. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'on') {
      for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    } else if (value !== false && value != null) {
      element.setAttribute(name, value === true ? '' : value);
    }
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

/** Gives an element these children, and keeps those that it has as far as they are the same: what somebody
 * reads, selects or scrolls stays under them. */
export function render(element, ...children) {
  const fresh = element.cloneNode(false);
  fresh.append(...children);
  morph(element, fresh);
}

function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
  after.forEach((node, place) => (place < before.length ? morph(before[place], node) : old.append(node)));
  before.slice(after.length).forEach((node) => node.remove());
}

/** Sets text only if it differs, so that nothing is drawn again for nothing. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A time in its largest whole unit, as the summary has it. */
export function duration(seconds) {
  if (seconds == null) return '–';
  if (seconds < 0) return `${duration(-seconds)} ahead`;
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** How long something takes, in milliseconds below a second. */
export function time(seconds) {
  if (seconds == null) return '–';
  return seconds < 1 ? `${short(seconds * 1000)} ms` : `${short(seconds)} s`;
}

/** How long ago a time of the server was. */
export function ago(timestamp, now) {
  return timestamp == null ? 'never' : `${duration(Math.max(0, now - timestamp))} ago`;
}

/** A point in time, for a tool tip and for machines. A spoke may write a sample of a time that no calendar has. */
export function moment(timestamp) {
  const date = new Date(timestamp * 1000);
  if (Number.isNaN(date.getTime())) return '–';
  return date.toISOString().replace('T', ' ').replace(/\.\d+Z/, ' UTC');
}

/** A number in three or four digits, with k, M or G. */
export function number(value) {
  if (value == null) return '–';
  for (const [unit, size] of [['G', 1e9], ['M', 1e6], ['k', 1e3]]) {
    if (Math.abs(value) >= size) return `${short(value / size)} ${unit}`;
  }
  return short(value);
}

function short(value) {
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 100) return value.toFixed(0);
  return Number(value.toFixed(size >= 10 ? 1 : 2)).toString();
}

/** Bytes in binary units. */
export function bytes(value) {
  for (const [unit, size] of [['GiB', 2 ** 30], ['MiB', 2 ** 20], ['KiB', 2 ** 10]]) {
    if (value >= size) return `${short(value / size)} ${unit}`;
  }
  return `${value} B`;
}

/** A number of a limit, in the unit that its name says. */
export function quantity(limit, value) {
  if (value == null) return '–';
  if (limit.includes('bytes')) return bytes(value);
  return ['samples_age_max', 'samples_ahead_max'].includes(limit) ? duration(value) : number(value);
}

/** A share in percent. Only nothing is 0 %, and only all is 100 %; what is beyond a limit is more. */
export function share(value) {
  const percent = value * 100;
  if (percent <= 0) return '0 %';
  if (percent < 0.1) return '< 0.1 %';
  if (percent >= 100) return `${Math.round(percent)} %`;
  return percent < 10 ? `${percent.toFixed(1)} %` : `${Math.min(99, Math.round(percent))} %`;
}

/** The text of a condition. */
export function condition(name) {
  return name.replace('_', ' ');
}

/** How a spoke that is late or held back goes on, or why one may still come at a hubgate that runs for this time. */
export function course(spoke, up) {
  const is = (...names) => names.some((it) => spoke.conditions.includes(it));
  if (is('never_came') && up <= 300) return `hubgate runs for ${duration(up)}`;
  if (!is('limited', 'late')) return '';
  if (spoke.lag_trend === 'steady') return is('late') ? 'does not catch up' : 'keeps up';
  return { falling: 'catches up', rising: 'falls behind' }[spoke.lag_trend] ?? '';
}

/** Text in which code stands between backticks. */
export function withCode(text) {
  return text.split('`').map((part, place) => (place % 2 ? el('code', {}, visible(part)) : visible(part)));
}

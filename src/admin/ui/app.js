// The status page: asks the API, and shows its answers.

import { drawHubs, drawReasons } from './hubs.js';
import { drawSpoke } from './spoke.js';
import { SpokesView } from './spokes.js';
import { ago, bytes, duration, el, moment, number, put, visible } from './text.js';

const INTERVAL = 5000;
const TIMEOUT = 10000;

const element = (id) => document.getElementById(id);
const list = new SpokesView((wanted) => {
  const parameters = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
  history.replaceState(null, '', `#/spokes?${parameters}`);
});

/** The last answer to each question, with its tag. */
const answers = new Map();
let since = null;
let reasons = new Map();
let clock = 0;
let reached = null;
let shown = null;
let timer = null;

/** Asks the API. Returns null if nothing changed since the last answer. */
async function ask(path) {
  const known = answers.get(path);
  const headers = known ? { 'If-None-Match': known } : {};
  const response = await fetch(`api/v1/${path}`, { headers, cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT) });
  if (response.status === 304) return null;
  if (!response.ok) throw new Failure(response.status, (await response.text()).trim());
  const tag = response.headers.get('ETag');
  if (tag && !path.includes('?')) answers.set(path, tag);
  return response.json();
}

class Failure extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** The view and its parameters in the URL: `#/spokes?q=…`, `#/spokes/NAME`, `#/hubs`, `#/reasons`. */
function route() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const [view, name] = path.split('/');
  const parameters = new URLSearchParams(query);
  if (view === 'spokes' && name) return { view: 'spoke', name: decoded(name), parameters };
  return { view: ['hubs', 'reasons'].includes(view) ? view : 'spokes', parameters };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function gate(status) {
  put(element('summary'), visible(status.summary));
  const config = status.configuration;
  const soonest = [...status.certificates].sort((a, b) => a.expiry_timestamp_seconds - b.expiry_timestamp_seconds)[0];
  const facts = [
    ['Version', status.version + (status.revision ? ` (${status.revision.slice(0, 8)})` : '')],
    ['Up', duration(clock - status.start_timestamp_seconds)],
    ['Configuration', `loaded ${ago(config.last_success_timestamp_seconds, clock)}`],
    ['Bytes in flight', `${bytes(status.bytes_in_flight.used)} of ${bytes(status.bytes_in_flight.limit)}`],
    ['Connections', `${number(status.connections.used)} of ${number(status.connections.limit)}`],
  ];
  if (soonest) {
    const left = soonest.expiry_timestamp_seconds - clock;
    facts.push([`Certificate (${visible(soonest.shown_to)})`, left < 0 ? 'expired' : `expires in ${duration(left)}`]);
  }
  const holder = element('gate');
  if (holder.children.length !== facts.length) {
    holder.replaceChildren(...facts.map(() => el('div', {}, el('dt'), el('dd'))));
  }
  facts.forEach(([name, value], place) => {
    const [title, text] = holder.children[place].children;
    put(title, name);
    put(text, value);
  });
  const faults = element('faults');
  faults.hidden = !config.errors.length;
  if (config.errors.length) {
    const at = (it) => [it.file, it.line, it.column].filter((part) => part != null).join(':');
    const text = (it) => visible([at(it), it.key, it.message].filter(Boolean).join(': '));
    faults.replaceChildren(
      el('li', {}, `The configuration that was read ${ago(config.last_load_timestamp_seconds, clock)} is not valid; the one before stays in force.`),
      ...config.errors.map((it) => el('li', {}, text(it))),
    );
  }
}

function lost(failure) {
  const text = failure.status
    ? `hubgate answers with ${failure.status}: ${visible(failure.message)}`
    : 'hubgate cannot be reached';
  put(element('lost'), `${text}. What is shown is of ${reached ? moment(reached) : 'nobody knows when'}.`);
  element('lost').hidden = false;
  element('main').classList.add('stale');
}

/** Shows the view of the URL, and moves the focus to it when it is another one than before. */
function show() {
  const { view, name, parameters } = route();
  for (const section of document.querySelectorAll('main > section')) section.hidden = section.id !== view;
  for (const link of document.querySelectorAll('nav a[data-view]')) {
    if (link.dataset.view === view || (view === 'spoke' && link.dataset.view === 'spokes')) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = view === 'spoke' ? `${visible(name)} – hubgate` : 'hubgate';
  if (view === 'spokes') list.restore(parameters);
  const key = `${view}/${name ?? ''}`;
  if (shown !== null && shown !== key) {
    element('main').focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  if (shown !== key) {
    for (const path of answers.keys()) answers.delete(path);
    if (view === 'spoke') element('spoke').replaceChildren(el('h1', { id: 'spoke-title' }, visible(name)));
  }
  shown = key;
}

async function refresh() {
  clearTimeout(timer);
  try {
    const status = await ask('status');
    if (status) {
      clock = status.timestamp_seconds;
      gate(status);
    }
    const { view, name } = route();
    if (!reasons.size) reasons = new Map((await ask('reasons')).reasons.map((it) => [it.name, it]));
    if (view === 'spokes') await refreshSpokes();
    if (view === 'spoke') await refreshSpoke(name);
    if (view === 'hubs') {
      const answer = await ask('hubs');
      if (answer) drawHubs(element('hubs'), answer.hubs);
    }
    if (view === 'reasons' && !element('reasons').children.length) drawReasons(element('reasons'), [...reasons.values()]);
    reached = clock;
    element('lost').hidden = true;
    element('main').classList.remove('stale');
  } catch (failure) {
    lost(failure);
  }
  // Nobody looks at a page in the background.
  if (!document.hidden) timer = setTimeout(refresh, INTERVAL);
}

async function refreshSpokes() {
  const answer = await ask('spokes');
  if (answer) {
    const start = performance.now();
    list.update(answer.spokes, clock);
    performance.clearMeasures();
    performance.measure('update', { start });
  }
  const steps = await ask(since === null ? 'history' : `history?since=${since}`);
  if (steps?.end_timestamp_seconds != null && steps.newest !== since) {
    since = steps.newest;
    list.updateHistory(steps.spokes);
  }
}

async function refreshSpoke(name) {
  try {
    const answer = await ask(`spokes/${encodeURIComponent(name)}`);
    const section = element('spoke');
    // What somebody selects or reads with the keyboard is not taken away under them.
    const busy = section.contains(document.activeElement) || !getSelection().isCollapsed;
    if (answer && !(busy && section.children.length > 1)) drawSpoke(section, answer, reasons, clock);
  } catch (failure) {
    if (failure.status !== 404) throw failure;
    element('spoke').replaceChildren(
      el('h1', { id: 'spoke-title' }, visible(name)), el('p', {}, 'No spoke of this name is configured.'),
    );
  }
}

addEventListener('hashchange', () => {
  show();
  refresh();
});
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) refresh();
});
show();
refresh();

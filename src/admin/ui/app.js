// The status page: asks the API, and shows its answers.

import { drawDoor, refusedAtTheDoor } from './door.js';
import { drawHubs, drawReasons } from './hubs.js';
import { drawSpoke } from './spoke.js';
import { merged, SpokesView } from './spokes.js';
import { ago, bytes, duration, el, moment, number, put, render, visible } from './text.js';

const INTERVAL = 5000;
const NEEDS_REASONS = ['spoke', 'reasons'];
const TIMEOUT = 10000;

const element = (id) => document.getElementById(id);
const list = new SpokesView((wanted) => {
  const parameters = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
  history.replaceState(null, '', `#/spokes?${parameters}`);
});

/** The last answer to each question, with its tag. */
const answers = new Map();
/** The number of the newest step of the history, when it ended, and the time of a step. */
let since = null;
let ended = 0;
let step = 0;
let started = null;
/** The spokes as they were last answered, and the version of the answer. */
let fleet = { version: null, spokes: [] };
let reasons = new Map();
let clock = 0;
/** When the last answers came, by the clock of the server and by that of the browser. */
let reached = null;
let answered = 0;
let conditions = null;
let shown = null;
/** The view of a spoke that was opened from the list, and how far that was scrolled. */
let opened = null;
let timer = null;
let asking = new AbortController();

/** Asks the API. What did not change since the last answer is not sent again. */
async function ask(path, signal) {
  const known = answers.get(path);
  const headers = known ? { 'If-None-Match': known.tag } : {};
  const { response, text } = await receive(path, headers, AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]));
  if (response.status === 304) return known.answer;
  if (!response.ok) throw new Failure(`hubgate answers with ${response.status}: ${text.trim()}`, response.status);
  const answer = JSON.parse(text);
  const tag = response.headers.get('ETag');
  // Of the others, only what changed is asked for.
  if (tag && !/^(spokes|history)(\?|$)/.test(path)) answers.set(path, { tag, answer });
  return answer;
}

/** Sends a question, and receives the whole response. */
async function receive(path, headers, signal) {
  try {
    const response = await fetch(`api/v1/${path}`, { headers, cache: 'no-store', signal });
    return { response, text: await response.text() };
  } catch {
    throw new Failure('hubgate cannot be reached');
  }
}

/** Why there is no answer; any other error is a fault of the page. */
class Failure extends Error {
  constructor(text, status = null) {
    super(text);
    this.status = status;
  }
}

/** The view and its parameters in the URL: `#/spokes?q=…`, `#/spokes/NAME`, `#/hubs`, `#/door`, `#/reasons`. */
function route() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const [view, name] = path.split('/');
  const parameters = new URLSearchParams(query);
  if (view === 'spokes' && name) return { view: 'spoke', name: decoded(name), parameters };
  return { view: ['hubs', 'door', 'reasons'].includes(view) ? view : 'spokes', parameters };
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
  // Times in the sentence change all the time; who listens is told when a spoke changes.
  const now = JSON.stringify(status.spokes);
  if (conditions !== null && conditions !== now) put(element('news'), visible(status.summary));
  conditions = now;
  const config = status.configuration;
  const facts = [
    ['Version', status.version + (status.revision ? ` (${status.revision.slice(0, 8)})` : '')],
    ['Up', duration(clock - status.start_timestamp_seconds)],
    ['Configuration', `loaded ${ago(config.last_success_timestamp_seconds, clock)}`],
    ['Bytes in flight', `${bytes(status.bytes_in_flight.used)} of ${bytes(status.bytes_in_flight.limit)}`],
    ['Connections', `${number(status.connections.used)} of ${number(status.connections.limit)}`],
  ];
  for (const it of status.certificates) {
    const left = it.expiry_timestamp_seconds - clock;
    facts.push([`Certificate (${visible(it.shown_to)})`, left < 0 ? 'expired' : `expires in ${duration(left)}`]);
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
  const refused = refusedAtTheDoor(status.door);
  element('door-count').hidden = !refused;
  put(element('door-count').firstElementChild, `Refused at the door in the last hour: ${refused}`);
  const ahead = element('ahead');
  ahead.hidden = !status.ahead.length;
  render(ahead, ...status.ahead.map((it) => el('li', {}, visible(it))));
  const faults = element('faults');
  faults.hidden = !config.errors.length;
  if (config.errors.length) {
    const at = (it) => [it.file, it.line, it.column].filter((part) => part != null).join(':');
    const text = (it) => visible([at(it), it.key, it.message].filter(Boolean).join(': '));
    render(
      faults,
      el('li', {}, `The configuration that was read ${ago(config.last_load_timestamp_seconds, clock)} is not valid; the one before stays in force.`),
      ...config.errors.map((it) => el('li', {}, text(it))),
    );
  }
}

function lost(failure) {
  if (failure instanceof Failure) {
    old(visible(failure.message));
  } else {
    console.error(failure);
    old('This page has a fault, of which the console of the browser says more');
  }
}

/** Says that what is shown is not of now. */
function old(why) {
  const time = reached ? moment(reached) : null;
  put(element('lost'), time ? `${why}. What is shown is of ${time}.` : `${why}.`);
  element('lost').hidden = false;
  document.body.classList.add('stale');
}

/** Shows the view of the URL, and moves the focus to it when it is another one than before. Who comes back from
 * a spoke is where the list was left. */
function show() {
  const { view, name, parameters } = route();
  const scrolled = scrollY;
  for (const section of document.querySelectorAll('main > section')) section.hidden = section.id !== view;
  for (const link of document.querySelectorAll('nav a[data-view]')) {
    if (link.dataset.view === view || (view === 'spoke' && link.dataset.view === 'spokes')) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  const title = { spokes: 'hubgate', hubs: 'Hubs – hubgate', door: 'Door – hubgate', reasons: 'Reasons – hubgate' };
  document.title = title[view] ?? `${visible(name)} – hubgate`;
  if (view === 'spokes') list.restore(parameters);
  const key = `${view}/${name ?? ''}`;
  if (shown !== null && shown !== key) {
    const back = view === 'spokes' && opened?.key === shown ? opened : null;
    if (view === 'spoke' && shown === 'spokes/') opened = { key, name, scrolled };
    element('main').focus({ preventScroll: true });
    if (back) list.focus(back.name);
    scrollTo(0, back?.scrolled ?? 0);
  }
  if (shown !== key && view === 'spoke') {
    element('spoke').replaceChildren(el('h1', { id: 'spoke-title' }, visible(name)));
  }
  shown = key;
}

async function refresh() {
  clearTimeout(timer);
  // An answer for the view before must not be shown in this one.
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  const { view, name } = route();
  // All is asked at once, and shown as it comes: how the spokes are before the spokes.
  const explains = NEEDS_REASONS.includes(view) && !reasons.size ? 'reasons' : null;
  const [first, explained, content] = ['status', explains, question(view, name)].map((path) => {
    const answer = path === null ? Promise.resolve(null) : ask(path, signal);
    // It is told where it is waited for.
    answer.catch(() => {});
    return answer;
  });
  try {
    const status = await first;
    clock = status.timestamp_seconds;
    if (started !== status.start_timestamp_seconds) {
      started = status.start_timestamp_seconds;
      since = null;
      list.forget();
    }
    gate(status);
    if (!performance.getEntriesByName('sentence').length) performance.mark('sentence');
    const all = await explained;
    if (all) reasons = new Map(all.reasons.map((it) => [it.name, it]));
    if (view === 'spokes') await refreshSpokes(content, signal);
    if (view === 'spoke') await refreshSpoke(name, content);
    if (view === 'hubs') drawHubs(element('hubs'), (await content).hubs);
    if (view === 'door') drawDoor(element('door'), status.door, clock);
    if (view === 'reasons') drawReasons(element('reasons'), [...reasons.values()]);
    reached = clock;
    answered = Date.now();
    element('lost').hidden = true;
    document.body.classList.remove('stale');
  } catch (failure) {
    if (signal.aborted) return;
    lost(failure);
  }
  // Nobody looks at a page in the background.
  if (!document.hidden) timer = setTimeout(refresh, INTERVAL);
}

/** What a view asks for, beside what all of them do. */
function question(view, name) {
  if (view === 'spoke') return `spokes/${encodeURIComponent(name)}`;
  if (view === 'spokes') return fleet.version === null ? 'spokes' : `spokes?since=${fleet.version}`;
  return view === 'hubs' ? view : null;
}

async function refreshSpokes(content, signal) {
  const answer = await content;
  const start = performance.now();
  fleet = { version: answer.version, spokes: answer.columns ? merged(fleet.spokes, answer) : answer.spokes };
  list.update(fleet.spokes, clock, clock - started);
  performance.clearMeasures();
  performance.measure('update', { start });
  // There is no new step yet.
  if (since !== null && clock >= ended && clock < ended + step) return;
  const steps = await ask(since === null ? 'history' : `history?since=${since}`, signal);
  if (steps.end_timestamp_seconds != null && steps.newest !== since) {
    since = steps.newest;
    ended = steps.end_timestamp_seconds;
    step = steps.step_seconds;
    list.updateHistory(steps.spokes);
  }
}

async function refreshSpoke(name, content) {
  try {
    drawSpoke(element('spoke'), await content, reasons, clock, clock - started);
  } catch (failure) {
    if (failure.status !== 404) throw failure;
    render(
      element('spoke'),
      el('h1', { id: 'spoke-title' }, visible(name)), el('p', {}, 'No spoke of this name is configured.'),
    );
  }
}

addEventListener('hashchange', () => {
  show();
  refresh();
});
document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  if (answered && Date.now() - answered > 3 * INTERVAL) old('Asking hubgate');
  refresh();
});
// The fragment of the URL is the view, so the link must not go there.
element('skip').addEventListener('click', (event) => {
  event.preventDefault();
  element('main').focus();
});
// The browser would scroll before the rows are there.
history.scrollRestoration = 'manual';
show();
refresh();

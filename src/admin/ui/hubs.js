// The hubs, and the reasons.

import { band, chart } from './charts.js';
import { table } from './spoke.js';
import { el, foreign, number, render, time, withCode } from './text.js';

/** Draws the hubs into a section. */
export function drawHubs(section, hubs) {
  const titles = ['Hub', 'Speaks', 'Requests under way', 'Waiting', 'Written', 'Responses', 'Left out'];
  const rows = hubs.map((hub) => {
    const written = Object.entries(hub.written).filter(([, count]) => count);
    const lost = Object.entries(hub.lost).filter(([, count]) => count);
    return el(
      'tr', {},
      el('th', { scope: 'row', class: 'long' }, foreign(hub.name), el('br'), el('code', { class: 'quiet' }, foreign(hub.url))),
      el('td', {}, hub.protocol ?? 'not known yet'),
      el('td', { class: 'number' }, `${hub.requests_in_flight} of ${hub.requests_in_flight_limit}`),
      el('td', { class: 'number' }, number(hub.requests_waiting)),
      el('td', {}, lines(written.map(([kind, count]) => `${kind} ${number(count)}`))),
      el('td', {}, lines(hub.requests.map((it) => `${it.protocol} ${it.code}: ${number(it.count)}`))),
      el('td', {}, lost.length ? lines(lost.map(([part, count]) => `${part} ${number(count)}`)) : 'nothing'),
    );
  });
  render(
    section,
    el('h1', { id: 'hubs-title' }, 'Hubs'),
    el(
      'div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Table of the hubs' },
      el('table', {}, el('thead', {}, el('tr', {}, titles.map((it) => el('th', { scope: 'col' }, it)))), el('tbody', {}, rows)),
    ),
    el('h2', {}, 'Left out on the way, since the start'),
    ...leftOut(hubs),
    ...hubs.flatMap((hub) => [el('h2', {}, 'Last hour of ', foreign(hub.name)), lastHour(hub.history)]),
  );
}

/** What does not reach a hub, why, and what to do. */
function leftOut(hubs) {
  const isolated = (hub) => Object.entries(hub.isolated).filter(([, count]) => count).map(([kind, count]) => [
    foreign(hub.name), `${kind}, refused`, number(count), 'The hub answers each of these alone with a fault (500).',
    'See the refusals of the spokes: they name a sample.',
  ]);
  const parts = (hub) => hub.left_out.map((it) => (
    [foreign(hub.name), it.part, number(it.count), withCode(it.meaning), withCode(it.remedy)]
  ));
  const rows = hubs.flatMap((hub) => [...parts(hub), ...isolated(hub)]);
  const titles = [['Hub', 'long'], ['What'], ['Count', 'number'], ['Why', 'long'], ['What to do', 'long']];
  return [
    rows.length ? table(titles, rows) : el('p', { class: 'quiet' }, 'Nothing: each hub has a place for all that was sent.'),
    el('p', { class: 'quiet' }, 'What a hub refuses is among the refusals of each spoke, with the reason ', el('code', {}, 'hub'), '.'),
  ];
}

function lastHour(history) {
  return el(
    'div', { class: 'charts' },
    band('State', history.state, history.step_seconds),
    chart('Requests a second', [['', history.requests_per_second]], number),
    chart('Failed, requests a second', [['', history.failed_per_second]], number),
    chart('Time of a request', [['half', history.duration_p50_seconds], ['99 of 100', history.duration_p99_seconds]], time),
    chart('Requests under way', [['', history.requests_in_flight], ['limit', history.requests_in_flight_limit]], number),
    chart('Requests waiting', [['', history.requests_waiting]], number),
  );
}

function lines(texts) {
  return texts.map((text) => el('div', {}, text));
}

/** Draws the reasons into a section. */
export function drawReasons(section, reasons) {
  const of = (refuses) => el(
    'dl', { class: 'facts' },
    reasons.filter((it) => it.refuses === refuses).flatMap((it) => [
      el('dt', { id: `reason-${it.name}` }, el('code', {}, it.name), it.status ? ` ${it.status}` : ''),
      el('dd', {}, withCode(it.meaning), ' ', withCode(it.remedy)),
    ]),
  );
  render(
    section,
    el('h1', { id: 'reasons-title' }, 'Reasons'),
    el('h2', {}, 'Of refused requests'), of('request'),
    el('h2', {}, 'Of refused series and samples'), of('series'),
  );
}

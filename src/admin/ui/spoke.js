// Everything about one spoke.

import { chart } from './charts.js';
import { ago, bytes, condition, course, duration, el, foreign, moment, number, quantity, render, share, visible, withCode } from './text.js';

const KINDS = ['float', 'histogram', 'exemplar', 'metadata'];

/** Draws a spoke into a section. */
export function drawSpoke(section, spoke, reasons, now, up) {
  render(
    section,
    el('h1', { id: 'spoke-title' }, foreign(spoke.name)),
    el(
      'p', {}, spoke.conditions.map((it) => el('span', { class: `state ${it}` }, condition(it))),
      el('span', { class: 'quiet' }, course(spoke, up)),
    ),
    facts(spoke, now),
    el('h2', {}, 'Last hour'),
    charts(spoke.history, reasons),
    el('h2', {}, 'Refusals'),
    refusals(spoke, reasons, now),
    el('h2', {}, 'Limits'),
    limits(spoke.limits),
    activeSeries(spoke.active_series),
    el('h2', {}, 'Samples since the start'),
    samples(spoke.samples),
    el('h2', {}, 'Requests since the start'),
    requests(spoke.requests),
    el('h2', {}, 'Credentials'),
    credentials(spoke.credentials, now),
    el('h2', {}, 'Rules'),
    rules(spoke.rules),
    el('h2', {}, 'For its Prometheus'),
    el('p', { class: 'quiet' }, 'HUBGATE is the name or address by which the spoke reaches hubgate; the secret is in the file.'),
    el('pre', { tabindex: '0', 'aria-label': 'remote_write' }, el('code', {}, visible(spoke.remote_write).replaceAll('\\u{a}', '\n'))),
  );
}

function facts(spoke, now) {
  const newest = spoke.newest_sample_timestamp_seconds;
  return list([
    ['Last write', ago(spoke.last_write_timestamp_seconds, now)],
    ['Samples a second', number(spoke.samples_per_second)],
    ['Lag', newest == null ? '–' : `${duration(spoke.lag_seconds)}; newest sample of ${moment(newest)}`],
    ['Refused in 5 minutes', share(spoke.rejected_ratio)],
    ['Protocol', spoke.protocol ?? '–'],
    ['Sender', foreign(spoke.user_agent || '–')],
    ['Addresses', spoke.source_addresses.length
      ? `${spoke.source_addresses.join(', ')} (${spoke.address_source})` : '–'],
    ['Bytes in flight', bytes(spoke.bytes_in_flight)],
  ]);
}

function list(pairs) {
  return el('dl', { class: 'facts' }, pairs.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, value)]));
}

function charts(history, reasons) {
  const unit = (reason) => reasons.get(reason)?.counts ?? 'refusals';
  return el(
    'div', { class: 'charts' },
    chart('Written, samples a second', [['', history.written_per_second]], number),
    chart('Refused, samples a second', [['', history.rejected_per_second]], number),
    chart('Failed, samples a second', [['', history.failed_per_second]], number),
    chart('Lag', [['', history.lag_seconds]], duration),
    Object.entries(history.limits_used_ratio).map(([limit, used]) => (
      chart(`Used of ${limit}`, [['', used]], (part) => (part == null ? '–' : share(part)), 1)
    )),
    Object.entries(history.refusals_per_second).filter(([, rates]) => rates.some((rate) => rate > 0)).map(
      ([reason, rates]) => chart(`${reason}, ${unit(reason)} a second`, [['', rates]], number),
    ),
  );
}

/** A table with these titles, each with a class for its column, and rows of which the first cell is a heading. */
export function table(titles, rows) {
  const heads = titles.map(([title, kind]) => el('th', { scope: 'col', class: kind }, title));
  const cells = (row) => row.map((cell, place) => {
    const kind = titles[place][1];
    return place ? el('td', { class: kind }, cell) : el('th', { scope: 'row', class: kind }, cell);
  });
  return el(
    'div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': titles[0][0] },
    el('table', {}, el('thead', {}, el('tr', {}, heads)), el('tbody', {}, rows.map((row) => el('tr', {}, cells(row))))),
  );
}

function none(text) {
  return el('p', { class: 'quiet' }, text);
}

function refusals(spoke, reasons, now) {
  if (!spoke.refusals.length) return none('Nothing was refused since the start.');
  const sorted = [...spoke.refusals].sort((a, b) => b.last_timestamp_seconds - a.last_timestamp_seconds);
  const titles = [['Reason'], ['Count', 'number'], ['Last', 'number'], ['What it means, and what to do', 'long'], ['Last example', 'long']];
  return table(titles, sorted.map((it) => {
    const known = reasons.get(it.reason);
    const advice = known ? [...withCode(known.meaning), ' ', ...withCode(known.remedy)] : [];
    const example = el('code', {}, foreign(it.example));
    return [it.reason, `${number(it.count)} ${known?.counts ?? ''}`, ago(it.last_timestamp_seconds, now), advice, example];
  }));
}

function limits(all) {
  if (!all.length) return none('No limit is configured or was exceeded.');
  const titles = [['Limit'], ['Used', 'number'], ['Of', 'number'], ['Share'], ['Exceeded', 'number'], ['Mode']];
  return table(titles, all.map((it) => {
    const part = it.used == null ? null : it.used / it.limit;
    const meter = part == null ? '–' : [
      el('meter', { min: 0, max: 1, high: 0.8, value: Math.min(1, part), 'aria-label': it.name }), ` ${share(part)}`,
    ];
    return [it.name, quantity(it.name, it.used), quantity(it.name, it.limit), meter, number(it.exceeded), it.mode === 'observe' ? 'observe: counted, not refused' : it.mode];
  }));
}

/** The metrics that use up a limit of active series. The paragraph is there without any as well, or what is
 * below would be built again when it appears. */
function activeSeries(all) {
  const growing = all?.growing ?? [];
  if (!growing.length) return el('p', { hidden: true });
  const names = growing.map((it) => [foreign(it.metric), ` ${number(it.new)}`]);
  const text = names.flatMap((name, place) => (place ? [', ', ...name] : name));
  return el('p', {}, 'Most new series lately: ', text);
}

function samples(all) {
  const rows = [
    ['received', all.received], ['written', all.written], ['failed, sent again', all.failed],
    ...Object.entries(all.rejected).map(([reason, counts]) => [`rejected: ${reason}`, counts]),
  ];
  const titles = [['Samples'], ...KINDS.map((kind) => [kind, 'number'])];
  return table(titles, rows.map(([name, counts]) => [name, ...KINDS.map((kind) => number(counts[kind]))]));
}

function requests(all) {
  if (!all.length) return none('No request came since the start.');
  const titles = [['Response'], ['Protocol'], ['Requests', 'number']];
  return table(titles, all.map((it) => [it.code, it.protocol ?? 'not known', number(it.count)]));
}

function credentials(all, now) {
  const titles = [['Credential', 'long'], ['Last used', 'number'], ['Expires', 'number']];
  const expiry = (it) => {
    const end = it.expiry_timestamp_seconds;
    if (end == null) return 'never';
    return end < now ? el('span', { class: 'state refused' }, `expired ${ago(end, now)}`) : `in ${duration(end - now)}`;
  };
  return table(titles, all.map((it) => [foreign(it.name), ago(it.last_used_timestamp_seconds, now), expiry(it)]));
}

function rules(rules) {
  return list([
    ['Cluster label', el('code', {}, rules.cluster_label)],
    ['Label absent', rules.absent],
    ['Label of another spoke', rules.mismatch],
    ['Source ranges', rules.source_ranges.join(', ')],
    ['Weight', String(rules.weight)],
    ['Status where a limit refuses for now', String(rules.limit_answer)],
  ]);
}

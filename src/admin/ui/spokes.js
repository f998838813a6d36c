// The table of the spokes.

import { drawSpark, spark } from './charts.js';
import { ago, condition, course, duration, el, foreign, moment, number, put, share, visible } from './text.js';

const CONDITIONS = ['never_came', 'silent', 'refused', 'failing', 'limited', 'late', 'writing'];

/** The rows that are built before the first paint; the others follow while nothing else is to be done. */
const FIRST_ROWS = 40;

/** The spokes with what changed of them: columns for all of them, and those that changed as a whole. */
export function merged(spokes, { columns, spokes: changed }) {
  const { limits_used: used, ...fields } = columns;
  const whole = new Map(changed.map((it) => [it.name, it]));
  return spokes.map((spoke, place) => {
    const values = Object.entries(fields).map(([name, column]) => [name, column[place]]);
    const limits = spoke.limits.map((it) => ({ ...it, used: used[place][it.name] ?? null }));
    return whole.get(spoke.name) ?? { ...spoke, ...Object.fromEntries(values), limits };
  });
}

const worst = (spoke) => CONDITIONS.indexOf(spoke.conditions[0]);
const usage = (spoke) => Math.max(0, ...spoke.limits.map((it) => (it.used ?? 0) / it.limit));
const reasons = (spoke) => [...spoke.refusals].sort((a, b) => b.last_timestamp_seconds - a.last_timestamp_seconds);

/** A column: its title, what it sorts by, and whether the first click sorts the largest first. */
const COLUMNS = {
  name: { title: 'Spoke', by: (it) => it.name },
  state: { title: 'State', by: worst },
  rate: { title: 'Samples/s', by: (it) => it.samples_per_second, down: true, class: 'number' },
  hour: { title: 'Last hour', class: 'optional' },
  lag: { title: 'Lag', by: (it) => it.lag_seconds ?? Infinity, down: true, class: 'number' },
  written: { title: 'Last write', by: (it) => it.last_write_timestamp_seconds ?? 0, class: 'number' },
  refused: { title: 'Refusals', by: (it) => it.rejected_ratio, down: true },
  limits: { title: 'Limit', by: usage, down: true, class: 'optional' },
  sender: { title: 'Sender', by: (it) => it.user_agent, class: 'optional' },
};

export class SpokesView {
  /** `change` is told of a new search, order or filter, which belong to the URL. */
  constructor(change) {
    this.change = change;
    this.rows = new Map();
    this.history = new Map();
    this.wanted = { q: '', sort: 'state', dir: 'asc', state: '' };
    this.body = document.getElementById('rows');
    this.query = document.getElementById('query');
    this.count = document.getElementById('count');
    this.query.addEventListener('input', () => this.want({ q: this.query.value }));
    document.getElementById('filters').addEventListener('submit', (event) => event.preventDefault());
    this.headings();
    this.filters();
    // Rows out of sight are brought up to date when they come near.
    this.near = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const row = this.rows.get(target.dataset.name);
        if (!row) continue;
        row.near = isIntersecting;
        if (isIntersecting && row.stale) this.draw(row);
      }
    }, { rootMargin: '600px 0px' });
  }

  headings() {
    this.heads = Object.entries(COLUMNS).map(([key, column]) => {
      const sort = () => {
        const same = this.wanted.sort === key;
        const first = column.down ? 'desc' : 'asc';
        const other = first === 'desc' ? 'asc' : 'desc';
        this.want({ sort: key, dir: same && this.wanted.dir === first ? other : first });
      };
      const title = column.by ? el('button', { type: 'button', on: { click: sort } }, column.title) : column.title;
      return [key, el('th', { scope: 'col', class: column.class }, title)];
    });
    document.getElementById('columns').append(...this.heads.map(([, head]) => head));
  }

  filters() {
    this.buttons = ['', ...CONDITIONS].map((state) => {
      const choose = () => this.want({ state });
      const text = state ? condition(state) : 'all';
      return [state, el('button', { type: 'button', on: { click: choose } }, text)];
    });
    document.getElementById('states').append(...this.buttons.map(([, button]) => button));
  }

  want(changes) {
    Object.assign(this.wanted, changes);
    this.change(this.wanted);
    this.arrange();
  }

  /** Takes the search, order and filter from the parameters of the URL. */
  restore(parameters) {
    const sort = parameters.get('sort');
    const state = parameters.get('state');
    this.wanted = {
      q: parameters.get('q') ?? '',
      sort: COLUMNS[sort]?.by ? sort : 'state',
      dir: parameters.get('dir') === 'desc' ? 'desc' : 'asc',
      state: CONDITIONS.includes(state) ? state : '',
    };
    if (this.query.value !== this.wanted.q) this.query.value = this.wanted.q;
    this.arrange();
  }

  /** Moves the focus to a spoke, as far as it is shown. */
  focus(name) {
    this.rows.get(name)?.element.querySelector('a').focus({ preventScroll: true });
  }

  /** Takes the spokes as they are now, at a hubgate that runs for this time. */
  update(spokes, now, up) {
    this.now = now;
    this.up = up;
    this.spokes = spokes;
    const names = new Set(spokes.map((it) => it.name));
    for (const [name, row] of this.rows) {
      if (names.has(name)) continue;
      this.near.unobserve(row.element);
      row.element.remove();
      this.rows.delete(name);
    }
    const missing = [];
    for (const spoke of spokes) {
      const row = this.rows.get(spoke.name);
      if (!row) {
        missing.push(spoke);
        continue;
      }
      row.spoke = spoke;
      this.touch(row);
    }
    const order = missing.length > FIRST_ROWS ? this.sorted(missing) : missing;
    for (const spoke of order.slice(0, FIRST_ROWS)) this.add(spoke);
    this.later(order.slice(FIRST_ROWS));
    this.arrange();
  }

  /** Builds the other rows a few at a time, so that the page answers meanwhile. */
  later(spokes) {
    if (!spokes.length) return;
    this.pending = new Map(spokes.map((it) => [it.name, it]));
    const build = () => {
      for (const spoke of [...this.pending.values()].slice(0, FIRST_ROWS)) {
        this.pending.delete(spoke.name);
        if (!this.rows.has(spoke.name)) this.add(spoke);
      }
      this.arrange();
      if (this.pending.size) setTimeout(build);
    };
    setTimeout(build);
  }

  /** Another process counts the steps anew. */
  forget() {
    this.history.clear();
  }

  /** Takes the steps of the history that are new. */
  updateHistory(spokes) {
    for (const [name, steps] of Object.entries(spokes)) {
      this.history.set(name, [...(this.history.get(name) ?? []), ...steps].slice(-240));
      const row = this.rows.get(name);
      if (!row) continue;
      row.drawn = null;
      this.touch(row);
    }
    for (const name of this.history.keys()) {
      if (!(name in spokes)) this.history.delete(name);
    }
  }

  add(spoke) {
    const cells = Object.fromEntries(
      Object.entries(COLUMNS).slice(1).map(([key, column]) => [key, el('td', { class: column.class })]),
    );
    const link = el('a', { href: `#/spokes/${encodeURIComponent(spoke.name)}` }, foreign(spoke.name));
    const element = el(
      'tr', { 'data-name': spoke.name }, el('th', { scope: 'row', class: 'long' }, link), Object.values(cells),
    );
    const line = spark();
    cells.hour.append(line.element);
    cells.sender.classList.add('clip');
    const row = { spoke, element, cells, line, near: true };
    this.rows.set(spoke.name, row);
    this.draw(row);
    this.near.observe(element);
  }

  touch(row) {
    row.stale = true;
    if (row.near) this.draw(row);
  }

  draw(row) {
    const { spoke, cells } = row;
    row.stale = false;
    const said = course(spoke, this.up);
    const state = [...spoke.conditions, said].join();
    if (row.state !== state) {
      row.state = state;
      cells.state.replaceChildren(
        ...spoke.conditions.map((it) => el('span', { class: `state ${it}` }, condition(it))),
        ...(said ? [el('span', { class: 'quiet' }, said)] : []),
      );
    }
    put(cells.rate, number(spoke.samples_per_second));
    put(cells.lag, duration(spoke.lag_seconds));
    put(cells.written, ago(spoke.last_write_timestamp_seconds, this.now));
    if (spoke.last_write_timestamp_seconds != null) {
      cells.written.title = moment(spoke.last_write_timestamp_seconds);
    }
    const recent = reasons(spoke).filter((it) => this.now - it.last_timestamp_seconds < 300);
    const part = spoke.rejected_ratio > 0 ? `${share(spoke.rejected_ratio)} ` : '';
    put(cells.refused, recent.length ? part + recent.map((it) => it.reason).join(', ') : '');
    const tight = [...spoke.limits].sort((a, b) => (b.used ?? 0) / b.limit - (a.used ?? 0) / a.limit)[0];
    const observed = tight?.mode === 'observe' ? ', only observed' : '';
    put(cells.limits, tight?.used != null ? `${share(tight.used / tight.limit)} ${tight.name}${observed}` : '');
    const sender = [spoke.protocol, spoke.user_agent, spoke.source_addresses[0]].filter(Boolean).map(visible).join(' ');
    put(cells.sender, sender);
    cells.sender.title = sender;
    if (!row.drawn) {
      row.drawn = true;
      drawSpark(row.line, this.history.get(spoke.name) ?? [], number);
    }
  }

  matches(spoke) {
    const { q, state } = this.wanted;
    if (state && !spoke.conditions.includes(state)) return false;
    if (!q) return true;
    const texts = [
      spoke.name, spoke.user_agent, spoke.protocol, ...spoke.source_addresses, ...spoke.conditions.map(condition),
      ...spoke.refusals.map((it) => it.reason),
    ];
    const words = q.toLowerCase().split(/\s+/).filter(Boolean);
    return words.every((word) => texts.some((text) => text?.toLowerCase().includes(word)));
  }

  sorted(spokes) {
    const { sort, dir } = this.wanted;
    const by = COLUMNS[sort].by;
    const sign = dir === 'desc' ? -1 : 1;
    const keyed = spokes.map((spoke) => [by(spoke), spoke]);
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    keyed.sort((a, b) => sign * compare(a[0], b[0]) || compare(a[1].name, b[1].name));
    return keyed.map(([, spoke]) => spoke);
  }

  /** Shows the rows that are wanted, in their order. Only those that change place are moved. */
  arrange() {
    for (const [key, head] of this.heads) {
      const direction = this.wanted.dir === 'desc' ? 'descending' : 'ascending';
      if (key === this.wanted.sort) head.setAttribute('aria-sort', direction);
      else head.removeAttribute('aria-sort');
    }
    if (!this.spokes) return;
    for (const [state, button] of this.buttons) {
      const count = state ? this.spokes.filter((it) => it.conditions.includes(state)).length : this.spokes.length;
      put(button, `${state ? condition(state) : 'all'} ${count}`);
      button.setAttribute('aria-pressed', String(state === this.wanted.state));
    }
    const shown = this.sorted(this.spokes.filter((it) => this.matches(it)));
    const names = new Set(shown.map((it) => it.name));
    for (const [name, row] of this.rows) row.element.hidden = !names.has(name);
    const all = `${this.spokes.length} ${this.spokes.length === 1 ? 'spoke' : 'spokes'}`;
    put(this.count, shown.length === this.spokes.length ? all : `${shown.length} of ${all}`);
    // A row that moves loses the focus, so the order waits while somebody is in the table; new rows go to its end.
    if (this.body.contains(document.activeElement) && this.placed) {
      const elements = shown.map(({ name }) => this.rows.get(name)?.element);
      this.body.append(...elements.filter((it) => it && !it.isConnected));
      return;
    }
    this.placed = true;
    let next = this.body.firstElementChild;
    for (const { name } of shown) {
      const element = this.rows.get(name)?.element;
      if (!element) continue;
      while (next?.hidden) next = next.nextElementSibling;
      if (element === next) next = next.nextElementSibling;
      else this.body.insertBefore(element, next);
    }
  }
}

// What was refused before it was known which spoke sends.

import { table } from './spoke.js';
import { ago, el, number, render, visible } from './text.js';

/** What was refused, in a few words; nothing where nothing was. */
export function refusedAtTheDoor(door) {
  const count = (kind) => door.filter((it) => it.refuses === kind).reduce((sum, it) => sum + it.count, 0);
  const words = ['request', 'connection'].map((kind) => [count(kind), kind]).filter(([number]) => number);
  return words.map(([many, kind]) => `${number(many)} ${kind}${many === 1 ? '' : 's'}`).join(' and ');
}

/** Draws it into a section. */
export function drawDoor(section, door, now) {
  const titles = [['Reason'], ['Refused'], ['Last', 'number'], ['Last from', 'long'], ['What is wrong, and what to do', 'long']];
  const rows = door.map((it) => [
    el('code', {}, it.reason), refusedAtTheDoor([it]), ago(it.last_timestamp_seconds, now),
    visible(it.last_source_address ?? 'the log may say'), visible(it.remedy),
  ]);
  render(
    section,
    el('h1', { id: 'door-title' }, 'Refused at the door'),
    el('p', { class: 'quiet' }, 'In the last hour, before it was known which spoke sends.'),
    rows.length ? table(titles, rows) : el('p', {}, 'Nothing was refused.'),
  );
}

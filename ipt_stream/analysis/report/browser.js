// The browser of examples: filters, previous, next, random; texts beside their pairs, or what training sees of them.

function showBrowser(examples) {
  const { index } = examples;
  const fields = Object.fromEntries(['search', 'source', 'round', 'check', 'flag', 'least', 'most'].map((id) => [id, byId(id)]));
  const holder = byId('example');
  const views = [...document.querySelectorAll('[data-view]')];
  let selected = Array.from({ length: examples.count }, (_, number) => number);
  let place = 0;
  let view = 'pairs';
  let asked = 0;

  choices(fields.source, 'All sources', index.sources);
  const rounds = [...new Set(index.rounds.flat())].sort((one, other) => one - other);
  choices(fields.round, 'All rounds', rounds.map((round) => `Round ${round + 1}`), rounds);
  choices(fields.check, 'Any', index.checks.map(words));
  fields.check.parentElement.hidden = index.checks.length === 0;
  byId('source').parentElement.hidden = index.sources.length < 2;
  byId('round').parentElement.hidden = rounds.length < 2;

  function wanted() {
    const number = (field) => (field.value === '' ? null : Number(field.value));
    const [least, most] = [number(fields.least) ?? -Infinity, number(fields.most) ?? Infinity];
    const check = number(fields.check);
    const keeps = check === null ? null : index.keeps[check];
    const fits = {
      flagged: (value) => !holdsFor(keeps, value), kept: (value) => holdsFor(keeps, value),
      yes: (value) => value === 1, no: (value) => value === 0, within: (value) => value >= least && value <= most,
    }[fields.flag.value];
    return { text: fields.search.value.trim(), source: number(fields.source), round: number(fields.round), check, fits };
  }
  /** What can be asked of the check that is chosen. */
  function showCheckFields() {
    const check = fields.check.value === '' ? null : Number(fields.check.value);
    const keeps = check === null ? null : index.keeps[check];
    const ways = [];
    if (check !== null && keeps) ways.push(['flagged', `flagged: ${otherwise(keeps, index.kinds[check])}`], ['kept', 'not flagged']);
    else if (check !== null && index.kinds[check] === 'flag') ways.push(['yes', 'yes'], ['no', 'no']);
    if (check !== null && index.kinds[check] === 'number') ways.push(['within', 'in a range']);
    fields.flag.replaceChildren(...ways.map(([value, name]) => element('option', { value }, name)));
    fields.flag.parentElement.hidden = ways.length === 0;
    const range = check === null ? null : index.ranges[check];
    fields.least.value = fields.most.value = '';
    fields.least.placeholder = range ? amount(range[0]) : '';
    fields.most.placeholder = range ? amount(range[1]) : '';
    showRange();
  }
  function showRange() {
    for (const field of document.querySelectorAll('.filters .range')) field.hidden = fields.flag.value !== 'within';
  }
  async function filter() {
    asked += 1;
    const mine = asked;
    byId('position').textContent = 'Searching …';
    const found = await examples.select(wanted(), () => mine !== asked);
    if (found === null || mine !== asked) return;
    selected = found;
    place = 0;
    await show();
  }
  async function show() {
    const many = selected.length;
    const all = `${whole.format(examples.count)} example${examples.count === 1 ? '' : 's'}`;
    const of = many === examples.count ? all : `${whole.format(many)} found in ${all}`;
    byId('position').textContent = many ? `${whole.format(place + 1)} of ${of}` : `None found in ${all}`;
    byId('previous').disabled = place <= 0;
    byId('next').disabled = place >= many - 1;
    byId('random').disabled = many < 2;
    if (!many) {
      holder.replaceChildren(element('p', { class: 'empty' }, 'Nothing here holds all of that. Clear a filter to see more.'));
      return;
    }
    const number = selected[place];
    const example = await examples.get(number);
    if (number !== selected[place]) return; // somebody went on meanwhile
    const filters = wanted();
    holder.replaceChildren(...(view === 'pairs' ? pairsView(example, index, filters) : renderedView(example, filters)));
  }
  function move(to) {
    if (to < 0 || to >= selected.length || to === place) return;
    place = to;
    show();
  }
  function random() {
    if (selected.length < 2) return;
    const drawn = Math.floor(Math.random() * (selected.length - 1));
    move(drawn < place ? drawn : drawn + 1);
  }

  byId('filters').addEventListener('submit', (event) => event.preventDefault());
  byId('filters').addEventListener('reset', () => setTimeout(() => { showCheckFields(); filter(); }));
  fields.search.addEventListener('input', settled(filter, 180));
  for (const id of ['least', 'most']) fields[id].addEventListener('input', settled(filter, 180));
  for (const id of ['source', 'round']) fields[id].addEventListener('change', filter);
  for (const [id, changed] of [['check', showCheckFields], ['flag', showRange]]) {
    fields[id].addEventListener('change', () => {
      changed();
      filter();
    });
  }
  byId('previous').addEventListener('click', () => move(place - 1));
  byId('next').addEventListener('click', () => move(place + 1));
  byId('random').addEventListener('click', random);
  for (const button of views) {
    button.addEventListener('click', () => {
      view = button.dataset.view;
      press(views, button);
      show();
    });
  }
  document.addEventListener('keydown', (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest('input, select, textarea, .canvas, .scroll')) return;
    const bounds = byId('examples').getBoundingClientRect();
    if (bounds.top > innerHeight * 0.75 || bounds.bottom < innerHeight * 0.1) return; // it is not on the screen
    const act = { ArrowLeft: () => move(place - 1), ArrowRight: () => move(place + 1), r: random, R: random }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  showCheckFields();
  return show();
}

function choices(select, all, names, values = names.map((_, number) => number)) {
  select.replaceChildren(element('option', { value: '' }, all), ...names.map((name, number) => element('option', { value: values[number] }, name)));
}

/** Names of columns as words. */
function words(name) {
  const text = name.replaceAll('_', ' ');
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function identity(example, index) {
  const pairs = example.shots.reduce((sum, shot) => sum + shot.pairs.length, 0);
  const many = (count, noun) => `${whole.format(count)} ${noun}${count === 1 ? '' : 's'}`;
  return element('p', { class: 'identity' }, element('strong', { dir: 'auto' }, example.id), ` · ${many(example.shots.length, 'text')}, ${many(pairs, 'pair')}`);
}

/** Each text beside its pairs. */
function pairsView(example, index, filters) {
  const searched = filters.text === '' ? null : pattern(filters.text, 'giu');
  const shots = example.shots.map((shot) => {
    const caption = element('p', { class: 'caption' }, element('span', {}, `Round ${shot.round + 1}`),
      element('span', { dir: 'auto' }, shot.piece ? `${shot.document}, piece ${shot.piece + 1}` : shot.document),
      shot.inherits ? element('span', {}, 'inherits those above') : null);
    const text = element('div', { class: 'corpus', dir: 'auto' }, ...marked(shot.text, searched), leftOut(shot));
    const pairs = shot.pairs.map((pair) => element('div', { class: 'pair' },
      element('div', { class: 'corpus instruction', dir: 'auto' }, ...marked(pair.instruction, searched)),
      element('div', { class: 'corpus response', dir: 'auto' }, ...marked(pair.response, searched)),
      checksOf(pair, index, filters)));
    const count = shot.pairs.length;
    const beside = element('div', { class: 'side' }, element('p', { class: 'caption' }, count === 1 ? '1 pair' : `${count || 'No'} pairs`), ...pairs);
    return element('div', { class: 'shot' }, element('div', { class: 'side' }, caption, text), beside);
  });
  return [identity(example, index), ...shots];
}

function checksOf(pair, index, filters) {
  const found = pair.checks.map((value, check) => ({ value, check })).filter(({ value }) => value !== null);
  if (!found.length) return null;
  return element('ul', { class: 'found', 'aria-label': 'Checks' }, ...found.map(({ value, check }) => {
    const flagged = index.keeps[check] !== null && !holdsFor(index.keeps[check], Number(value));
    const chosen = filters.check === check && filters.fits(Number(value));
    const shown = typeof value === 'boolean' ? (value ? 'yes' : 'no') : amount(value);
    return element('li', { class: [flagged ? 'flagged' : '', chosen ? 'chosen' : ''].join(' ').trim() || null },
      `${words(index.checks[check])} ${shown}`, flagged ? element('span', { class: 'hidden' }, ', flagged') : null);
  }));
}

/** Whether a condition, a comparison and a number, holds for a value. */
function holdsFor([comparison, limit], value) {
  return {
    '>=': value >= limit, '<=': value <= limit, '>': value > limit, '<': value < limit, '==': value === limit, '!=': value !== limit,
  }[comparison];
}

/** What a value is that a condition does not hold for. */
function otherwise([comparison, limit], kind) {
  if (kind === 'flag') return limit ? 'no' : 'yes';
  return `${{ '>=': '<', '<=': '>', '>': '≤', '<': '≥', '==': '≠', '!=': '=' }[comparison]} ${amount(limit)}`;
}

/** What training sees: the words of the templates, and the texts in their places. */
function renderedView(example, filters) {
  const searched = filters.text === '' ? null : pattern(filters.text, 'giu');
  const texts = example.rendered.map((parts) => element('div', { class: 'rendered corpus', dir: 'auto' }, ...parts.flatMap((part) => {
    if (typeof part === 'string') return marked(part, searched);
    const shot = example.shots[part];
    return [element('span', { class: 'from-text' }, ...marked(shot.text, searched), leftOut(shot))];
  })));
  return [identity(example), ...texts];
}

function leftOut(shot) {
  return shot.left_out ? element('span', { class: 'left-out' }, ` … ${whole.format(shot.left_out)} more characters`) : null;
}

/** `text` in parts, with what was searched for marked. */
function marked(text, searched) {
  if (searched === null) return [text];
  const parts = [];
  let start = 0;
  for (const match of text.matchAll(searched)) {
    if (!match[0]) continue;
    parts.push(text.slice(start, match.index), element('mark', {}, match[0]));
    start = match.index + match[0].length;
  }
  return [...parts, text.slice(start)];
}

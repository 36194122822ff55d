// The gallery: a table of every galaxy of which only the rows in view are in the document.
(() => {
  const section = document.getElementById('gallery');
  const scroller = section?.querySelector('.rows');
  if (!scroller || !Galaxies) return;
  const G = Galaxies, grid = section.querySelector('.table'), spacer = scroller.firstElementChild, head = section.querySelector('.head'), said = section.querySelector('.said');
  const control = Object.fromEntries(['search', 'survey', 'place', 'flag', 'sort', 'descending'].map(n => [n, section.querySelector(`[name=${n}]`)]));
  const SHOWN = 6, shown = G.columns.slice(0, SHOWN);
  const lowered = G.data.names.map(name => name.toLowerCase());
  let order = [], active = 0, timings = {};

  if (G.data.sets.length < 2) control.survey.closest('label').hidden = true;
  for (const kind of G.data.sets) control.survey.append(new Option(kind.label, kind.label));
  for (const flag of G.data.flags) control.flag.append(new Option(`${flag.excludes ? 'out: ' : 'warning: '}${flag.sentence}`, flag.name));
  control.sort.append(new Option('as listed', ''), new Option('name', 'name'));
  for (const column of G.columns) control.sort.append(new Option(`${column.label.replace('_', '')}: ${column.title}`, column.key));

  const heads = new Map();
  for (const [key, label, title] of [['', 'data · model · residual', ''], ['name', 'name', ''], ...shown.map(c => [c.key, c.label, `${c.title}${c.unit ? ', ' + c.unit : ''}`]), ['', 'flags', '']]) {
    const cell = make('div', 'cell');
    cell.setAttribute('role', 'columnheader');
    if (key) {
      const button = labelled(make('button'), label);
      button.type = 'button';
      button.title = title ? `${title}: sort` : 'sort';
      button.addEventListener('click', () => {
        control.descending.checked = control.sort.value === key ? !control.descending.checked : key !== 'name';
        control.sort.value = key;
        apply();
      });
      cell.append(button);
      heads.set(key, cell);
    } else cell.textContent = label;
    head.append(cell);
  }
  section.style.setProperty('--numbers', shown.length);

  function filter() {
    const words = control.search.value.trim().toLowerCase(), survey = control.survey.value, place = control.place.value;
    const flag = G.data.flags.findIndex(f => f.name === control.flag.value);
    const carries = G.data.combinations.map(list => flag < 0 || list.includes(flag));
    const ofSurvey = G.data.sets.map(kind => !survey || kind.label === survey);
    order = [];
    for (let k = 0; k < G.count; k++) {
      if (!carries[G.combination[k]] || !ofSurvey[G.set[k]]) continue;
      if (place && (place === 'used') !== G.used(k)) continue;
      if (words && !lowered[k].includes(words)) continue;
      order.push(k);
    }
  }

  const collator = new Intl.Collator(undefined, { numeric: true });
  let ranks = null; // of the names, made once: collating is slow
  function rank() {
    if (ranks) return ranks;
    const byName = [...G.data.names.keys()].sort((a, b) => collator.compare(G.name(a), G.name(b)));
    ranks = new Float64Array(G.count);
    byName.forEach((k, place) => { ranks[k] = place; });
    return ranks;
  }

  function sort() {
    const key = control.sort.value, sign = control.descending.checked ? -1 : 1;
    for (const [name, cell] of heads) cell.setAttribute('aria-sort', name !== key ? 'none' : sign > 0 ? 'ascending' : 'descending');
    if (!key) { if (sign < 0) order.reverse(); return; }
    const values = key === 'name' ? rank() : G.column(key).numbers;
    const known = order.filter(k => !Number.isNaN(values[k])), missing = order.filter(k => Number.isNaN(values[k]));
    order = known.sort((a, b) => sign * (values[a] - values[b]) || a - b).concat(missing); // what is missing comes last, whichever way
  }

  const rowHeight = () => parseFloat(getComputedStyle(scroller).getPropertyValue('--row'));

  function row(place) {
    const k = order[place], line = make('div', G.used(k) ? 'row used' : 'row');
    line.setAttribute('role', 'row');
    line.setAttribute('aria-rowindex', place + 2);
    line.id = `row-${place}`;
    line.dataset.place = place;
    if (place === active) line.classList.add('active');
    const add = (className, content, label) => {
      const cell = make('div', `cell ${className}`);
      cell.setAttribute('role', 'gridcell');
      if (label) cell.dataset.label = label.replace('_', '');
      cell.append(content);
      line.append(cell);
    };
    add('map', G.thumbnail(k) ?? make('span', 'nomap', 'no map'));
    const link = make(G.hasPage(k) ? 'a' : 'button', 'open', G.name(k));
    if (G.hasPage(k)) link.href = G.address(k); else link.type = 'button';
    link.tabIndex = -1;
    const name = make('div');
    name.append(link, make('span', 'kind', G.kind(k).label));
    add('name', name);
    for (const column of shown) {
      const [value, error] = G.words(column, k, false).split(' ± '), number = make('span', '', value);
      if (error) number.append(make('small', '', ` ± ${error}`));
      add('number', number, column.label);
    }
    const flags = G.flagsOf(k), out = flags.filter(flag => flag.excludes);
    const more = flags.length - (out.length ? 1 : 0);
    const text = out.length ? out[0].sentence : G.used(k) ? 'in the relation' : 'not in the relation';
    add(out.length ? 'flags out' : 'flags', make('span', '', more ? `${text} +${more}` : text));
    return line;
  }

  function render() {
    const height = rowHeight(), first = Math.max(0, Math.floor(scroller.scrollTop / height) - 4);
    const last = Math.min(order.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / height) + 4);
    const lines = [];
    for (let place = first; place < last; place++) {
      const line = row(place);
      line.style.top = `${place * height}px`;
      lines.push(line);
    }
    spacer.replaceChildren(...lines);
    spacer.style.height = `${order.length * height}px`;
    const there = order.length && active >= first && active < last;
    if (there) grid.setAttribute('aria-activedescendant', `row-${active}`); else grid.removeAttribute('aria-activedescendant');
  }

  function apply() {
    const start = performance.now();
    filter();
    timings.filter = performance.now() - start;
    sort();
    timings.sort = performance.now() - start - timings.filter;
    active = 0;
    scroller.scrollTop = 0;
    grid.setAttribute('aria-rowcount', order.length + 1);
    render();
    const all = G.count.toLocaleString('en'), here = order.length.toLocaleString('en');
    said.textContent = order.length ? `${here} of ${all} galaxies` : `No galaxy of ${all} fits these filters.`;
    timings.all = performance.now() - start;
    section.dataset.milliseconds = timings.all.toFixed(1);
  }

  function move(place) {
    if (!order.length) return;
    active = Math.max(0, Math.min(order.length - 1, place));
    const height = rowHeight(), top = active * height;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top + height > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + height - scroller.clientHeight;
    render();
  }

  for (const element of [control.survey, control.place, control.flag, control.sort, control.descending]) element.addEventListener('change', apply);
  control.search.addEventListener('input', apply);
  let waiting = false;
  scroller.addEventListener('scroll', () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; render(); });
  }, { passive: true });
  new ResizeObserver(render).observe(scroller);

  grid.addEventListener('keydown', event => {
    if (event.target.closest('.head')) return;
    const page = Math.max(1, Math.floor(scroller.clientHeight / rowHeight()) - 1);
    const steps = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: order.length - 1 };
    if (event.key in steps) move(steps[event.key]);
    else if (event.key === 'Enter' && order.length) G.open(order[active]);
    else return;
    event.preventDefault();
  });
  scroller.addEventListener('click', event => {
    const line = event.target.closest('.row');
    if (!line || event.target.closest('a')) return;
    active = Number(line.dataset.place);
    render();
    G.open(order[active]);
  });
  apply();
})();

'use strict';
// What the page knows of every galaxy: decoded from the columns when they are first asked for.
const Galaxies = (() => {
  const element = document.getElementById('galaxy-data');
  const data = element ? JSON.parse(element.textContent) : null;
  if (!data) return null;
  const count = data.names.length;

  function numbers(text, digits) {
    const out = new Float64Array(count).fill(NaN);
    if (!count) return out;
    const cells = text.split(','), scale = 10 ** digits;
    for (let k = 0; k < count; k++) if (cells[k] !== '') out[k] = cells[k] / scale;
    return out;
  }

  const kept = new Map();
  function once(key, make) {
    if (!kept.has(key)) kept.set(key, make());
    return kept.get(key);
  }

  const set = numbers(data.set, 0), combination = numbers(data.combination, 0);
  const sheet = numbers(data.sheet, 0), slot = numbers(data.slot, 0);
  const columns = data.columns.map(column => ({
    ...column,
    get numbers() { return once(column.key, () => numbers(column.values, column.digits)); },
    get sigmas() { return column.errors ? once(column.key + ' err', () => numbers(column.errors, column.digits)) : null; },
  }));

  const shown = (value, digits) => value.toFixed(digits).replace('-', '−');
  function words(column, k, unit = true) {
    const value = column.numbers[k], sigma = column.sigmas ? column.sigmas[k] : NaN;
    if (Number.isNaN(value)) return '–';
    const error = Number.isNaN(sigma) ? '' : ' ± ' + shown(sigma, column.digits);
    const space = /^[°″]/.test(column.unit) ? '' : ' ';
    return shown(value, column.digits) + error + (unit && column.unit ? space + column.unit : '');
  }

  const file = k => data.files[k] ?? data.names[k];
  const address = k => `galaxies/${data.sets[set[k]].folder}/${encodeURIComponent(file(k))}.html`;
  const flagsOf = k => data.combinations[combination[k]].map(f => data.flags[f]);

  // The thumbnail of galaxy k: three panels cut out of its sheet. Null where it has no map.
  function thumbnail(k, scale = 1) {
    if (Number.isNaN(sheet[k])) return null;
    const side = data.side * scale, box = document.createElement('div');
    box.className = 'thumb';
    box.setAttribute('role', 'img');
    box.setAttribute('aria-label', `Velocity, model and residual of ${data.names[k]}`);
    box.style.width = `${3 * side}px`;
    box.style.height = `${side}px`;
    box.style.backgroundImage = `url("gallery/${data.sheets[sheet[k]]}")`;
    box.style.backgroundSize = `${3 * side * data.across}px auto`;
    box.style.backgroundPosition = `${-3 * side * (slot[k] % data.across)}px ${-side * Math.floor(slot[k] / data.across)}px`;
    return box;
  }

  // A name as one would type it in a shell.
  const quoted = name => /^[\w.+-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`;

  return {
    data, count, columns, set, combination, numbers, words, address, flagsOf, thumbnail, quoted,
    name: k => data.names[k], used: k => data.used[k] === '1', hasPage: k => data.page[k] === '1', kind: k => data.sets[set[k]],
    why: k => flagsOf(k).find(flag => flag.excludes)?.sentence ?? '',
    column: key => columns.find(column => column.key === key),
    open(k) { if (data.page[k] === '1') location.href = address(k); else Panel.show(k); },
  };
})();

// A label with its subscript: V_max.
function labelled(element, label) {
  const [symbol, below] = label.split('_');
  element.replaceChildren(symbol);
  if (below) {
    const [index, ...rest] = below.split(' ');
    element.append(make('sub', '', index), rest.length ? ' ' + rest.join(' ') : '');
  }
  return element;
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

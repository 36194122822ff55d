// A relation on canvas: every galaxy a point, the fit with its scatter, published lines, the residuals below.
(() => {
  const section = document.getElementById('relation');
  const box = section?.querySelector('.plot');
  if (!box || !Galaxies) return;
  const G = Galaxies, data = JSON.parse(document.getElementById('relation-data').textContent);
  const [base, over] = box.querySelectorAll('canvas'), tip = box.querySelector('.tip'), picked = section.querySelector('.picked');
  const control = Object.fromEntries([...section.querySelectorAll('select, input')].map(e => [e.name, e]));
  const summary = section.querySelector('.fit'), legend = section.querySelector('.lines');
  const decoded = new Map();
  const DASHES = [[7, 3], [2, 3], [9, 3, 2, 3], [5, 2, 1, 2], [12, 4], [3, 4]];
  const COLOURS = ['#c77700', '#56b4e9', '#cc79a7', '#009e73', '#d55e00', '#0072b2'];
  let view = null, points = [];

  for (const [name, options] of Object.entries(data.options)) {
    control[name].append(...options.map(([value, words]) => new Option(words, value)));
    control[name].value = data.start[name];
  }

  function axis(name) {
    if (!decoded.has(name) && data.axes[name]) {
      const a = data.axes[name];
      decoded.set(name, { label: a.label, values: G.numbers(a.values, a.digits), errors: G.numbers(a.errors, a.digits) });
    }
    return decoded.get(name);
  }

  const chosen = () => data.fits.find(f => f.relation === control.relation.value && f.velocity === control.velocity.value && f.method === control.method.value);
  const isLine = fit => fit && !fit.error && Number.isFinite(fit.slope);
  const number = (value, digits = 3) => Number.isFinite(value) ? value.toFixed(digits).replace('-', '−') : '–';

  function quantile(sorted, q) { return sorted[Math.min(sorted.length - 1, Math.max(0, Math.round(q * (sorted.length - 1))))]; }
  function limits(list, of) {
    const all = list.map(of).sort((a, b) => a - b), used = list.filter(p => p.kind !== 'excluded').map(of).sort((a, b) => a - b);
    const core = used.length > 1 ? used : all;
    if (!core.length) return [0, 1];
    const low = core[0], high = core[core.length - 1], span = Math.max(high - low, 0.2);
    const least = Math.max(Math.min(low, quantile(all, 0.05)), low - 0.35 * span), most = Math.min(Math.max(high, quantile(all, 0.95)), high + 0.35 * span);
    return [least - 0.06 * span, most + 0.06 * span];
  }

  function gather(fit) {
    const x = axis(fit.x), y = axis(fit.y), outliers = new Set(fit.outliers ?? []), surveys = fit.surveys?.length ? new Set(fit.surveys) : null;
    const list = [];
    if (!x || !y) return list;
    for (let k = 0; k < G.count; k++) {
      if (Number.isNaN(x.values[k]) || Number.isNaN(y.values[k]) || (surveys && !surveys.has(G.kind(k).survey))) continue;
      const kind = !G.used(k) ? 'excluded' : outliers.has(k) ? 'outlier' : 'used';
      list.push({ k, x: x.values[k], y: y.values[k], ex: x.errors[k], ey: y.errors[k], kind });
    }
    return list;
  }

  function mark(context, marker, x, y, r) {
    context.beginPath();
    if (marker === 's') context.rect(x - r * 0.88, y - r * 0.88, r * 1.76, r * 1.76);
    else if (marker === 'D') { context.moveTo(x, y - r * 1.2); context.lineTo(x + r * 1.2, y); context.lineTo(x, y + r * 1.2); context.lineTo(x - r * 1.2, y); context.closePath(); }
    else if (marker === '^') { context.moveTo(x, y - r * 1.15); context.lineTo(x + r, y + r * 0.75); context.lineTo(x - r, y + r * 0.75); context.closePath(); }
    else context.arc(x, y, r, 0, 7);
  }

  function ticks(low, high, count) {
    const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find(s => s * power >= raw) * power;
    const out = [];
    for (let t = Math.ceil(low / step); t * step <= high + 1e-9; t++) out.push(+(t * step).toPrecision(10));
    return out;
  }

  function layout(fit) {
    const width = box.clientWidth, height = Math.round(Math.max(420, Math.min(640, width * 0.82))), ratio = Math.min(devicePixelRatio || 1, 2);
    for (const canvas of [base, over]) {
      canvas.width = width * ratio; canvas.height = height * ratio; canvas.style.height = `${height}px`;
      canvas.getContext('2d').setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    const left = 54, right = width - 10, split = Math.round((height - 46) * 0.75), bottom = height - 44;
    const line = isLine(fit) ? x => fit.slope * (x - fit.pivot) + fit.intercept : null;
    const xs = limits(points, p => p.x), ys = limits(points, p => p.y);
    if (fit.y === data.magnitude) ys.reverse();
    const residuals = line ? points.filter(p => p.kind !== 'excluded').map(p => Math.abs(p.y - line(p.x))).sort((a, b) => a - b) : [];
    const reach = residuals.length ? 1.15 * Math.max(3 * (fit.rms || 0), quantile(residuals, 0.99)) : 0.3;
    const X = x => left + (x - xs[0]) / (xs[1] - xs[0]) * (right - left), Y = y => 10 + (ys[1] - y) / (ys[1] - ys[0]) * (split - 10);
    const sign = fit.y === data.magnitude ? -1 : 1, R = r => (split + 16 + bottom) / 2 - sign * r / reach * (bottom - split - 16) / 2;
    return { width, height, left, right, top: 10, split, lower: split + 16, bottom, line, xs, ys, reach, X, Y, R };
  }

  function draw() {
    const fit = chosen();
    describe(fit);
    over.getContext('2d').clearRect(0, 0, over.width, over.height);
    tip.hidden = true;
    points = fit ? gather(fit) : [];
    view = layout(fit ?? {});
    const context = base.getContext('2d'), v = view;
    context.clearRect(0, 0, v.width, v.height);
    context.font = '12px system-ui, sans-serif';
    if (!fit || !points.length) {
      context.fillStyle = '#555';
      context.fillText(fit ? 'No galaxy has both axes.' : 'This combination was not fitted.', v.left, v.split / 2);
      return;
    }
    frame(context, fit);
    const panel = (top, bottom, paint) => { context.save(); context.beginPath(); context.rect(v.left, top, v.right - v.left, bottom - top); context.clip(); paint(); context.restore(); };
    panel(v.top, v.split, () => { band(context, fit); dots(context, p => v.Y(p.y)); lines(context, fit); });
    if (v.line) panel(v.lower, v.bottom, () => {
      context.fillStyle = '#8a8a8a40';
      const half = Math.abs(v.R(fit.scatter || 0) - v.R(0));
      context.fillRect(v.left, v.R(0) - half, v.right - v.left, 2 * half);
      dots(context, p => v.R(p.y - v.line(p.x)));
      context.strokeStyle = '#111'; context.lineWidth = 1.4;
      context.beginPath(); context.moveTo(v.left, v.R(0)); context.lineTo(v.right, v.R(0)); context.stroke();
    });
  }

  function frame(context, fit) {
    const v = view;
    context.strokeStyle = '#999'; context.fillStyle = '#444'; context.lineWidth = 1;
    for (const [top, bottom] of [[v.top, v.split], [v.lower, v.bottom]]) { context.beginPath(); context.moveTo(v.left + 0.5, top); context.lineTo(v.left + 0.5, bottom + 0.5); context.lineTo(v.right, bottom + 0.5); context.stroke(); }
    context.textAlign = 'center';
    for (const t of ticks(...v.xs, Math.max(3, v.width / 110))) { context.fillText(number(t, 4).replace(/\.?0+$/, ''), v.X(t), v.bottom + 16); context.fillRect(v.X(t), v.bottom, 1, 4); }
    context.fillText(axis(fit.x).label, (v.left + v.right) / 2, v.height - 8);
    context.textAlign = 'right';
    for (const t of ticks(Math.min(...v.ys), Math.max(...v.ys), 6)) context.fillText(number(t, 4).replace(/\.?0+$/, ''), v.left - 6, v.Y(t) + 4);
    if (v.line) for (const t of ticks(-v.reach, v.reach, 5)) context.fillText(number(t, 4).replace(/\.?0+$/, ''), v.left - 6, v.R(t) + 4);
    context.textAlign = 'center';
    for (const [text, y] of [[axis(fit.y).label, (v.top + v.split) / 2], ['residual', (v.lower + v.bottom) / 2]]) { context.save(); context.translate(13, y); context.rotate(-Math.PI / 2); context.fillText(text, 0, 0); context.restore(); }
  }

  function dots(context, height) {
    const r = Math.max(1.6, Math.min(4.5, 6.5 - Math.log10(points.length + 1) * 1.15));
    for (const kind of ['excluded', 'used', 'outlier']) {
      if (!control[kind].checked) continue;
      context.globalAlpha = kind === 'excluded' ? 0.75 : 0.85;
      for (const p of points) {
        if (p.kind !== kind) continue;
        const set = G.kind(p.k);
        mark(context, kind === 'excluded' ? 'o' : set.marker, view.X(p.x), height(p), kind === 'excluded' ? r * 0.75 : r);
        if (kind === 'used') { context.fillStyle = set.colour; context.fill(); } else {
          context.fillStyle = '#fff'; context.strokeStyle = kind === 'outlier' ? set.colour : '#b4b4b4'; context.lineWidth = kind === 'outlier' ? 1.2 : 0.8;
          if (kind === 'outlier') context.fill();
          context.stroke();
        }
      }
    }
    context.globalAlpha = 1;
  }

  function band(context, fit) {
    if (!view.line) return;
    const v = view, s = fit.scatter || 0, [a, b] = v.xs;
    context.fillStyle = '#8a8a8a40';
    context.beginPath();
    context.moveTo(v.X(a), v.Y(v.line(a) + s)); context.lineTo(v.X(b), v.Y(v.line(b) + s)); context.lineTo(v.X(b), v.Y(v.line(b) - s)); context.lineTo(v.X(a), v.Y(v.line(a) - s));
    context.fill();
  }

  function lines(context, fit) {
    const v = view, [a, b] = v.xs;
    const stroke = (f, colour, width, dash) => { context.strokeStyle = colour; context.lineWidth = width; context.setLineDash(dash); context.beginPath(); context.moveTo(v.X(a), v.Y(f(a))); context.lineTo(v.X(b), v.Y(f(b))); context.stroke(); context.setLineDash([]); };
    if (control.literature.checked) published(fit).forEach((l, k) => stroke(x => l.slope * (x - l.pivot) + l.intercept, COLOURS[k % 6], 1.6, DASHES[k % 6]));
    if (!v.line) return;
    stroke(v.line, '#fff', 4, []);
    stroke(v.line, '#111', 2.2, []);
    context.fillStyle = '#111'; context.strokeStyle = '#fff'; context.lineWidth = 1.5;
    mark(context, 'D', v.X(fit.pivot), v.Y(fit.intercept), 5);
    context.fill(); context.stroke();
  }

  const published = fit => data.literature.filter(line => line.relation === fit.relation);

  function describe(fit) {
    summary.replaceChildren(); legend.replaceChildren();
    if (!fit) { summary.append(make('p', '', 'This combination of relation, velocity and method was not fitted.')); return; }
    if (!isLine(fit)) summary.append(make('p', 'bad', `No fit: ${String(fit.error ?? 'no slope').replace(/^fit: /, '')}`));
    else {
      const list = make('dl', 'facts');
      const pairs = [['slope', `${number(fit.slope)} ± ${number(fit.slope_err)}`], ['intercept', `${number(fit.intercept)} ± ${number(fit.intercept_err)}`], ['at', number(fit.pivot)],
        ['intrinsic scatter', `${number(fit.scatter)} ± ${number(fit.scatter_err)} ${fit.unit}`], ['rms', `${number(fit.rms)} ${fit.unit}`], ['galaxies', `${fit.n_used}`], ['outliers', `${fit.n_outliers}`]];
      for (const [term, value] of pairs) list.append(make('dt', '', term), make('dd', '', value));
      summary.append(list);
    }
    if (fit.recommended) summary.append(make('p', 'good', 'The recommended fit.'));
    published(fit).forEach((line, k) => {
      const item = make('li'), swatch = make('canvas');
      swatch.width = 34; swatch.height = 10;
      const c = swatch.getContext('2d');
      c.strokeStyle = COLOURS[k % 6]; c.lineWidth = 2; c.setLineDash(DASHES[k % 6]); c.beginPath(); c.moveTo(0, 5); c.lineTo(34, 5); c.stroke();
      item.append(swatch, make('span', '', `${line.name}: ${number(line.slope)} (${line.words})`));
      legend.append(item);
    });
  }
  Object.assign(window, { Scatter: { axis, get points() { return points; }, get view() { return view; }, control, chosen, draw, box, over, tip, picked, mark } });
})();

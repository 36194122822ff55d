// Picking a point of the relation: by mouse, by touch, by the arrow keys.
(() => {
  const S = window.Scatter;
  if (!S) return;
  const { over, tip, picked, control } = S;
  let at = null;

  const shown = () => S.points.filter(p => control[p.kind].checked && inside(p));
  const inside = p => { const v = S.view, x = v.X(p.x), y = v.Y(p.y); return x >= v.left && x <= v.right && y >= v.top && y <= v.split; };

  function nearest(px, py, reach) {
    const v = S.view, lower = v.line && py > v.split + 8;
    let best = null, least = reach * reach;
    for (const p of S.points) {
      if (!control[p.kind].checked) continue;
      const dx = v.X(p.x) - px, dy = (lower ? v.R(p.y - v.line(p.x)) : v.Y(p.y)) - py, d = dx * dx + dy * dy;
      if (d < least) { least = d; best = p; }
    }
    return best;
  }

  function sentence(p) {
    const number = (value, error) => `${value.toFixed(3)}${error > 0 ? ' ± ' + error.toFixed(3) : ''}`.replaceAll('-', '−');
    const fit = S.chosen();
    const off = S.view.line ? `, residual ${number(p.y - S.view.line(p.x))}` : '';
    const [x, y] = [fit.x, fit.y].map(name => S.axis(name).label.replace(/ \(.*/, ''));
    const place = { used: 'in the relation', outlier: 'clipped as an outlier', excluded: `excluded: ${Galaxies.why(p.k)}` }[p.kind];
    return [`${x} ${number(p.x, p.ex)}, ${y} ${number(p.y, p.ey)}${off}`, place];
  }

  function pick(p, follow) {
    at = p;
    const context = over.getContext('2d'), v = S.view;
    context.clearRect(0, 0, v.width, v.height);
    tip.hidden = !p;
    over.style.cursor = p ? 'pointer' : 'default';
    if (!p) return;
    context.strokeStyle = '#000'; context.lineWidth = 2;
    for (const y of [v.Y(p.y), ...(v.line ? [v.R(p.y - v.line(p.x))] : [])]) { context.beginPath(); context.arc(v.X(p.x), y, 7, 0, 7); context.stroke(); }
    const [values, place] = sentence(p), thumb = Galaxies.thumbnail(p.k);
    tip.replaceChildren(make('b', '', Galaxies.name(p.k)), make('span', '', Galaxies.kind(p.k).label), ...(thumb ? [thumb] : []), make('span', '', values), make('span', '', place));
    const x = v.X(p.x), y = v.Y(p.y), w = tip.offsetWidth, h = tip.offsetHeight;
    tip.style.left = `${Math.max(0, Math.min(v.width - w, x + 14 + w > v.width ? x - w - 14 : x + 14))}px`;
    tip.style.top = `${Math.max(0, y + 14 + h > v.height ? y - h - 14 : y + 14)}px`;
    if (!follow) return;
    const open = make(Galaxies.hasPage(p.k) ? 'a' : 'button', '', Galaxies.name(p.k));
    if (Galaxies.hasPage(p.k)) open.href = Galaxies.address(p.k); else { open.type = 'button'; open.addEventListener('click', () => Galaxies.open(p.k)); }
    picked.replaceChildren(open, ` (${Galaxies.kind(p.k).label}): ${values}; ${place}.`);
  }

  const position = event => { const box = over.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  over.addEventListener('pointermove', event => { if (event.pointerType !== 'touch') pick(nearest(...position(event), 12)); });
  over.addEventListener('pointerleave', event => { if (event.pointerType !== 'touch' && document.activeElement !== over) pick(null); });
  over.addEventListener('click', event => {
    const touch = event.pointerType === 'touch', p = nearest(...position(event), touch ? 24 : 12);
    if (p && !touch) Galaxies.open(p.k); else pick(p, true);
  });
  over.addEventListener('keydown', event => {
    if (event.key === 'Enter') { if (at) Galaxies.open(at.k); return; }
    if (event.key === 'Escape') { pick(null); return; }
    const along = { ArrowRight: 1, ArrowLeft: -1, PageDown: 25, PageUp: -25, Home: -Infinity, End: Infinity, ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (along === undefined) return;
    event.preventDefault();
    const upright = event.key === 'ArrowUp' || event.key === 'ArrowDown';
    const list = shown().sort((a, b) => upright ? S.view.Y(b.y) - S.view.Y(a.y) : a.x - b.x);
    if (!list.length) return;
    const from = at ? list.findIndex(p => p.k === at.k) : along > 0 ? -1 : list.length;
    pick(list[Math.max(0, Math.min(list.length - 1, from + along))], true);
  });
  for (const element of Object.values(control)) element.addEventListener('change', () => { at = null; S.draw(); });
  let width = 0;
  new ResizeObserver(() => { if (S.box.clientWidth !== width) { width = S.box.clientWidth; at = null; S.draw(); } }).observe(S.box);
})();

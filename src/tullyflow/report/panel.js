// What is known of a galaxy that has no page of its own: a dialog over the report.
const Panel = (() => {
  const dialog = document.getElementById('panel');
  if (!dialog || !Galaxies) return { show() {} };
  const body = dialog.querySelector('.body');
  dialog.addEventListener('click', event => { if (event.target === dialog) dialog.close(); });

  function facts(k) {
    const list = make('dl', 'facts wide');
    for (const column of Galaxies.columns) {
      const value = Galaxies.words(column, k);
      if (value === '–') continue;
      const pair = make('div'), term = labelled(make('dt'), column.label);
      term.title = column.title;
      pair.append(term, make('dd', '', value));
      list.append(pair);
    }
    return list;
  }

  function flags(k) {
    const list = make('ul', 'plain');
    for (const flag of Galaxies.flagsOf(k)) list.append(make('li', flag.excludes ? 'bad' : '', flag.sentence));
    return list;
  }

  function show(k) {
    const name = Galaxies.name(k);
    body.replaceChildren();
    const title = make('h2', '', name);
    title.id = 'panel-title';
    body.append(title, make('p', 'note', `${Galaxies.kind(k).label} · ${Galaxies.used(k) ? 'in the relation' : 'not in the relation'}`));
    const scale = Math.max(1, Math.min(3, Math.floor((Math.min(innerWidth, 640) - 60) / (3 * Galaxies.data.side))));
    const picture = Galaxies.thumbnail(k, scale);
    body.append(picture ?? make('p', 'note', 'There is no map to show.'));
    if (picture) body.append(make('p', 'note', 'Velocity, model, residual.'));
    const carried = flags(k);
    if (carried.childElementCount) body.append(carried);
    body.append(facts(k));
    const how = make('p', 'note'), command = `tullyflow page ${Galaxies.quoted(name)} --run ${Galaxies.data.run}`;
    how.append(make('code', '', command), ' makes its page, with maps and rotation curve: ', make('code', '', Galaxies.address(k)));
    body.append(how);
    dialog.showModal();
    dialog.scrollTop = 0;
  }

  return { show };
})();
for (const button of document.querySelectorAll('[data-galaxy]')) button.addEventListener('click', () => Panel.show(Number(button.dataset.galaxy)));

// Draws the document that lies in the page: sections of it that are missing are not mentioned. Texts of the document
// become text nodes and attributes, never markup. Charts are drawn as wide as their place and again when that changes.
'use strict';

const doc = JSON.parse(document.getElementById('document').textContent);
const main = d3.select('main');
const charts = [];
const judged = doc.model && doc.model.samples ? `${doc.model.samples.toLocaleString('en')} ${doc.model.split} samples` : '';
let picked = null;  // ids of the runs that the brushes leave; null: there are no brushes

// ---- Numbers and words ----------------------------------------------------------------

const has = (list) => Array.isArray(list) && list.length > 0;
const known = (value) => typeof value === 'number' && isFinite(value);
const fixed = (value, digits) => (Number(value.toFixed(digits)) || 0).toLocaleString('en', {minimumFractionDigits: digits, maximumFractionDigits: digits});
const number = (value) => value === 0 ? '0' : Math.abs(value) >= 1e6 || Math.abs(value) < 1e-3 ? value.toExponential(2)
    : Number(value.toPrecision(4)).toLocaleString('en', {maximumFractionDigits: 6});
const percent = (value, digits = 1) => fixed(100 * value, digits) + ' %';
const times = (value) => (value >= 10 ? fixed(value, 0) : fixed(value, 1)) + '×';
function bytes(value) {
  const units = ['B', 'kB', 'MB', 'GB'];
  let unit = 0;
  for (; value >= 999.95 && unit < 3; ++unit) value /= 1000;
  return (unit === 0 ? String(value) : fixed(value, value < 10 ? 2 : 1)) + ' ' + units[unit];
}
const plain = (format) => (value) => format(value).replace(/\.0+(?= )/, '');  // "50 kB" for "50.0 kB": at axes
const time = (us) => us >= 1e5 ? fixed(us / 1e6, 2) + ' s' : us >= 1e3 ? fixed(us / 1e3, 2) + ' ms' : us >= 10 ? fixed(us, 1) + ' µs' : fixed(us, 2) + ' µs';
const count = (value) => value >= 1e6 ? fixed(value / 1e6, 2) + ' M' : value.toLocaleString('en');
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const shorten = (text, length) => text.length <= length ? text : text.slice(0, length - 1) + '…';

// How good: a share of right answers, or a mean squared error.
const quality = {
  of: (row) => known(row.accuracy) ? row.accuracy : row.mse,
  better: (a, b) => known(a.accuracy) ? a.accuracy - b.accuracy : b.mse - a.mse,  // above 0: a is
  text: (row) => known(row.accuracy) ? percent(row.accuracy) : known(row.mse) ? 'mse ' + number(row.mse) : '',
  word: (rows) => rows.some((row) => known(row.accuracy)) ? 'accuracy' : 'error',
  range: (row) => known(row.low) ? percent(row.low) + ' to ' + percent(row.high) : '',
  axis: (rows) => rows.some((row) => known(row.accuracy)) ? {label: 'accuracy, %', format: (v) => number(100 * v)}
                                                        : {label: 'mean squared error', format: number},
};

// ---- Building blocks --------------------------------------------------------------------

function section(id, title, text) {
  const element = main.append('section').attr('id', id);
  element.append('h2').text(title);
  if (text) element.append('p').text(text);
  return element;
}

// `draw(svg, width)` is called whenever the width changes; the chart's own height is fixed.
function chart(place, {name, title, look, height, draw}) {
  const figure = place.append('figure');
  if (title) figure.append('h3').text(title);
  if (look) figure.append('figcaption').text(look);
  const holder = figure.append('div');
  const svg = holder.append('svg').attr('role', 'img').attr('aria-label', [title || name, look].filter(Boolean).join('. '));
  const one = {name, title, svg, width: 0, draw() {
    const width = Math.max(240, Math.floor(holder.node().clientWidth));
    if (width === one.width) return;
    one.width = width;
    svg.attr('width', width).attr('height', height).attr('viewBox', `0 0 ${width} ${height}`).selectAll('*').remove();
    draw(svg, width, height);
    fade();
  }};
  charts.push(one);
}

// Columns: {title, text(row), value(row)}; with a value a number, and with `bar` a bar under it.
function table(place, columns, rows, {whole = false, mark} = {}) {
  const element = place.append('div').attr('class', whole ? 'scroll whole' : 'scroll').append('table');
  const used = columns.filter((c) => rows.some((row) => c.text(row) !== ''));
  element.append('thead').append('tr').selectAll('th').data(used).enter().append('th')
      .attr('scope', 'col').classed('number', (c) => !!c.value).text((c) => c.title);
  const lines = element.append('tbody').selectAll('tr').data(rows).enter().append('tr');
  if (mark) lines.classed('chosen', mark);
  used.forEach((c) => {
    const most = c.bar ? d3.max(rows, c.value) : 0;
    lines.append('td').classed('number', !!c.value).classed('bar', c.bar && most > 0)
        .classed('long', c.title === 'why')
        .style('--share', (row) => c.bar && most > 0 ? 85 * (c.value(row) || 0) / most : null).text((row) => c.text(row));
  });
  return element;
}

// A column of numbers that rows may lack.
const column = (title, key, format, bar = false) =>
    ({title, bar, value: (row) => row[key], text: (row) => known(row[key]) ? format(row[key]) : ''});
const words = (title, key) => ({title, text: (row) => row[key] === undefined || row[key] === null ? '' : String(row[key])});

const kMargin = {top: 24, right: 18, bottom: 40, left: 52};

// Axes with names around the place where things are drawn, which is returned.
function axes(svg, width, height, x, y, xAxis, yAxis) {
  const inner = {width: width - kMargin.left - kMargin.right, height: height - kMargin.top - kMargin.bottom};
  x.range([0, inner.width]);
  y.range([inner.height, 0]);
  const g = svg.append('g').attr('transform', `translate(${kMargin.left},${kMargin.top})`);
  const bottom = d3.axisBottom(x).tickFormat(xAxis.format).tickSizeOuter(0).ticks(Math.max(3, inner.width / 80));
  if (xAxis.values) bottom.tickValues(xAxis.values);
  g.append('g').attr('class', 'axis').attr('transform', `translate(0,${inner.height})`).call(bottom);
  g.append('g').attr('class', 'axis').call(d3.axisLeft(y).ticks(5).tickFormat(yAxis.format).tickSize(-inner.width).tickSizeOuter(0));
  g.append('text').attr('class', 'soft').attr('x', inner.width).attr('y', inner.height + 34).attr('text-anchor', 'end').text(xAxis.label);
  g.append('text').attr('class', 'soft').attr('x', -kMargin.left + 4).attr('y', -12).text(yAxis.label);
  return {g, inner};
}

// Round numbers of a logarithmic axis, at most so many.
function logTicks([low, high], most) {
  for (const steps of [[1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5], [1, 2, 5], [1, 3], [1]]) {
    const ticks = d3.range(Math.floor(Math.log10(low)), Math.log10(high) + 1).flatMap((d) => steps.map((step) => step * 10 ** d)).filter((v) => v >= low && v <= high);
    if (ticks.length <= most) return ticks;
  }
  return [low, high];
}

const padded = ([low, high], share = 0.08) => low === high ? [low - 0.5, high + 0.5] : [low - share * (high - low), high + share * (high - low)];
// Labels that would lie over one that is there already are left out; their points still have titles.
function clear(labels) {
  const kept = [];
  labels.each(function () {
    const box = this.getBBox();
    const hit = kept.some((k) => box.x < k.x + k.width && k.x < box.x + box.width && box.y < k.y + k.height && k.y < box.y + box.height);
    if (hit) d3.select(this).remove();
    else kept.push(box);
  });
}

// ---- The verdict --------------------------------------------------------------------------

function ratio(before, after, word) {
  if (!known(before) || !known(after) || after <= 0) return null;
  return before >= after ? `${times(before / after)} ${word[0]}` : `${times(after / before)} ${word[1]}`;
}

// Where int8 gains less than it is known for, 4 times in size and 2 in time: what takes the rest here.
function shortfall(base, after) {
  const lines = [];
  const whole = d3.sum(doc.sizes || [], (s) => s.bytes);
  const rest = whole - d3.sum((doc.sizes || []).filter((s) => s.part === 'weights'), (s) => s.bytes);
  if (whole > 0 && base.bytes < 3.9 * after.bytes) {
    lines.push(`Less than 3.9 times smaller: ${bytes(rest)} of the ${bytes(whole)} of the program are no weights.`);
  }
  const timed = (doc.layers || []).filter((l) => known(l.latency_us));
  if (timed.length > 0 && base.latency_us < 2 * after.latency_us) {
    const all = d3.sum(timed, (l) => l.latency_us);
    const slowest = timed.reduce((a, b) => a.latency_us >= b.latency_us ? a : b);
    lines.push(`Less than twice as fast: ${slowest.name} takes ${percent(slowest.latency_us / all, 0)} of the time, layers that multiply nothing take ${percent(d3.sum(timed.filter((l) => !l.macs), (l) => l.latency_us) / all, 0)}.`);
  }
  return lines;
}

function verdict() {
  const chosen = (doc.candidates || []).find((c) => c.name === doc.chosen);
  const before = doc.float || {};
  const gains = (after, base = before) => [ratio(base.bytes, after.bytes, ['smaller', 'larger']),
                                           ratio(base.latency_us, after.latency_us, ['faster', 'slower'])].filter(Boolean).join(', ');
  const promise = doc.promise || {};
  if (chosen) {
    const n = promise.validation_samples;
    const bound = !known(chosen.bound) ? '' : (chosen.bound > 0 ? `drop at most ${fixed(chosen.bound, 2)} points` : 'no drop') +
        ` with ${number(promise.confidence || 95)} % confidence` + (n ? ` on ${count(n)} samples` : '');
    const asked = known(promise.max_drop) ? `Asked for: a drop of at most ${number(promise.max_drop)} points` + (promise.target ? `, then ${{size: 'the smallest', latency: 'the fastest'}[promise.target] || 'the smallest and fastest'}.` : '.') : '';
    const plain = (doc.candidates || []).find((c) => c.name === 'int8');
    const behind = plain && plain !== chosen ? gains(chosen, plain) : '';
    return {say: [gains(chosen) && gains(chosen) + ' than in float', bound].filter(Boolean).join(', ') + '.',
            more: [`Chosen: ${chosen.name}${behind ? ', ' + behind + ' than plain int8' : ''}. ${asked}${promise.supported === false ? ' The data cannot support this promise.' : ''}`, promise.why || chosen.why]};
  }
  if (has(doc.techniques)) {
    const rows = doc.techniques.filter((t) => t.bytes && t !== doc.techniques[0]);
    const whole = rows.find((t) => t.name.startsWith('full integer')) || rows[rows.length - 1];
    const base = doc.techniques[0];
    return {say: `In int8: ${gains(whole)}; ${known(whole.accuracy) ? 'accuracy ' : ''}${quality.text(whole)} instead of ${quality.text(base)}.`,
            more: [`On ${count(doc.model.samples)} ${doc.model.split} samples of ${doc.model.data}` +
                   (known(whole.low) ? `; 95 % intervals (Wilson): ${quality.range(whole)} in int8, ${quality.range(base)} in float` : '') + '.',
                   ...shortfall(base, whole)]};
  }
  if (has(doc.runs)) {
    const best = (doc.candidates || []).slice().sort((a, b) => b.accuracy - a.accuracy)[0];
    const done = doc.runs.filter((r) => r.status === 'finished').length;
    return {say: `${doc.runs.length} ${doc.runs.length === 1 ? 'run' : 'runs'}, ${done} finished` +
                 (best ? `; the best accuracy is ${percent(best.accuracy)} (run ${best.name}).` : '.'),
            more: ['Runs on different data do not compare: the front is drawn for each data set.']};
  }
  if (doc.model) return {say: `${doc.model.name} on ${doc.model.data}: ${count(doc.model.parameters)} parameters, ${count(doc.model.macs)} multiply-accumulates.`, more: []};
  return {say: 'Nothing was measured.', more: []};
}

function header() {
  const model = doc.model || {};
  const title = [model.name, model.data && 'on ' + model.data].filter(Boolean).join(' ') || 'runs';
  document.title = 'Whittle report: ' + title;
  const head = d3.select('header');
  head.append('h1').text('Whittle report · ' + title);
  const {say, more} = verdict();
  head.append('p').attr('class', 'verdict').text(capital(say));
  more.filter(Boolean).forEach((line) => head.append('p').attr('class', 'aside').text(line));
  const about = [doc.cpu, doc.kernels && 'kernels ' + doc.kernels, known(doc.threads) && doc.threads + (doc.threads === 1 ? ' thread' : ' threads'), doc.date].filter(Boolean);
  head.append('p').attr('class', 'aside').text(about.join(' · '));
  d3.select('#origin').text([doc.command, doc.revision && 'revision ' + doc.revision, known(doc.seed) && 'seed ' + doc.seed].filter(Boolean).join(' · '));
}

// ---- Candidates and their front -------------------------------------------------------------

function front() {
  const all = (doc.candidates || []).filter((c) => known(quality.of(c)));
  if (all.length === 0) return;
  const place = section('front', 'Size, speed, accuracy', 'Filled points are beaten by no other in all three; the line joins those that no other beats in the two that a chart shows.');
  const grid = place.append('div').attr('class', 'charts');
  for (const [key, title, label, format] of [['bytes', 'size', 'size of the file', bytes], ['latency_us', 'speed', 'time for one sample', time]]) {
    const rows = all.filter((c) => known(c[key]) && c[key] > 0);
    if (rows.length === 0) continue;
    chart(grid, {
      name: 'front-' + key, title: `${capital(quality.word(rows))} and ${title}`, height: 320,
      look: 'Look for the leftmost point that is still high enough.',
      draw(svg, width, height) {
        const x = d3.scaleLog().domain(padded(d3.extent(rows, (c) => Math.log10(c[key]))).map((v) => 10 ** v));
        const level = quality.of(doc.float || {});
        const y = d3.scaleLinear().domain(padded(d3.extent(rows.flatMap((c) => [quality.of(c), c.low, c.high]).concat([level]).filter(known))));
        const {g} = axes(svg, width, height, x, y, {label, format: plain(format), values: logTicks(x.domain(), width / 75)}, quality.axis(rows));
        const groups = [...new Set(rows.map((c) => c.group || ''))];
        const colour = (c) => 'c' + groups.indexOf(c.group || '') % 6;
        groups.forEach((group) => {
          const these = rows.filter((c) => (c.group || '') === group);
          const line = these.filter((c) => !these.some((o) => o[key] <= c[key] && quality.better(o, c) >= 0 && (o[key] < c[key] || quality.better(o, c) > 0))).sort((a, b) => a[key] - b[key]);
          g.append('path').attr('class', 'front').attr('d', d3.line().curve(d3.curveStepAfter).x((c) => x(c[key])).y((c) => y(quality.of(c)))(line));
        });
        if (known(level)) {
          g.append('line').attr('class', 'reference').attr('x2', x.range()[1]).attr('y1', y(level)).attr('y2', y(level));
          g.append('text').attr('class', 'soft halo name').attr('x', x.range()[1]).attr('y', y(level) - 5).attr('text-anchor', 'end').text('float');
        }
        const points = g.selectAll('.point').data(rows).enter().append('g').attr('class', (c) => 'point ' + (c.name === doc.chosen ? 'c1' : colour(c)))
            .attr('data-run', (c) => c.run).attr('transform', (c) => `translate(${x(c[key])},${y(quality.of(c))})`);
        points.filter((c) => known(c.low)).append('line').attr('class', 'stroke thin').attr('y1', (c) => y(c.low) - y(quality.of(c))).attr('y2', (c) => y(c.high) - y(quality.of(c)));
        points.append('circle').attr('r', (c) => c.name === doc.chosen ? 7 : 4.5).attr('class', (c) => (doc.front || []).includes(c.name) ? 'fill' : 'hollow')
            .append('title').text((c) => `${c.name}: ${quality.text(c)}, ${format(c[key])}`);
        const first = rows.filter((c) => c.name === doc.chosen).concat(rows.filter((c) => c.name !== doc.chosen && (doc.front || []).includes(c.name)));
        g.selectAll('.candidate').data(first).enter().append('text').attr('class', 'name candidate halo')
            .attr('data-run', (c) => c.run).attr('x', (c) => x(c[key]) + (x(c[key]) > x.range()[1] / 2 ? -8 : 8)).attr('y', (c) => y(quality.of(c)) - 8)
            .attr('text-anchor', (c) => x(c[key]) > x.range()[1] / 2 ? 'end' : 'start').text((c) => shorten(c.name, 32));
        clear(g.selectAll('.name'));
      },
    });
  }
  if (!has(doc.runs)) {
    table(place, [words('candidate', 'name'), words('method', 'method'), column('accuracy', 'accuracy', percent), column('drop, points', 'drop', (v) => fixed(v, 2)),
                  column('at most', 'bound', (v) => fixed(v, 2)), column('size', 'bytes', bytes), column('one sample', 'latency_us', time), column('MACs', 'macs', count),
                  column('sparsity', 'sparsity', percent), column('bits W', 'weight_bits', number), column('bits A', 'activation_bits', number), words('verdict', 'verdict'), words('why', 'why')],
          doc.candidates, {whole: true, mark: (c) => c.name === doc.chosen});
  }
}

// ---- Techniques -----------------------------------------------------------------------------

function techniques() {
  if (!has(doc.techniques)) return;
  const place = section('techniques', 'Four ways to make it smaller', `Each was applied to this model and run on this machine: files as programs, one sample at a time, ${quality.word(doc.techniques)} on the same ${judged || 'samples'}${doc.techniques.some((t) => known(t.low)) ? ' with its 95 % interval' : ''}.`);
  const base = doc.techniques[0];
  table(place, [words('technique', 'name'), words('data it needs', 'data_needed'),
                {title: quality.word([base]), value: quality.of, text: quality.text}, {title: '95 %', value: () => 0, text: quality.range},
                column('size', 'bytes', bytes), {title: 'smaller', value: () => 0, text: (t) => known(t.bytes) ? times(base.bytes / t.bytes) : ''},
                column('one sample', 'latency_us', time), {title: 'faster', value: () => 0, text: (t) => known(t.latency_us) ? times(base.latency_us / t.latency_us) : ''},
                words('runs on', 'runs_on')], doc.techniques, {whole: true});
}

// ---- Sweeps ---------------------------------------------------------------------------------

function sweeps() {
  const s = doc.sweeps || {};
  if (!has(s.bits) && !has(s.sparsity)) return;
  const place = section('sweeps', 'How far it can go', `After training, without any more of it${judged ? `, on ${judged}` : ''}.${[...s.bits || [], ...s.sparsity || []].some((r) => known(r.low)) ? ' Bars are 95 % intervals of each accuracy alone (Wilson).' : ''}`);
  const grid = place.append('div').attr('class', 'charts');
  // `free`: the end of the float model's line where no points lie.
  const sweep = (rows, key, options) => has(rows) && chart(grid, {
    name: 'sweep-' + key, height: 280, title: capital(quality.word(rows)) + options.title, look: options.look,
    draw(svg, width, height) {
      const values = rows.flatMap((r) => [quality.of(r), r.low, r.high]).concat(doc.float ? [quality.of(doc.float)] : []).filter(known);
      const x = d3.scaleLinear().domain(padded(d3.extent(rows, (r) => r[key]), 0.05));
      const y = d3.scaleLinear().domain(padded(d3.extent(values)));
      const {g, inner} = axes(svg, width, height, x, y, options.axis, quality.axis(rows));
      if (doc.float && known(quality.of(doc.float))) {
        const at = y(quality.of(doc.float));
        g.append('line').attr('class', 'reference').attr('x2', inner.width).attr('y1', at).attr('y2', at);
        g.append('text').attr('class', 'soft halo').attr('x', options.free * inner.width).attr('y', at - 5).attr('text-anchor', options.free ? 'end' : 'start').text('float');
      }
      const points = g.append('g').attr('class', 'c0');
      points.append('path').attr('class', 'stroke').attr('d', d3.line().x((r) => x(r[key])).y((r) => y(quality.of(r)))(rows));
      const each = points.selectAll('g').data(rows).enter().append('g').attr('transform', (r) => `translate(${x(r[key])},0)`);
      each.filter((r) => known(r.low)).append('path').attr('class', 'stroke thin').attr('d', (r) => `M-4,${y(r.low)}h8M0,${y(r.low)}V${y(r.high)}M-4,${y(r.high)}h8`);
      each.append('circle').attr('class', 'fill').attr('r', 4).attr('cy', (r) => y(quality.of(r)))
          .append('title').text((r) => `${options.axis.format(r[key])}: ${quality.text(r)} (${quality.range(r)})`);
    },
  });
  sweep(s.bits, 'bits', {title: ' and bits of weights', free: 0, look: 'Look for where the curve leaves the dotted line of the float model; activations have 8 bits throughout.',
                         axis: {label: 'bits of a weight', format: String, values: (s.bits || []).map((r) => r.bits)}});
  sweep(s.sparsity, 'sparsity', {title: ' and sparsity', free: 1, look: 'Look for the knee: up to there the smallest weights can go at once; retraining moves it to the right.',
                                 axis: {label: 'share of weights that are zero, %', format: (v) => fixed(100 * v, 0)}});
}

// ---- Training -------------------------------------------------------------------------------

function training() {
  const curves = (doc.training || []).filter((t) => has(t.points));
  if (curves.length === 0) return;
  const place = section('training', 'Training');
  const grid = place.append('div').attr('class', 'charts');
  const epochs = d3.max(curves, (t) => d3.max(t.points, (p) => p.epoch));
  const plot = (name, title, look, keys, axis) => {
    const lines = curves.flatMap((t, i) => keys.map(([key, dash]) => ({curve: t, colour: curves.length === 1 ? (dash ? 1 : 0) : i % 6, key, dash, points: t.points.filter((p) => known(p[key]))}))).filter((l) => l.points.some((p) => p[l.key] !== 0));  // regressions have accuracies of 0
    if (lines.length === 0) return;
    chart(grid, {name, title, look, height: 280, draw(svg, width, height) {
      const x = d3.scaleLinear().domain([1, Math.max(2, epochs)]);
      const y = d3.scaleLinear().domain(padded(d3.extent(lines.flatMap((l) => l.points.map((p) => p[l.key])))));
      const {g} = axes(svg, width, height, x, y, {label: 'epoch', format: (v) => Number.isInteger(v) ? v : ''}, axis);
      const each = g.selectAll('.curve').data(lines).enter().append('g').attr('class', (l) => 'curve c' + l.colour).attr('data-run', (l) => l.curve.run);
      each.append('path').attr('class', (l) => 'stroke' + (l.dash ? ' dash' : '')).attr('d', (l) => d3.line().x((p) => x(p.epoch)).y((p) => y(p[l.key]))(l.points))
          .append('title').text((l) => `${l.curve.name}, ${l.dash ? 'validation' : 'training'}`);
      if (lines.length <= 4 && lines.every((l) => l.points.length < 30)) {
        each.selectAll('circle').data((l) => l.points.map((p) => ({p, l}))).enter().append('circle').attr('class', 'fill').attr('r', 2.5).attr('cx', (d) => x(d.p.epoch)).attr('cy', (d) => y(d.p[d.l.key]));
      }
    }});
  };
  const both = 'solid: the training data as they pass; dashed: the validation data.';
  plot('training-loss', 'Loss', 'Look for the dashed line turning up while the solid one falls: learning by heart. ' + capital(both), [['train_loss', false], ['validation_loss', true]], {label: 'loss', format: number});
  plot('training-accuracy', 'Accuracy', 'Look for the flat end: more epochs would not help. ' + capital(both), [['train_accuracy', false], ['validation_accuracy', true]], {label: 'accuracy, %', format: (v) => number(100 * v)});
}

// ---- Layers, sizes --------------------------------------------------------------------------

function layers() {
  if (!has(doc.layers)) return;
  const place = section('layers', 'Layer by layer', 'Look for what is long in one column and short in the others. The noise is how far above the error the net’s result stays when this layer alone is quantized: the lowest number is the layer to spare. Bytes and times are those of the program on this machine.');
  table(place, [words('layer', 'name'), words('kind', 'kind'), words('details', 'details'), words('result', 'shape'), column('MACs', 'macs', (v) => v === 0 ? '' : count(v), true), column('bytes', 'bytes', (v) => v === 0 ? '' : count(v), true),
                column('time', 'latency_us', time, true), column('bits W', 'weight_bits', number), column('bits A', 'activation_bits', number),
                column('noise, dB', 'sqnr_db', (v) => fixed(v, 1)), column('sparsity', 'sparsity', percent)], doc.layers, {whole: true});
}

function sizes() {
  if (!has(doc.sizes)) return;
  const rows = doc.sizes.filter((s) => s.bytes > 0).sort((a, b) => b.bytes - a.bytes);
  const sum = d3.sum(doc.sizes, (s) => s.bytes);
  const place = section('sizes', 'Where the bytes go', `Look for anything but weights that is long. The parts are ${bytes(sum)} together, exactly the file${doc.sizes_of ? ': ' + doc.sizes_of : ''}.`);
  chart(place.append('div'), {name: 'sizes', title: '', look: '', height: 26 * rows.length + 8, draw(svg, width) {
    const left = Math.min(230, width * 0.42);
    const x = d3.scaleLinear().domain([0, rows[0].bytes]).range([0, width - left - 120]);
    const each = svg.selectAll('g').data(rows).enter().append('g').attr('class', 'c0').attr('transform', (s, i) => `translate(0,${26 * i})`);
    each.append('text').attr('x', left - 8).attr('y', 17).attr('text-anchor', 'end').text((s) => shorten(s.part, width < 500 ? 22 : 40));
    each.append('rect').attr('class', 'fill').attr('x', left).attr('y', 5).attr('height', 16).attr('width', (s) => Math.max(1, x(s.bytes)));
    each.append('text').attr('class', 'soft').attr('x', (s) => left + x(s.bytes) + 6).attr('y', 17).text((s) => `${bytes(s.bytes)}, ${percent(s.bytes / sum)}`);
  }});
}

// ---- Histograms -----------------------------------------------------------------------------

function histograms() {
  const all = (doc.histograms || []).filter((h) => has(h.counts));
  if (all.length === 0) return;
  const place = section('histograms', 'Numbers and their grids', 'Look for grid lines (orange; where there are more than 40, below the histogram) far outside the bulk: steps that are spent on a few outliers. Where every channel has its own grid, the coarsest is drawn. Counts are on a square-root scale; zeros are left out.');
  for (const of of ['weights', 'activations']) {
    const these = all.filter((h) => h.of === of);
    if (these.length === 0) continue;
    place.append('p').text(of === 'weights' ? 'Weights, as the layer reads them before they are quantized' : 'Activations, on training samples, before they are quantized');
    const grid = place.append('div').attr('class', 'charts small');
    these.forEach((h, i) => chart(grid, {
      name: `histogram-${of}-${i + 1}`, title: h.layer, height: 170, look: has(h.grid) ? `${h.grid.length} levels${h.grids > 1 ? `, one grid for each of ${h.grids} channels` : ''}` : 'no grid',
      draw(svg, width, height) {
        const margin = {left: 6, right: 6, bottom: 36};
        const ends = d3.extent([...h.edges, ...(h.grid || [])]);
        const x = d3.scaleLinear().domain(ends).range([margin.left, width - margin.right]);
        const y = d3.scaleSqrt().domain([0, d3.max(h.counts)]).range([height - margin.bottom, 4]);
        svg.append('g').attr('class', 'c0').selectAll('rect').data(h.counts).enter().append('rect').attr('class', 'fill')
            .attr('x', (c, k) => x(h.edges[k])).attr('width', (c, k) => Math.max(0.5, x(h.edges[k + 1]) - x(h.edges[k]) - 0.4)).attr('y', (c) => y(c)).attr('height', (c) => y(0) - y(c));
        svg.append('path').attr('class', 'grid').style('stroke-width', Math.min(1, (x.range()[1] - x.range()[0]) / 2.5 / Math.max(1, (h.grid || []).length)))
            .attr('d', (h.grid || []).map((level) => `M${x(level)},${h.grid.length <= 40 ? 4 : y(0) + 1}V${y(0) + 11}`).join(''));
        svg.append('g').attr('class', 'axis').attr('transform', `translate(0,${height - margin.bottom + 13})`).call(d3.axisBottom(x).ticks(5).tickFormat(number).tickSizeOuter(0));
      },
    }));
  }
}

// ---- Runs -----------------------------------------------------------------------------------

// What the brushes leave stays; charts and tables of runs fade or hide the rest.
function fade() {
  d3.selectAll('[data-run]').classed('out', function () { return picked !== null && !picked.has(Number(this.getAttribute('data-run'))); });
}

const axisFormat = (name) => name === 'accuracy' ? (v) => fixed(100 * v, 1) : name === 'bytes' ? bytes : name === 'median_us' ? time : number;
const axisTitle = (name) => ({accuracy: 'accuracy, %', bytes: 'size', median_us: 'one sample', seconds: 'duration, s'})[name] || name;
const wordLabel = (v) => shorten(String(v), 14);

function runs() {
  if (!has(doc.runs)) return;
  const place = section('runs', 'Runs', 'Each line is a run, from its options on the left to what came of them on the right. Drag along an axis to keep the runs that pass there; several axes mean all of them.');
  const axesOf = (doc.axes || []).slice();
  const extents = {};  // of brushes, as shares of the axis
  let status;
  function pick() {
    const used = axesOf.filter((a) => extents[a.name]);
    picked = used.length === 0 ? null : new Set(doc.runs.filter((r) => used.every((a) => {
      const at = a.share(r);
      return at !== null && extents[a.name][0] <= at && at <= extents[a.name][1];
    })).map((r) => r.id));
    status.text(picked === null ? `${doc.runs.length} runs` : `${picked.size} of ${doc.runs.length} runs`);
    fade();
  }
  if (axesOf.length >= 2) {
    const brushes = [];
    const holder = place.append('div').attr('class', 'scroll whole');
    chart(holder, {
      name: 'runs', title: '', look: '', height: 360,
      draw(svg, shown, height) {
        const width = Math.max(shown, 90 * axesOf.length);
        brushes.length = 0;
        svg.attr('width', width).attr('viewBox', `0 0 ${width} ${height}`);
        const top = 46, bottom = height - 46;  // below the axis is the place of runs without a value
        const first = axesOf[0];  // whose labels stand to the left of it
        const letters = first.kind === 'word' ? d3.max(doc.runs, (r) => wordLabel(r.values[first.name] ?? '').length) : 7;
        const room = Math.max(0, 7 * letters + 12 - width / axesOf.length / 2);
        const x = d3.scalePoint().domain(axesOf.map((a) => a.name)).range([room, width]).padding(0.5);
        axesOf.forEach((a) => {
          const values = doc.runs.map((r) => r.values[a.name]).filter((v) => v !== undefined);
          a.scale = a.kind === 'word' ? d3.scalePoint().domain([...new Set(values)].sort()).padding(0.3) : d3.scaleLinear().domain(padded(d3.extent(values), 0.02));
          const log = a.kind !== 'word' && d3.min(values) > 0 && d3.max(values) > 30 * d3.min(values);
          if (log) a.scale = d3.scaleLog().domain(d3.extent(values));
          const different = [...new Set(values)];
          a.ticks = a.kind === 'word' || different.length <= 6 ? different : log ? logTicks(a.scale.domain(), 6) : a.scale.ticks(5);
          a.scale.range([bottom, top]);
          a.share = (r) => r.values[a.name] === undefined ? null : (a.scale(r.values[a.name]) - top) / (bottom - top);
        });
        const at = (r, a) => a.share(r) === null ? height - 18 : a.scale(r.values[a.name]);
        const last = axesOf[axesOf.length - 1];
        const groups = [...new Set(doc.runs.map((r) => r.name.split(' ')[1]))];
        svg.append('g').selectAll('path').data(doc.runs).enter().append('path').attr('class', (r) => 'stroke thin c' + groups.indexOf(r.name.split(' ')[1]) % 6)
            .attr('data-run', (r) => r.id).attr('d', (r) => d3.line().curve(d3.curveMonotoneX)(axesOf.map((a) => [x(a.name), at(r, a)]))).append('title').text((r) => r.name);
        if (groups.length > 1) {
          const legend = svg.append('text').attr('x', 4).attr('y', 12);
          groups.forEach((name, i) => legend.append('tspan').attr('class', 'c' + i % 6).attr('dx', i === 0 ? 0 : 12).style('fill', 'currentColor').text(name));
        }
        axesOf.forEach((a) => {
          const g = svg.append('g').attr('transform', `translate(${x(a.name)},0)`);
          const axis = a === last ? d3.axisRight(a.scale) : d3.axisLeft(a.scale);
          if (a.kind !== 'word') axis.tickValues(a.ticks).tickFormat(plain(axisFormat(a.name)));
          else axis.tickFormat(wordLabel);
          g.append('g').attr('class', 'axis').call(axis).selectAll('text').classed('halo', true);
          if (doc.runs.some((r) => a.share(r) === null)) g.append('text').attr('class', 'soft halo').attr('text-anchor', 'middle').attr('y', height - 2).text('none');
          g.append('text').attr('class', 'label halo').attr('text-anchor', 'middle').attr('y', 32).text(shorten(axisTitle(a.name), 16));
          // Selections are read from the element, which all versions of D3 agree on.
          const brush = d3.brushY().extent([[-12, top], [12, bottom]]).on('brush end', function () {
            const selection = d3.brushSelection(this);
            if (selection) extents[a.name] = selection.map((v) => (v - top) / (bottom - top));
            else delete extents[a.name];
            pick();
          });
          const element = g.append('g').attr('class', 'brush').attr('data-axis', a.name).call(brush);
          brushes.push({brush, element});
          if (extents[a.name]) element.call(brush.move, extents[a.name].map((v) => top + v * (bottom - top)));
        });
      },
    });
    const line = place.append('p').attr('class', 'picked');
    status = line.append('span').attr('id', 'picked').attr('aria-live', 'polite');
    line.append('button').text('all runs').on('click', () => {
      d3.selectAll('.brush').each(function () { brushes.filter((b) => b.element.node() === this).forEach((b) => b.element.call(b.brush.move, null)); });
    });
    pick();
  }
  const lines = table(place, [words('run', 'name'), words('status', 'status'), ...axesOf.map((a) => a.kind === 'word'
      ? {title: axisTitle(a.name), text: (r) => r.values[a.name] === undefined ? '' : r.values[a.name]}
      : {title: axisTitle(a.name), value: (r) => r.values[a.name], text: (r) => known(r.values[a.name]) ? axisFormat(a.name)(r.values[a.name]) : ''})], doc.runs);
  lines.selectAll('tbody tr').attr('data-run', (r) => r.id);
}

// ---- The page -------------------------------------------------------------------------------

header();
[runs, front, techniques, sweeps, training, layers, sizes, histograms].forEach((part) => part());
if (has(doc.notes)) {
  const place = section('notes', 'What is not here');
  doc.notes.forEach((note) => place.append('p').text(note));
}
const nav = d3.select('header').append('nav');
main.selectAll('section').each(function () {
  nav.append('a').attr('href', '#' + this.id).text(d3.select(this).select('h2').text());
});
const drawAll = () => charts.forEach((one) => one.draw());
drawAll();
window.addEventListener('resize', drawAll);

// For whittle report --svg: all charts as files of their own, by name.
if (location.hash === '#svg') {
  const style = document.getElementById('chart-style').textContent;
  const files = {};
  charts.forEach(({name, title, svg}) => {
    const above = title ? 26 : 0;
    const [width, height] = [Number(svg.attr('width')), Number(svg.attr('height')) + above];
    svg.insert('style', ':first-child').text(style);
    svg.attr('height', height).attr('viewBox', `0 ${-above} ${width} ${height}`);
    if (title) svg.append('text').attr('class', 'label').attr('x', 4).attr('y', -10).text(title);
    files[name] = {width, height, svg: new XMLSerializer().serializeToString(svg.node()).replace(/\u00a0/g, ' ')};
  });
  d3.select('body').html('').append('pre').attr('id', 'svg').text(JSON.stringify(files));
}

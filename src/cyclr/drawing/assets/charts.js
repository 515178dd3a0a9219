// The charts, in the colours of the page, and on paper in the size of a sheet.

const sheet = { printing: false, size: { width: 640, height: 270 } };

const MARGIN = { l: 58, r: 14, t: 12, b: 46 };
const HAIR = 1e-9;
const NAMES = 52; // height of the two rows above the range test, with the names of the bounds
const SYMBOLS = {
  "▲": "triangle-up", "▼": "triangle-down", "│": "line-ns-open", "×": "x-thin-open", "●": "circle", "◆": "diamond",
  "■": "square", "★": "star", "✚": "cross", "○": "circle-open", "◇": "diamond-open",
};
const POLICIES = 6; // colours; further policies share them with another dash
const DASHES = ["solid", "dash", "dot", "dashdot"];

// Plotly reads a little markup and TeX in names; this takes their meaning away.
const plain = (text) => String(text).replace(/[&<>$]/g, (character) => `&#${character.charCodeAt(0)};`);

function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const resolved = getComputedStyle(probe).color;
  probe.remove();
  return resolved;
}

const faint = (rgb, alpha) => rgb.replace(/^rgba?\(([^,]+),([^,]+),([^,)]+).*$/, `rgba($1,$2,$3,${alpha})`);

function layout(xaxis, yaxis, more = {}) {
  const [ink, line] = [colour("soft"), colour("line")];
  const axis = { gridcolor: line, zeroline: false, linecolor: line, fixedrange: true, automargin: false, tickangle: 0 };
  const named = (given) => ({ ...axis, ...given, title: { text: given.title, font: { size: 13 }, standoff: 8 } });
  return {
    margin: MARGIN,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink },
    showlegend: false,
    dragmode: false,
    ...(sheet.printing ? { autosize: false, ...sheet.size } : { autosize: true }),
    hovermode: "closest",
    hoverlabel: { namelength: -1, bgcolor: colour("card"), bordercolor: line, font: { color: colour("ink") } },
    xaxis: named(xaxis),
    yaxis: named(yaxis),
    ...more,
  };
}

function draw(id, traces, given) {
  const chart = document.getElementById(id);
  if (!chart.classList.contains("js-plotly-plot")) chart.replaceChildren();
  return Plotly.react(chart, traces, given, { displayModeBar: false, responsive: true, showTips: false });
}

function rateAxis(test) {
  const [first, last] = [test.lr[0], test.lr[test.lr.length - 1]];
  if (test.scale === "linear") return { type: "linear", range: spread(first, last) };
  const range = spread(Math.log10(first), Math.log10(last));
  return range[1] - range[0] < 1 ? { type: "log", range } : { type: "log", range, ...decades(range) };
}

// Powers of ten as people write them, and as the code has them.
function decades([left, right]) {
  const [first, last] = [Math.ceil(left - 1e-9), Math.floor(right + 1e-9)];
  const width = (sheet.printing ? sheet.size.width : byId("range-chart").clientWidth) - MARGIN.l - MARGIN.r;
  const every = Math.ceil((last - first + 1) / clip(Math.floor(width / 55), 1, 8));
  const powers = [];
  for (let power = first; power <= last; power += every) powers.push(power);
  const text = (power) => (power < -4 ? `1e${power}` : String(Number(`1e${power}`)));
  return { tickvals: powers.map((power) => 10 ** power), ticktext: powers.map(text) };
}

// A hair wider than what is drawn: Plotly leaves out a symbol that rounding puts beyond an end.
const spread = (low, high) => (low === high ? [low - 0.5, high + 0.5] : [low - HAIR, high + HAIR]);

// A closed area between two edges.
const area = (x, low, high, own, alpha) => ({
  x: [...x, ...[...x].reverse()], y: [...high, ...[...low].reverse()], type: "scatter", mode: "lines",
  fill: "toself", fillcolor: faint(own, alpha), line: { width: 0, color: own }, hoverinfo: "skip",
});

function drawRange(test) {
  const level = (x, height) => x.map(() => height);
  const ends = [test.lr[0], test.lr[test.lr.length - 1]];
  const [low, high] = test.limits;
  const traces = [
    ...(test.band ? [{ ...area(test.lr, ...test.band, colour("soft"), 0.16), name: test.key.band }] : []),
    ...(test.interval ? [{ ...area(test.interval, [low, low], [high, high], colour("orange"), 0.2), name: test.key.interval }] : []),
    ...test.levels.map(([name, height]) => ({
      x: ends, y: level(ends, height), type: "scatter", mode: "lines", name, line: { color: colour("soft"), width: 1, dash: "dash" },
    })),
    {
      x: test.lr, y: test.dots, type: "scatter", mode: "markers", name: test.key.dots,
      marker: { color: colour("soft"), size: 4, opacity: 0.55 },
    },
    {
      x: test.lr, y: test.curve, type: "scatter", mode: "lines", name: test.key.curve,
      line: { color: colour("blue"), width: 2.5 },
    },
    ...test.symbols.map(([glyph, own, name, height, x], number) => ({
      x, y: level(x, height), type: "scatter", mode: "markers", name, cliponaxis: false,
      // Marks grow smaller and smaller, so that two of one point are both seen.
      marker: {
        color: colour(own), symbol: SYMBOLS[glyph], size: { soft: 6, orange: 9, ink: 14 - 0.8 * number }[own],
        opacity: own === "soft" ? 0.55 : 1, line: { color: colour(own === "ink" ? "card" : own), width: 1 },
      },
    })),
  ];
  // Ticks that are not seen keep the first rate away from the lowest loss.
  const ticks = { ticks: "outside", ticklen: 4, tickcolor: "rgba(0,0,0,0)" };
  const xaxis = { ...rateAxis(test), ...ticks, title: "learning rate", exponentformat: "power", hoverformat: ".3~g" };
  const margin = { ...MARGIN, t: NAMES };
  return draw("range-chart", traces, layout(xaxis, { title: "", range: test.limits, hoverformat: ".4g" }, { margin }));
}

function drawSchedule({ step, lr, low, high, total }) {
  const bound = (y, more) => ({
    x: step, y, type: "scatter", mode: "lines", hoverinfo: "skip", line: { width: 0, color: colour("orange") }, ...more,
  });
  const traces = [
    ...(low.length > 0 ? [bound(low), bound(high, { fill: "tonexty", fillcolor: faint(colour("orange"), 0.13) })] : []),
    {
      x: step, y: lr, type: "scatter", mode: "lines", name: "learning rate", line: { color: colour("blue"), width: 2.5 },
    },
  ];
  const xaxis = { title: "step (optimizer update)", range: [0, total - 1], hoverformat: ",d", nticks: 6 };
  const yaxis = {
    rangemode: "tozero", title: "learning rate", automargin: true, hoverformat: ".4~g", exponentformat: "power", nticks: 6,
  };
  return draw("schedule-chart", traces, layout(xaxis, yaxis));
}

// The limits of what is worth a close look: without the worst values, which the curves leave first, and with the target.
function closeUp(values, direction, whole, target) {
  const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
  if (sorted.length === 0) return undefined;
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const cut = whole ? 0 : 0.15;
  const ends = [at(direction === "max" ? cut : 0), at(direction === "min" ? 1 - cut : 1)];
  if (target !== null) ends.push(target);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const room = 0.05 * (high - low) || Math.abs(high) * 0.05 || 1;
  return [low - room, high + room];
}

// Lines of at most so many characters: Plotly breaks none.
function wrapped(text, width) {
  const lines = [""];
  text.split(" ").forEach((word) => {
    const last = lines.length - 1;
    if (lines[last] && lines[last].length + word.length >= width) lines.push(word);
    else lines[last] += (lines[last] && " ") + word;
  });
  return lines.map(plain).join("<br>");
}

// Events stand in a row for each policy above the axis of steps, where no curve and no close look hides them.
function eventTrace(events, own, row) {
  const words = ({ step }) => events.filter((other) => other.step === step).map(({ text }) => wrapped(text, 44)).join("<br>");
  return {
    x: events.map(({ step }) => step), y: events.map(() => 0.035 + 0.055 * row), yaxis: "y2", type: "scatter", mode: "markers",
    cliponaxis: false, text: events.map(words), hovertemplate: "%{text}<extra></extra>",
    hoverlabel: { align: "left" },
    marker: {
      color: own, size: 10, symbol: events.map(({ symbol }) => SYMBOLS[symbol]), line: { color: own, width: 1.5 },
    },
  };
}

const eventLine = ({ step }, own) => ({
  type: "line", x0: step, x1: step, yref: "paper", y0: 0, y1: 1, layer: "below", line: { color: faint(own, 0.45), width: 1, dash: "dot" },
});

// The number of each curve at its end, with its name if there is room; names that would cross are moved apart.
function endLabels(ends, size, [low, high], [first, last]) {
  const gap = 15;
  const pixel = (y) => (size.height * (high - clip(y, low, high))) / (high - low);
  const labels = ends.slice(0, Math.floor(size.height / gap) + 1).map((end) => ({ ...end, at: pixel(end.y) }));
  labels.sort((a, b) => a.at - b.at);
  labels.forEach((label, i) => { label.to = Math.max(label.at, i > 0 ? labels[i - 1].to + gap : 0); });
  for (let i = labels.length - 1, most = size.height; i >= 0; i -= 1, most -= gap) {
    labels[i].to = Math.min(labels[i].to, most);
    most = labels[i].to;
  }
  return labels.map(({ x, y, at, to, own, text }) => ({
    x, y: clip(y, low, high), text, font: { color: own, size: 12 }, showarrow: true, arrowhead: 0, arrowwidth: 1,
    arrowcolor: faint(own, 0.35), ax: (size.width * (last - x)) / (last - first) + 14, ay: to - at, xanchor: "left", borderpad: 0,
  }));
}

function drawTraining(id, group, series, shown, whole) {
  const [bands, lines, seen, happened, shapes, ends] = [[], [], [], [], [], []];
  const alpha = Math.max(0.05, Math.min(0.16, 0.4 / shown.filter(Boolean).length));
  series.curves.forEach((curve, index) => {
    if (!shown[index] || curve.step.length === 0) return;
    const own = colour(`policy-${index % POLICIES}`);
    if (curve.low.length > 0) {
      bands.push(area(curve.step, curve.low, curve.high, own, alpha));
    }
    lines.push({
      x: curve.step, y: curve.mean, type: "scatter", name: plain(group.policies[index]), hoverinfo: "x+y+name",
      mode: series.name === "learning rate" || curve.step.length > 60 ? "lines" : "lines+markers",
      line: { color: own, width: 2.2, dash: DASHES[Math.floor(index / POLICIES) % DASHES.length] }, marker: { size: 5 },
    });
    seen.push(...curve.mean);
    ends.push({ x: curve.step.at(-1), y: curve.mean.at(-1), own, number: index + 1, name: group.policies[index] });
    if (curve.events.length > 0) {
      happened.push(eventTrace(curve.events, own, happened.length));
      shapes.push(...curve.events.map((event) => eventLine(event, own)));
    }
  });
  const target = series.name === group.metric ? group.target : null;
  if (target !== null) {
    shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: target, y1: target,
      line: { color: colour("soft"), width: 1.2, dash: "dash" } });
  }
  const yaxis2 = { overlaying: "y", range: [0, 1], visible: false, fixedrange: true };
  const rates = series.name === "learning rate";
  const range = rates ? [0, 1.05 * Math.max(...seen, Number.MIN_VALUE)] : closeUp(seen, series.direction, whole, target);
  const longest = Math.max(...ends.map(({ x }) => x), 1);
  // A mark at an end is whole, and can be pointed at.
  const steps = [-0.01 * longest, 1.01 * longest];
  const chart = byId(id);
  const { width, height } = sheet.printing ? sheet.size : { width: chart.clientWidth, height: chart.clientHeight };
  const named = width >= 600;
  const short = (name) => (name.length > 24 ? `${name.slice(0, 23)}…` : name);
  ends.forEach((end) => { end.text = named ? `${end.number} ${plain(short(end.name))}` : String(end.number); });
  const margin = { ...MARGIN, r: named ? 30 + 7 * Math.max(0, ...ends.map(({ name }) => short(name).length)) : 34 };
  const xaxis = { title: "step (optimizer update)", range: steps, hoverformat: ",d", nticks: named ? 6 : 4 };
  const yaxis = {
    title: plain(series.name), range, hoverformat: ".5~g", exponentformat: "power",
    nticks: 7, automargin: false,
  };
  const size = { width: width - margin.l - margin.r, height: height - margin.t - margin.b };
  const annotations = range ? endLabels(ends, size, range, steps) : [];
  return draw(id, [...bands, ...lines, ...happened], layout(xaxis, yaxis, { shapes, annotations, yaxis2, margin }));
}

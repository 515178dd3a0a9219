// Puts the page together: data, charts, tabs, copying, theme, printing.

const data = JSON.parse(byId("data").textContent);
const say = (text) => { byId("said").textContent = text; };

class Training {
  constructor(group, index) {
    Object.assign(this, { group, chart: `training-chart-${index}`, shown: group.policies.map(() => true), series: 0 });
    [this.select, this.whole] = [byId(`series-${index}`), byId(`whole-${index}`)];
    this.select.selectedIndex = 0;
    this.select.addEventListener("change", () => this.redraw());
    this.whole.addEventListener("change", () => this.redraw());
    document.querySelectorAll(`#training-${index} .key`).forEach((key, policy) => {
      key.querySelector("path").style.strokeDasharray = ["", "6 4", "2 3", "6 3 2 3"][Math.floor(policy / POLICIES) % 4];
      key.addEventListener("click", () => {
        this.shown[policy] = !this.shown[policy];
        key.setAttribute("aria-pressed", this.shown[policy]);
        this.redraw();
      });
    });
    this.redraw();
  }

  redraw() {
    const series = this.group.series[this.select.selectedIndex];
    const numbers = series.name === this.group.metric ? "; the table below holds the numbers" : "";
    const events = series.curves.some((curve) => curve.events.length > 0) ? "; the events are listed below" : "";
    byId(this.chart).setAttribute("aria-label", `${series.name} of each policy against steps${numbers}${events}.`);
    return drawTraining(this.chart, this.group, series, this.shown, this.whole.checked);
  }
}

function tabs() {
  const all = FRAMEWORKS.map((name) => byId(`tab-${name}`));
  const select = (chosen, focus) => {
    all.forEach((tab, index) => {
      tab.setAttribute("aria-selected", index === chosen);
      tab.tabIndex = index === chosen ? 0 : -1;
      byId(`panel-${FRAMEWORKS[index]}`).hidden = index !== chosen;
    });
    if (focus) all[chosen].focus();
  };
  all.forEach((tab, index) => {
    tab.addEventListener("click", () => select(index, false));
    tab.addEventListener("keydown", ({ key }) => {
      const next = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: all.length - 1 }[key];
      if (next !== undefined) select((next + all.length) % all.length, true);
    });
  });
}

async function copy() {
  const chosen = FRAMEWORKS.find((name) => !byId(`panel-${name}`).hidden);
  const source = byId(`code-${chosen}`);
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    // Where the clipboard is not to be had, the old way, or at least a selection to copy by hand.
    getSelection().selectAllChildren(source);
    if (!document.execCommand("copy")) {
      say("The code is selected; copy it with your keyboard.");
      return;
    }
  }
  byId("copy").textContent = "Copied";
  say("The code is on the clipboard.");
  setTimeout(() => { byId("copy").textContent = "Copy"; }, 2000);
}

function page() {
  const root = document.documentElement;
  root.classList.add("scripted");
  const bounds = data.tests.length > 0 ? new Bounds() : null;
  const shown = bounds || data.policies.length > 0 ? new Shown(bounds) : null;
  if (bounds) bounds.shown = shown;
  const charts = [bounds, shown, ...data.groups.map((group, index) => (group.series.length ? new Training(group, index) : null))];
  const redraw = () => charts.forEach((chart) => chart?.redraw());
  if (shown) {
    tabs();
    byId("copy").addEventListener("click", copy);
  }

  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const named = () => { byId("theme").textContent = `Switch to ${dark() ? "light" : "dark"}`; };
  const themed = () => {
    named();
    redraw();
  };
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    themed();
  });
  system.addEventListener("change", themed);
  named();

  // On paper: light, nothing folded, and charts as wide as the sheet, not as the window.
  let before;
  let folded = [];
  const paper = (printing) => {
    sheet.printing = printing;
    root.classList.toggle("printing", printing);
    redraw();
  };
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((part) => { part.open = true; });
    paper(true);
  });
  addEventListener("afterprint", () => {
    if (before === undefined) delete root.dataset.theme;
    else root.dataset.theme = before;
    folded.forEach((part) => { part.open = false; });
    paper(false);
  });
  requestAnimationFrame(() => requestAnimationFrame(() => performance.mark("cyclr-ready")));
  return { bounds, shown, scheduled, code };
}

// For those who look under the bonnet, and for the tests.
globalThis.cyclr = page();

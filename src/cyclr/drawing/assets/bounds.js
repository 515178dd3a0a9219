// The bounds that one can move, and all that follows them: schedule, words and code.

const FRAMEWORKS = ["keras", "torch", "optax"];
const LEAST = 1.02; // max_lr is kept at least so many times base_lr
const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };

const byId = (id) => document.getElementById(id);
const digits = (value) => Number(value.toPrecision(3));

class Bounds {
  constructor() {
    this.plan = { base: NaN, max: NaN, shape: "parabolic", rise: 30, decay: "none", cycles: 1, total: 1000 };
    this.handles = { base: byId("handle-base"), max: byId("handle-max") };
    this.inputs = { base: byId("base-lr"), max: byId("max-lr") };
    for (const name of ["base", "max"]) this.listen(name);
    for (const name of ["shape", "decay"]) {
      byId(name).addEventListener("change", (event) => this.change({ [name]: event.target.value }));
    }
    for (const name of ["rise", "cycles", "total"]) {
      byId(name).addEventListener("input", (event) => this.count(name, event.target));
      byId(name).addEventListener("change", () => this.write());
    }
    new ResizeObserver(() => {
      this.place();
      drawRange(this.test);
    }).observe(byId("handles"));
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    byId("reset").addEventListener("click", () => this.reset());
    byId("test")?.addEventListener("change", (event) => this.choose(Number(event.target.value)));
    this.choose(0);
  }

  choose(index) {
    this.test = data.tests[index];
    this.axis = rateAxis(this.test);
    const { status, verdict, reason, ended } = this.test;
    if (byId("status")) {
      byId("status").textContent = status.replace(/_/g, " ");
      byId("status").className = `status ${status === "ok" ? "good" : "doubtful"}`;
      byId("reason").textContent = `${verdict} ${reason} ${ended}`;
    }
    // On paper a list of choices would be cut at the edge.
    if (byId("test")) byId("test-name").textContent = byId("test").selectedOptions[0].textContent;
    byId("range-chart").setAttribute("aria-label", `Loss against learning rate. ${verdict} ${reason}`);
    byId("legend").replaceChildren(...this.test.legend.map(([glyph, own, words]) => {
      const [entry, symbol] = [document.createElement("li"), document.createElement("span")];
      symbol.className = own;
      symbol.textContent = glyph;
      entry.append(symbol, words);
      return entry;
    }));
    this.plan.total = this.test.total;
    this.plan.cycles = Math.min(this.plan.cycles, most(this.plan.total));
    drawRange(this.test);
    this.reset();
  }

  // The bounds found; without any, the middle third of the rates, for the reader to move.
  reset() {
    const [base, max] = this.test.bounds ?? [this.rate(1 / 3), this.rate(2 / 3)];
    byId("reset").textContent = this.test.bounds ? "Back to the bounds found" : "Back to the middle";
    const [low, high] = [digits(base), digits(max)];
    this.change(low > 0 && high > low ? { base: low, max: high } : { base, max });
  }

  // A rate from the place between the left (0) and the right end (1) of the axis, and the other way round.
  rate(share) {
    const [left, right] = this.axis.range;
    const at = left + share * (right - left);
    return this.axis.type === "log" ? 10 ** at : at;
  }

  share(rate) {
    const [left, right] = this.axis.range;
    return ((this.axis.type === "log" ? Math.log10(rate) : rate) - left) / (right - left);
  }

  // The rates that a bound can have: those tested, and as far beyond as it was typed to be.
  ends(name) {
    return [Math.min(this.rate(0), this.plan[name]), Math.max(this.rate(1), this.plan[name])];
  }

  // Move one bound, between its ends and not beyond the other bound.
  move(name, rate) {
    const [left, right] = this.ends(name);
    const limits = { base: [left, this.plan.max / LEAST], max: [this.plan.base * LEAST, right] }[name];
    const value = digits(clip(rate, Math.min(...limits), Math.max(...limits)));
    const { base, max } = { ...this.plan, [name]: value };
    if (value > 0 && base < max) this.change({ [name]: value });
  }

  listen(name) {
    const handle = this.handles[name];
    handle.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      handle.setPointerCapture(event.pointerId);
      this.grip = event.clientX - handle.getBoundingClientRect().left - handle.offsetWidth / 2;
      event.preventDefault();
      handle.focus({ preventScroll: true });
    });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const area = byId("handles").getBoundingClientRect();
      this.move(name, this.rate((event.clientX - this.grip - area.left) / area.width));
    });
    handle.addEventListener("keydown", (event) => this.key(name, event));
    this.inputs[name].addEventListener("change", () => this.take(name));
    // By itself the field would go up and down by 1.
    this.inputs[name].addEventListener("keydown", (event) => {
      if (!["ArrowUp", "ArrowDown"].includes(event.key)) return;
      event.preventDefault();
      if (this.take(name)) this.key(name, event);
    });
  }

  // Take what was typed, if it is a bound.
  take(name) {
    const input = this.inputs[name];
    const value = Number(input.value);
    const { base, max } = { ...this.plan, [name]: value };
    const legal = input.value !== "" && Number.isFinite(value) && base > 0 && base < max;
    input.setCustomValidity(legal ? "" : "It must be above 0, and base_lr below max_lr.");
    if (legal) this.change({ [name]: value });
    else input.reportValidity();
    return legal;
  }

  // Arrows go a hundredth of the axis, page keys a tenth, and always far enough to change three digits.
  key(name, event) {
    const ends = { Home: name === "base" ? this.rate(0) : this.plan.base * LEAST,
      End: name === "base" ? this.plan.max / LEAST : this.rate(1) };
    let rate = ends[event.key];
    if (rate === undefined) {
      const steps = STEPS[event.key];
      if (steps === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
      const now = this.plan[name];
      for (let i = 1; i <= 10 && (rate === undefined || digits(rate) === now); i += 1) {
        rate = this.rate(this.share(now) + (i * steps) / 100);
      }
    }
    event.preventDefault();
    this.move(name, rate);
  }

  count(name, input) {
    const value = Number(input.value);
    const limit = { rise: 99, cycles: most(this.plan.total), total: 1e9 }[name];
    if (!Number.isInteger(value) || value < Number(input.min) || value > limit) return;
    const { cycles, total } = { ...this.plan, [name]: value };
    this.change({ [name]: value, cycles: Math.min(cycles, most(total)) });
  }

  change(some) {
    Object.assign(this.plan, some);
    this.place();
    if (!this.waiting) {
      this.waiting = true;
      requestAnimationFrame(() => {
        this.waiting = false;
        drawSchedule(this.plan);
      });
    }
    this.tell();
    if (!["rise", "cycles", "total"].includes(document.activeElement?.id)) this.write();
  }

  place() {
    for (const name of ["base", "max"]) {
      const [handle, rate] = [this.handles[name], this.plan[name]];
      const share = this.share(rate);
      handle.style.left = `${100 * clip(share, 0, 1)}%`;
      const tag = handle.firstElementChild;
      tag.textContent = `${name}_lr ${rate}`;
      // Beside its line, away from the other bound, as far as there is room.
      const [whole, width] = [byId("handles").offsetWidth, tag.offsetWidth];
      const line = whole * clip(share, 0, 1);
      const left = clip(name === "base" ? line - width : line, 0, Math.max(whole - width, 0));
      tag.style.left = `${left - line + handle.offsetWidth / 2}px`;
      const ends = this.ends(name);
      handle.setAttribute("aria-valuemin", ends[0]);
      handle.setAttribute("aria-valuemax", ends[1]);
      handle.setAttribute("aria-valuenow", rate);
      handle.setAttribute("aria-valuetext", `${rate}, where the smoothed loss is ${this.loss(rate).toPrecision(3)}`);
    }
    const [from, to] = [this.plan.base, this.plan.max].map((rate) => clip(this.share(rate), 0, 1));
    byId("band").style.left = `${100 * from}%`;
    byId("band").style.width = `${100 * (to - from)}%`;
  }

  loss(rate) {
    const index = this.test.lr.findIndex((lr) => lr >= rate);
    return this.test.curve[index < 0 ? this.test.lr.length - 1 : index];
  }

  // What the controls hold is what is drawn.
  write() {
    for (const name of ["base", "max"]) {
      this.inputs[name].value = this.plan[name];
      this.inputs[name].setCustomValidity("");
    }
    for (const name of ["shape", "rise", "decay", "cycles", "total"]) byId(name).value = this.plan[name];
    byId("cycles").max = most(this.plan.total);
  }

  tell() {
    const { base, max, cycles, total, decay } = this.plan;
    const length = (total - 1) / cycles;
    const long = Number.isInteger(length) ? `${length}` : `about ${length.toFixed(1)}`;
    const first = scheduled(this.plan, place(this.plan, 0).up).value;
    const last = scheduled(this.plan, total - 1).value;
    const shrinks = decay === "none" ? "" : ` The first peak is ${digits(first)}.`;
    byId("summary").textContent =
      `${cycles === 1 ? "One cycle" : `${cycles} cycles`} of ${long} steps between ${base} and ${max}, ` +
      `a ratio of ${digits(max / base)}; the last of ${total} steps is at ${digits(last)}.${shrinks}`;
    for (const name of FRAMEWORKS) {
      byId(`code-${name}`).textContent = code(data.frameworks[name], this.plan, this.test.optimizer[name]);
    }
  }

  redraw() {
    this.place();
    drawRange(this.test);
    drawSchedule(this.plan);
  }
}

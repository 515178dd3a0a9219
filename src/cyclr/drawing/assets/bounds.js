// The bounds that one can move and the fields beside them; and the schedule that is shown, in words and as code.

const FRAMEWORKS = ["keras", "torch", "optax"];
const LEAST = 1.02; // max_lr is kept at least so many times base_lr
const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };

const byId = (id) => document.getElementById(id);
const digits = (value) => Number(value.toPrecision(3));
// ARIA has no powers of ten.
const decimal = (value) => value.toLocaleString("en", { useGrouping: false, maximumSignificantDigits: 17 });
const FIELDS = {
  base: "base-lr", max: "max-lr", rise: "rise", cycles: "cycles", epochs: "epochs", batches: "batches", total: "total",
};
const OPTIONAL = ["epochs", "batches"]; // a length in steps needs neither

// The schedule, its words and its code: of a policy as it ran, or of the plan of the reader's own cycle.
class Shown {
  constructor(bounds) {
    this.bounds = bounds;
    byId("ran")?.addEventListener("change", ({ target }) => this.choose(target.value));
    this.choose(data.policies.length > 0 ? "0" : "");
  }

  choose(index) {
    this.policy = index === "" ? null : data.policies[Number(index)];
    if (byId("ran")) byId("ran").value = index;
    if (byId("controls")) byId("controls").hidden = this.policy !== null;
    this.redraw();
  }

  redraw() {
    if (this.policy === null) drawSchedule(planned(this.bounds.plan));
    else drawSchedule(ran(this.policy));
    this.tell();
  }

  tell() {
    const { policy, bounds } = this;
    byId("summary").textContent = policy === null ? inWords(bounds.plan) : policy.summary;
    for (const name of FRAMEWORKS) {
      byId(`code-${name}`).textContent = policy === null ? code(bounds.test.code[name], bounds.plan) : policy.code[name];
    }
  }
}

function inWords({ base, max, cycles, total, decay, ...rest }) {
  const plan = { base, max, cycles, total, decay, ...rest };
  const length = (total - 1) / cycles;
  const long = Number.isInteger(length) ? `${length}` : `about ${length.toFixed(1)}`;
  const first = scheduled(plan, place(plan, 0).up).value;
  const last = scheduled(plan, total - 1).value;
  const shrinks = decay === "none" ? "" : ` The first peak is ${digits(first)}.`;
  return `${cycles === 1 ? "One cycle" : `${cycles} cycles`} of ${long} steps between ${base} and ${max}, ` +
    `a ratio of ${digits(max / base)}; the last of ${total} steps is at ${digits(last)}.${shrinks}`;
}

// What is wrong with the value of a field, and what would be right; "" if nothing is.
function wrong(name, values, typed) {
  const { base, max, total } = values;
  const value = values[name];
  const cycles = total >= 3 ? most(total) : 1000;
  const whole = (low, high) => Number.isInteger(value) && value >= low && value <= high;
  const [legal, rule] = {
    base: [value > 0 && !(value >= max), max > 0 ? `above 0 and below max_lr, ${max}` : "above 0"],
    max: [value > 0 && !(value <= base), base > 0 ? `above base_lr, ${base}` : "above 0"],
    rise: [whole(1, 99), "a whole number from 1 to 99, in percent of a cycle"],
    cycles: [whole(1, cycles), `a whole number from 1 to ${cycles}, because a cycle has two steps at least`],
    epochs: [value > 0, "a number above 0"],
    batches: [whole(1, 1e9), "a whole number above 0"],
    total: [whole(3, 1e9), "a whole number from 3 to 1,000,000,000"],
  }[name];
  return legal ? "" : `This must be ${rule}; got ${typed}.`;
}

class Bounds {
  constructor() {
    this.plan = { base: NaN, max: NaN, shape: "parabolic", rise: 30, decay: "none", cycles: 1, total: 1000 };
    this.handles = { base: byId("handle-base"), max: byId("handle-max") };
    this.inputs = {};
    for (const [name, id] of Object.entries(FIELDS)) this.inputs[name] = byId(id);
    for (const name of ["base", "max"]) this.listen(name);
    for (const name of ["shape", "decay"]) {
      byId(name).addEventListener("change", (event) => this.change({ [name]: event.target.value }));
    }
    for (const [name, input] of Object.entries(this.inputs)) {
      input.addEventListener("input", () => this.read(name, false));
      input.addEventListener("change", () => this.read(name, true));
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
    this.plan.total = this.test.total ?? 1000;
    this.plan.cycles = Math.min(this.plan.cycles, most(this.plan.total));
    this.inputs.batches.value = this.test.batches ?? "";
    byId("example").hidden = this.test.total !== null;
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
    // By itself the field would go up and down by 1.
    this.inputs[name].addEventListener("keydown", (event) => {
      if (!["ArrowUp", "ArrowDown"].includes(event.key)) return;
      event.preventDefault();
      if (this.read(name, true)) this.key(name, event);
    });
  }

  // Take what the fields hold, if all of it is legal; else say at each field what is wrong, once it has been left.
  read(name, left) {
    const { inputs } = this;
    const value = (field) => (inputs[field].value === "" ? NaN : Number(inputs[field].value));
    const [epochs, batches] = OPTIONAL.map(value);
    if (OPTIONAL.includes(name) && epochs * batches > 0) inputs.total.value = Math.round(epochs * batches);
    if (name === "total" && batches > 0) inputs.epochs.value = this.epochs(value("total"), batches);
    const values = Object.fromEntries(Object.keys(inputs).map((field) => [field, value(field)]));
    const faults = [];
    for (const [field, input] of Object.entries(inputs)) {
      const empty = input.value === "" && !input.validity.badInput;
      const typed = empty ? "nothing" : input.value || "text that is not a number";
      // Of two bounds that cross, the one that was typed is wrong.
      const other = { base: "max", max: "base" }[field];
      const crossed = other === name && values.base >= values.max && values[field] > 0;
      const fault = crossed || (empty && OPTIONAL.includes(field)) ? "" : wrong(field, values, typed);
      if (fault) faults.push(field);
      if (left || !fault) this.mark(field, fault);
    }
    if (faults.length === 0) {
      const { base, max, rise, cycles, total } = values;
      this.change({ base, max, rise, cycles, total }, false);
    }
    if (left || faults.length === 0) this.stale(faults);
    return faults.length === 0;
  }

  mark(field, fault) {
    byId(`${FIELDS[field]}-wrong`).textContent = fault;
    if (fault) this.inputs[field].setAttribute("aria-invalid", "true");
    else this.inputs[field].removeAttribute("aria-invalid");
  }

  stale(faults) {
    const labels = faults.map((field) => this.inputs[field].labels[0].textContent);
    byId("stale").textContent = faults.length > 0
      ? `Chart and code are those of the last legal values. Correct first: ${labels.join("; ")}.` : "";
  }

  epochs(total, batches) {
    return total > 0 && batches > 0 ? Number((total / batches).toFixed(3)) : "";
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

  // Show a plan of the reader's own; the fields hold it already if it is theirs.
  change(some, written = true) {
    Object.assign(this.plan, some);
    this.place();
    if (written) this.write();
    // Not before the first page is drawn, which may show a policy.
    if (this.shown === undefined) return;
    if (this.shown.policy !== null) this.shown.choose("");
    this.shown.tell();
    if (!this.waiting) {
      this.waiting = true;
      requestAnimationFrame(() => {
        this.waiting = false;
        this.shown.redraw();
      });
    }
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
      handle.setAttribute("aria-valuemin", decimal(ends[0]));
      handle.setAttribute("aria-valuemax", decimal(ends[1]));
      handle.setAttribute("aria-valuenow", decimal(rate));
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
    const epochs = this.epochs(this.plan.total, Number(this.inputs.batches.value));
    const values = { ...this.plan, epochs, batches: this.inputs.batches.value };
    for (const [name, input] of Object.entries(this.inputs)) {
      input.value = values[name];
      this.mark(name, "");
    }
    for (const name of ["shape", "decay"]) byId(name).value = this.plan[name];
    this.stale([]);
  }

  redraw() {
    this.place();
    drawRange(this.test);
  }
}

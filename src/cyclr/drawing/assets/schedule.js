"use strict";
// The schedule that cyclr.Cyclical.over(total_steps, cycles, base_lr, max_lr, rise=, shape=, decay=) is, and its code.
// The integers are reduced first and divided once, as in cyclr.

const tenth = (total, step) => 2 ** (step * Math.log2(0.1 ** (1 / total)));

// The factor by which the bounds have shrunk, and how cyclr writes it.
const DECAYS = {
  none: { factor: () => 1 },
  halving: { factor: (total, step, cycle) => 2 ** -cycle, code: () => "cyclr.Halving()" },
  exponential: { factor: tenth, code: (total) => `cyclr.Exponential(0.1 ** (1 / ${total}))` },
  both: { factor: tenth, code: (total) => `cyclr.Exponential(0.1 ** (1 / ${total}), bounds="both")`, both: true },
};

const clip = (value, low, high) => Math.min(Math.max(value, low), high);
const most = (total) => Math.max(1, Math.min(1000, Math.floor((total - 1) / 2)));
const start = (plan, cycle) => Math.floor((cycle * (plan.total - 1)) / plan.cycles);

// Where a step lies: its cycle, how far into it, and the lengths of the ways up and down.
function place(plan, step) {
  const span = plan.total - 1;
  const within = step % span;
  const index = Math.floor(((within + 1) * plan.cycles - 1) / span);
  const begin = start(plan, index);
  const length = start(plan, index + 1) - begin;
  // The rise is a whole number of percent, so that this is as exact as a fraction.
  const up = clip(Math.floor((length * plan.rise) / 100), 1, length - 1);
  return { cycle: Math.floor(step / span) * plan.cycles + index, offset: within - begin, up, down: length - up };
}

// The height of a shape, interpolated between the heights that cyclr has computed.
function height(shape, x) {
  const heights = data.shapes[shape];
  const at = x * (heights.length - 1);
  const left = Math.min(Math.floor(at), heights.length - 2);
  return heights[left] * (left + 1 - at) + heights[left + 1] * (at - left);
}

// The value at a step, and the bounds that it lies between. A plan holds base, max, shape, rise, decay, cycles and total.
function scheduled(plan, step) {
  const { cycle, offset, up, down } = place(plan, step);
  const wave = height(plan.shape, offset <= up ? offset / up : (up + down - offset) / down);
  const { factor, both } = DECAYS[plan.decay];
  const share = factor(plan.total, step, cycle);
  const low = both ? plan.base * share : plan.base;
  const high = both ? plan.max * share : clip(plan.base * (1 - share) + plan.max * share, plan.base, plan.max);
  return { value: clip(low * (1 - wave) + high * wave, low, high), low, high };
}

// The steps to draw: about a thousand, and the corners of every cycle, so that none is missed.
function drawn(plan) {
  const steps = new Set();
  for (let i = 0; i <= 1000; i += 1) steps.add(Math.round((i * (plan.total - 1)) / 1000));
  for (let cycle = 0; cycle < plan.cycles; cycle += 1) {
    const begin = start(plan, cycle);
    steps.add(begin);
    steps.add(begin + place(plan, begin).up);
    if (plan.decay !== "none" && begin > 0) steps.add(begin - 1);
  }
  return [...steps].sort((a, b) => a - b);
}

function scheduleCode(plan) {
  const decay = DECAYS[plan.decay].code?.(plan.total);
  const given = [
    `total_steps=${plan.total}`,
    `cycles=${plan.cycles}`,
    `base_lr=${plan.base}`,
    `max_lr=${plan.max}`,
    `rise=${plan.rise / 100}`,
    `shape="${plan.shape}"`,
    ...(decay ? [`decay=${decay}`] : []),
  ];
  return `schedule = cyclr.Cyclical.over(\n${given.map((line) => `    ${line},\n`).join("")})`;
}

function code(template, plan) {
  const parts = { schedule: scheduleCode(plan), total: String(plan.total) };
  return template.replace(/@(schedule|total)@/g, (whole, name) => parts[name]);
}

// What is drawn of a plan, and of a policy as it ran.
function planned(plan) {
  const step = drawn(plan);
  const points = step.map((at) => scheduled(plan, at));
  const [lr, low, high] = ["value", "low", "high"].map((name) => points.map((point) => point[name]));
  return { step, lr, low, high, total: plan.total };
}

function ran({ rates: [group, policy] }) {
  const last = data.groups[group].series.at(-1);
  const { step, mean } = last?.name === "learning rate" ? last.curves[policy] : { step: [], mean: [] };
  return { step, lr: mean, low: [], high: [], total: (step.at(-1) ?? 1) + 1 };
}

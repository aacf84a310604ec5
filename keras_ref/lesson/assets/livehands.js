// The reader's gestures: drag, keys, typing, choices, buttons. Each becomes one call of live.js.
"use strict";
const livehands = (() => {
  const { now, present, number, label, message } = live;

  // Push: drag an edge, or use the keys on it ------------------------------------------------------------------------------
  const KEYS = { ArrowUp: 0.1, ArrowRight: 0.1, ArrowDown: -0.1, ArrowLeft: -0.1, PageUp: 1, PageDown: -1 };
  const tidy = (value) => Number(value.toPrecision(12)); // 0.1 + 0.2 is typed as 0.3
  function onKey(event) {
    const group = event.target.closest(".weight");
    if (!group) return;
    const i = Number(group.dataset.i);
    if (event.key === "Enter") { by("live-weights").querySelector(`input[data-i="${i}"]`).select(); event.preventDefault(); return; }
    const by_ = KEYS[event.key];
    if (by_ === undefined) return;
    event.preventDefault();
    live.pushWeight(i, tidy(present().weights[i] + by_ * (event.shiftKey ? 0.1 : 1)));
  }
  function onDrag(event) {
    const group = event.target.closest(".weight");
    if (!group || event.button > 0) return;
    const i = Number(group.dataset.i), from = event.clientY, value = present().weights[i], svg = by("live-network");
    choose(i);
    group.focus();
    const move = (moved) => { if (Math.abs(moved.clientY - from) > 2) live.pushWeight(i, tidy(value + Math.round(from - moved.clientY) * 0.01)); };
    const end = () => { svg.removeEventListener("pointermove", move); svg.classList.remove("dragging"); };
    svg.setPointerCapture(event.pointerId);
    svg.classList.add("dragging");
    svg.addEventListener("pointermove", move);
    for (const kind of ["pointerup", "pointercancel"]) svg.addEventListener(kind, end, { once: true });
    event.preventDefault();
  }
  function choose(i) {
    now.chosen = i;
    if (now.exact.has(i)) { now.lit = i; now.reveal = 9; } else now.lit = null;
    live.render();
  }
  function tell(event) { // hover or focus: the formula with the numbers in it
    const group = event.target.closest("[data-i], [data-node]");
    if (!group) return;
    const weight = group.dataset.i !== undefined;
    if (event.type === "focusin" && weight && Number(group.dataset.i) !== now.chosen) choose(Number(group.dataset.i));
    by("live-formula").textContent = `${weight ? label(Number(group.dataset.i)) : group.getAttribute("aria-label").split(":")[0]}: ${liveview.describe(weight ? Number(group.dataset.i) : group.dataset.node)}`;
  }

  // Type: what is no number is said, and the number before it stays ------------------------------------------------------------
  function typed(input, what, before, use, refuse) {
    const value = live.typedNumber(input.value), text = input.value;
    delete input.dataset.typed;
    const bad = Number.isFinite(value) ? (refuse ? refuse(value) : null) : "bad_number";
    if (bad) { input.value = String(before); message(say(bad, { text, what, value: number(before) }), true); return; }
    if (!use(value)) input.value = String(before);
  }
  function onTyped(event) {
    const input = event.target, state = present();
    if (input.dataset.i !== undefined) {
      const i = Number(input.dataset.i);
      typed(input, label(i), state.weights[i], (value) => live.pushWeight(i, value));
    } else if (input.dataset.k !== undefined) {
      const k = Number(input.dataset.k), part = input.dataset.part;
      typed(input, input.getAttribute("aria-label"), state[part][k], (value) => live.useSamples(...["x", "y"].map((name) => state[name].map((v, at) => (name === part && at === k ? value : v)))));
    }
  }
  function setting(name, value, shownValue) {
    const state = name === "units" ? engine.setUnits(present(), value) : engine.set(present(), name, value);
    return live.edit(state, say("said_edit", { what: say({ nudge: "live_nudge_size", rate: "live_rate", batch: "live_batch", units: "live_units", activation: "live_activation", loss: "live_loss_choice", optimizer: "live_optimizer" }[name]), value: shownValue, loss: number(engine.lossOf(state)) }));
  }

  // Buttons and choices ------------------------------------------------------------------------------------------------------------
  function addSample() {
    const { x, y } = present();
    if (x.length >= engine.MAX_SAMPLES) { message(say("bad_many", { most: engine.MAX_SAMPLES, count: x.length + 1 }), true); return; }
    live.useSamples([...x, x[x.length - 1] + 1], [...y, y[y.length - 1]]);
  }
  function removeSample(event) {
    const button = event.target.closest("[data-remove]");
    if (!button) return;
    const { x, y } = present(), k = Number(button.dataset.remove);
    if (x.length === 1) { message(say("bad_last"), true); return; }
    live.useSamples(x.filter((_, at) => at !== k), y.filter((_, at) => at !== k));
    (by("live-samples").querySelector(`[data-remove="${Math.min(k, x.length - 2)}"]`)).focus();
  }
  function useTable() {
    const { bad, x, y } = live.readTable(by("live-table").value);
    if (bad) message(bad, true); else live.useSamples(x, y);
  }
  let taken = "";
  function takeHome(kind) {
    taken = kind;
    by("live-program").hidden = false;
    by("live-source").textContent = programs[kind](present(), present().weights.map((_, i) => label(i)));
    by("live-source").focus();
  }
  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([by("live-source").textContent]));
    link.download = taken === "notebook" ? "network.ipynb" : `network_${taken}.py`;
    link.click();
    URL.revokeObjectURL(link.href);
  }
  async function copy() {
    try { await navigator.clipboard.writeText(by("live-source").textContent); message(say("live_copied")); } catch { getSelection().selectAllChildren(by("live-source")); }
  }
  function giveLink() {
    const hash = live.writeLink(present());
    try { history.replaceState(null, "", hash); } catch { /* a page in a frame has no address of its own */ }
    by("live-address-label").hidden = false;
    by("live-address").value = location.href.split("#")[0] + hash;
    by("live-address").select();
    message(say("said_link"));
  }

  // Projector: one card at a time ------------------------------------------------------------------------------------------------------
  let card = 0;
  function turnTo(to) {
    const cards = all("#panel-live [data-card]"), big = document.documentElement.dataset.projector === "yes";
    card = (to + cards.length) % cards.length;
    cards.forEach((one, k) => { one.classList.toggle("away", big && k !== card); });
    by("live-page").textContent = `${card + 1} / ${cards.length}`;
    for (const plot of cards[card].querySelectorAll(".liveplot")) if (drawn.has(plot.id)) Plotly.Plots.resize(plot);
    live.render();
  }
  function project() {
    const big = document.documentElement.dataset.projector !== "yes";
    document.documentElement.dataset.projector = big ? "yes" : "no";
    by("projector").setAttribute("aria-pressed", big);
    document.querySelector(".pager").hidden = !big;
    turnTo(card);
  }

  function fillChoices() {
    const options = (id, names, text) => by(id).replaceChildren(...names.map((name) => new Option(text(name), name)));
    options("set-units", [...Array(engine.MAX_UNITS + 1).keys()], (n) => n || say("live_units_none"));
    for (const [name, table] of [["activation", "ACTIVATIONS"], ["loss", "LOSSES"], ["optimizer", "OPTIMIZERS"]]) options(`set-${name}`, Object.keys(engine[table]), (one) => say(`${name}_${one}`));
    by("live-why").replaceChildren(...Object.keys(live.WHY).map((name) => {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", textContent: say(`why_${name}`) });
      button.dataset.why = name;
      button.addEventListener("click", () => live.why(name));
      return button;
    }));
  }
  function start() {
    if (!by("panel-live")) return;
    live.drawnBy(liveview.render);
    fillChoices();
    const svg = by("live-network"), on = (id, kind, act) => by(id).addEventListener(kind, act);
    svg.addEventListener("keydown", onKey);
    svg.addEventListener("pointerdown", onDrag);
    for (const kind of ["focusin", "pointerover"]) svg.addEventListener(kind, tell);
    for (const id of ["live-weights", "live-samples"]) {
      on(id, "change", onTyped);
      on(id, "input", (event) => { event.target.dataset.typed = "yes"; });
      on(id, "focusout", (event) => { delete event.target.dataset.typed; });
    }
    on("live-weights", "focusin", (event) => { const i = event.target.dataset.i; if (i !== undefined && Number(i) !== now.chosen) choose(Number(i)); });
    on("live-samples", "click", removeSample);
    for (const name of ["nudge", "rate"]) {
      on(`set-${name}`, "input", (event) => { event.target.dataset.typed = "yes"; });
      on(`set-${name}`, "change", (event) => typed(event.target, say(name === "nudge" ? "live_nudge_size" : "live_rate"), present()[name], (value) => setting(name, value, number(value)), (value) => (name === "nudge" ? (value > 0 ? null : "bad_positive") : value >= 0 ? null : "bad_rate")));
    }
    for (const name of ["batch", "units"]) on(`set-${name}`, "change", (event) => setting(name, Number(event.target.value), event.target.selectedOptions[0].text));
    for (const name of ["activation", "loss", "optimizer"]) on(`set-${name}`, "change", (event) => setting(name, event.target.value, event.target.selectedOptions[0].text));
    for (const [id, act] of Object.entries({ "live-nudge": live.nudgeOrChain, "live-all": live.all, "live-run": live.run, "live-reset": live.reset, "live-add": addSample, "live-use": useTable, "live-save": save, "live-copy": copy, "live-link": giveLink, projector: project })) on(id, "click", act);
    on("live-step", "click", () => { live.pause(); live.stepOnce(); live.render(); });
    on("live-back", "click", () => live.goTo(now.at - 1));
    on("live-epoch", "input", (event) => live.goTo(Number(event.target.value)));
    on("live-previous", "click", () => turnTo(card - 1));
    on("live-next", "click", () => turnTo(card + 1));
    on("live-sample", "change", (event) => { now.sample = Number(event.target.value); live.render(); });
    for (const [k, id] of ["live-across", "live-up"].entries()) on(id, "change", (event) => { now.pair[k] = Number(event.target.value); live.render(); });
    for (const button of all("[data-program]")) button.addEventListener("click", () => takeHome(button.dataset.program));
    new ResizeObserver(() => live.render()).observe(svg.parentElement);
    open();
  }
  function open() { // the page's own numbers, or those of a link
    const linked = location.hash.startsWith("#try=");
    const restored = linked ? live.readLink(location.hash) : null;
    if (restored) live.load(restored, say("said_restored"));
    else live.load(engine.begin(live.record.start), linked ? say("said_damaged") : say("said_start"), linked);
    exercise.start();
  }
  addEventListener("hashchange", () => { if (location.hash.startsWith("#try=")) open(); });
  return { start, turnTo, project };
})();

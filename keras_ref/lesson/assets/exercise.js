// An exercise: predict first, then look. The answers are computed by engine.js from the situation of each question.
"use strict";
const exercise = (() => {
  const questions = live.record ? live.record.exercise : [];
  const { number, label } = live;
  const begun = { at: 0, right: 0, answered: false };

  // The situation of a question and its true answer -----------------------------------------------------------------------
  function situation(question) {
    let state = engine.begin(live.record.recipes[question.recipe]);
    for (const [name, value] of Object.entries(question.set)) state = name === "units" ? engine.setUnits(state, value) : engine.set(state, name, value);
    return state;
  }
  const weights = (state) => state.weights.map((_, i) => label(i, state));
  const units = (list) => (list.length ? list.map((j) => say("name_unit", { unit: j + 1 })).join(", ") : say("option_none"));
  function after(state, epochs) { // stops where a number overflows
    let now = state;
    for (let k = 0; k < epochs && engine.finite(now); k++) now = engine.step(now);
    return now;
  }
  const KINDS = { // options, what is right (indices of options), and what is told afterwards
    sign(question, state) {
      const slope = engine.backpropagate(state)[weights(state).indexOf(question.weight)];
      return { options: ["positive", "negative", "zero"].map((name) => say(`option_${name}`)), right: [slope > 0 ? 0 : slope < 0 ? 1 : 2], told: say("told_sign", { slope: number(slope, 8) }) };
    },
    moves(question, state) {
      const next = engine.step(state), moves = next.weights.map((w, i) => w - state.weights[i]), sizes = moves.map(Math.abs);
      const i = sizes.indexOf(Math.max(...sizes));
      return { options: weights(state), right: [i], told: say("told_moves", { weight: label(i, state), move: number(moves[i], 4) }) };
    },
    diverges(question, state) {
      const before = engine.lossOf(state), loss = engine.lossOf(after(state, question.epochs));
      return { options: [say("option_yes"), say("option_no")], right: [loss <= before ? 1 : 0], told: say("told_diverges", { epochs: question.epochs, before: number(before), after: number(loss) }) };
    },
    dies(question, state) {
      const dead = engine.deadUnits(after(state, question.epochs));
      return { options: [...Array(state.units).keys()].map((j) => units([j])), right: dead, several: true, told: say("told_dies", { epochs: question.epochs, units: units(dead) }) };
    },
  };

  // One question at a time ---------------------------------------------------------------------------------------------------
  function lock(on) { document.documentElement.dataset.locked = on ? "yes" : "no"; }
  function ask() {
    const question = questions[begun.at], state = situation(question), answer = KINDS[question.kind](question, state);
    begun.answered = false;
    lock(true);
    live.load(state, say("exercise_hidden"));
    const box = by("exercise"), kind = answer.several ? "checkbox" : "radio";
    box.innerHTML = `<h3 tabindex="-1"></h3><fieldset><legend></legend><div class="answers"></div></fieldset><div class="controls"><button type="button" class="lead"></button></div><p role="status" aria-live="polite" class="told"></p>`;
    box.querySelector("h3").textContent = `${say("exercise_title")}: ${say("exercise_count", { number: begun.at + 1, count: questions.length })}`;
    box.querySelector("legend").textContent = question.ask;
    const options = answer.several ? [...answer.options, say("option_none")] : answer.options;
    box.querySelector(".answers").replaceChildren(...options.map((text, k) => {
      const choice = document.createElement("label"), input = document.createElement("input");
      Object.assign(input, { type: kind, name: "answer", value: k });
      choice.append(input, ` ${text}`);
      return choice;
    }));
    const button = box.querySelector("button");
    button.textContent = say("exercise_check");
    button.addEventListener("click", () => (begun.answered ? forward() : judge(question, answer, options)));
  }
  function judge(question, answer, options) {
    const box = by("exercise"), chosen = all("input:checked", box).map((input) => Number(input.value));
    const told = box.querySelector(".told");
    if (!chosen.length) { told.textContent = say("exercise_choose"); return; }
    const wanted = answer.several && !answer.right.length ? [options.length - 1] : answer.right;
    const right = chosen.length === wanted.length && chosen.every((k) => wanted.includes(k));
    begun.answered = true;
    begun.right += right;
    for (const input of all("input", box)) input.disabled = true;
    told.className = `told note${right ? "" : " warn"}`;
    told.textContent = [say(right ? "exercise_right" : "exercise_wrong"), answer.told, question.because].filter(Boolean).join(" ");
    box.querySelector("button").textContent = say("exercise_next");
    lock(false);
    live.all();
  }
  function forward() {
    begun.at += 1;
    if (begun.at < questions.length) { ask(); by("exercise").querySelector("h3").focus(); return; }
    document.documentElement.dataset.exercise = "done";
    by("exercise").innerHTML = `<h3 tabindex="-1"></h3>`;
    by("exercise").querySelector("h3").textContent = say("exercise_done", { right: begun.right, count: questions.length });
    by("exercise").querySelector("h3").focus();
  }
  function start() {
    if (!questions.length || document.documentElement.dataset.exercise) return;
    document.documentElement.dataset.exercise = "on";
    by("exercise").hidden = false;
    ask();
  }
  return { start, situation, KINDS };
})();

const data = JSON.parse(document.getElementById("data").textContent), HOLD = 5, TICK = 90;
let episode, ticks, position = 0, timer = null;

function open(index) {
  episode = data.episodes[index];
  [...at("episodes").children].forEach((button, i) => button.setAttribute("aria-pressed", i === index));
  const steps = Math.max(...episode.panels.map(panel => panel.turns.length));
  ticks = [];
  for (let step = 0; step < steps; step++) {
    const longest = Math.max(...episode.panels.map(panel => panel.turns[step]?.tokens.length ?? 0));
    for (let tick = 0; tick <= longest + HOLD; tick++) ticks.push([step, tick]);
  }
  ticks.push([steps, 0]);
  at("panels").className = episode.panels.length === 1 ? "alone" : "";
  at("scrub").max = ticks.length - 1;
  go(0);
}

function plot(parent, panel, step, whole) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const totals = [0, ...panel.turns.map(turn => turn.total)], values = panel.turns.map(turn => turn.value);
  const valued = values.every(v => v !== null), lines = [["var(--blue)", totals.slice(0, step + (whole ? 2 : 1))]];
  if (valued) lines.push(["var(--unsure)", values.slice(0, step + 1)]);
  chart(svg, panel.turns.length, lines, [...totals, ...values].filter(v => v !== null));
  parent.append(svg);
  make("div", parent, valued ? "return (blue) and value (amber) by step" : "return by step", "note");
}

function draw(panel, step, tick) {
  const section = make("section"), ended = step >= panel.turns.length;
  const left = make("div", section, undefined, "column"), right = make("div", section, undefined, "column");
  const turn = panel.turns[Math.min(step, panel.turns.length - 1)];
  const shown = ended ? turn.tokens.length : Math.min(tick, turn.tokens.length);
  const whole = ended || tick > turn.tokens.length;
  const top = make("div", left, undefined, "top");
  make("h2", top, panel.label);
  if (ended) make("span", top, panel.outcome, panel.success ? "good" : "bad");
  else make("span", top, "step " + (step + 1) + " of " + panel.turns.length, "note");
  const picture = make("img", left);
  picture.alt = "What the policy sees";
  picture.src = data.pictures[ended ? panel.last : turn.frame];
  const said = make("div", right, undefined, "said");
  write(said, turn.tokens.slice(0, shown));
  const latest = turn.tokens[shown - 1];
  make("div", right, latest ? "token " + shown + " of " + turn.tokens.length + ", probability " +
    latest[1].toFixed(3) + "; the stronger its color, the less likely a token was" : "", "note");
  const numbers = make("dl", right, undefined, "numbers");
  const before = turn.total - turn.reward;
  list(numbers, [
    ["action", whole ? (turn.action ?? "none") : "", whole && !turn.legal ? "bad" : ""],
    ["reward", whole ? number(turn.reward) : "", ""], ["return", number(whole ? turn.total : before), ""],
    ["value", number(turn.value), ""]]);
  const bars = make("div", right, undefined, "bars");
  weigh(bars, turn.actions, whole && turn.legal ? turn.action : undefined);
  make("div", right, turn.actions.length ? "probability of each legal action among them, given the thoughts"
    : "the response could not be read, so no action has a probability", "note");
  plot(right, panel, step, whole);
  return section;
}

function go(to) {
  position = Math.max(0, Math.min(to, ticks.length - 1));
  const [step, tick] = ticks[position];
  const scrolled = [...document.querySelectorAll(".bars")].map(bars => bars.scrollTop);
  at("panels").replaceChildren(...episode.panels.map(panel => draw(panel, step, tick)));
  document.querySelectorAll(".bars").forEach((bars, i) => { bars.scrollTop = scrolled[i] ?? 0; });
  const longest = episode.panels.reduce((a, b) => a.turns.length >= b.turns.length ? a : b);
  at("prompt").textContent = data.prompts[longest.turns[Math.min(step, longest.turns.length - 1)].prompt];
  at("scrub").value = position;
  at("where").textContent = step >= longest.turns.length ? "end" : "step " + (step + 1) + " of " + longest.turns.length;
  if (position === ticks.length - 1) stop();
}
function stop() {
  clearInterval(timer);
  timer = null;
  at("play").textContent = "Play";
}
function play() {
  if (timer) return stop();
  if (position === ticks.length - 1) go(0);
  timer = setInterval(() => go(position + 1), TICK);
  at("play").textContent = "Pause";
}
function jump(by) {
  stop();
  const step = ticks[position][0] + by, ends = ticks.map(([s], i) => s === step ? i : -1).filter(i => i >= 0);
  go(ends.length ? ends[ends.length - 1] : by < 0 ? 0 : ticks.length - 1);
}
data.episodes.forEach((one, index) => {
  const good = one.panels[0].success;
  const button = make("button", at("episodes"), (good ? "success" : "failure") + ", seed " + one.seed);
  button.onclick = () => { stop(); open(index); };
});
at("play").onclick = play;
at("back").onclick = () => jump(-1);
at("on").onclick = () => jump(1);
at("scrub").oninput = event => { stop(); go(Number(event.target.value)); };
document.onkeydown = event => {
  const keys = { ArrowLeft: () => jump(-1), ArrowRight: () => jump(1), " ": play };
  if (event.target.tagName === "INPUT" || event.target.tagName === "BUTTON" && event.key === " ") return;
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
};
open(0);
if (location.hash === "#end") go(ticks.length - 1);

const MOST_BYTES = 10e6, ALONE = "", ARROWS = {
  ArrowLeft: /(^|\b)left$/, ArrowRight: /(^|\b)right$/, ArrowUp: /(^|\b)(forward|up|\+)$/,
  ArrowDown: /(^|\b)(back|down|-)$/,
};
const still = matchMedia("(prefers-reduced-motion: reduce)");
let choices = null, state = null, answer = null, turns = [], busy = false, running = false, picture = null;

async function call(method, path, body) {
  let reply;
  try {
    const json = { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    reply = await fetch("/api/" + path, { method, ...(body ? json : {}) });
  } catch {
    throw new Error("the server does not answer; is `vldac play` still running?");
  }
  const data = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Error(data.error ?? "the server failed; its terminal says why");
  return data;
}
const session = (path, body) => call("POST", "sessions/" + state.session + "/" + path, body);
const wait = milliseconds => new Promise(done => setTimeout(done, milliseconds));

function say(text, kind) {
  at("status").textContent = text;
  at("status").className = kind ?? "";
}

/* One thing at a time; what fails is said where it is seen. */
async function busily(text, work) {
  if (busy) return;
  const held = document.activeElement, place = [...at("actions").children].indexOf(held);
  const keys = held?.matches("button:focus-visible");
  busy = true;
  say(text, "busy");
  refresh();
  try {
    await work();
    say(!state ? "" : state.ended ? "The episode is over." : state.model ? "Your move, or the model's." : "Your move.");
  } catch (error) {
    running = false;
    say(error.message, "bad");
  }
  busy = false;
  refresh();
  // Who works by keys goes on where she was, though the buttons were off meanwhile, or are new ones.
  if (keys && document.activeElement === document.body) (place < 0 ? held : at("actions").children[place])?.focus();
}

function refresh() {
  const over = !state || Boolean(state.ended), alone = !state?.model;
  for (const part of document.querySelectorAll(".modeled")) part.hidden = alone;
  at("asked").textContent = alone ? "What a model would be asked" : "What it is asked";
  for (const control of document.querySelectorAll("header :is(select, input, button), #typed :is(input, button)"))
    control.disabled = busy;
  for (const button of at("actions").children) button.disabled = busy || over;
  for (const control of at("typed").elements) control.disabled = busy || over;
  for (const button of [...at("drive").children, at("restore")]) button.disabled = busy || over || alone;
  at("prompt").readOnly = busy || alone;
  at("do").disabled ||= answer?.step !== state?.steps;
  at("whole").disabled = (busy && !running) || over || alone;
  at("whole").textContent = running ? "Pause" : "Whole episode";
  at("restore").hidden = !state || at("prompt").value === state.prompt;
  at("put").disabled = busy || !picture || at("model").value === ALONE;
  at("take").disabled = busy || !state;
}

/* The frame as large as it fits, a whole number of times where it is small, so that its pixels stay square. */
function fit() {
  const frame = at("frame"), width = frame.naturalWidth, height = frame.naturalHeight;
  if (!width) return;
  const room = Math.min(frame.parentElement.clientWidth / width, innerHeight * 0.6 / height);
  frame.classList.toggle("small", width < 240);
  frame.style.width = width * (room >= 2 && width < 240 ? Math.floor(room) : Math.min(room, 3)) + "px";
}

/* `old` is what was shown before. A question of a person's own stays as long as it takes the place of the same one. */
function show(next, old = state) {
  const edited = old && at("prompt").value !== old.prompt, kept = edited && next.prompt === old.prompt;
  state = next;
  at("world-title").textContent = state.environment;
  at("progress").textContent = "seed " + state.seed + " · step " + state.steps + " · return " + number(state.return);
  at("frame").src = state.frames.at(-1);
  at("window").hidden = state.frames.length < 2;
  at("window").replaceChildren();
  state.frames.slice(0, -1).forEach((address, i, all) => {
    const image = make("img", at("window"));
    image.src = address;
    image.alt = (all.length - i) + " steps before";
  });
  at("ended").hidden = !state.ended;
  at("ended").textContent = state.ended?.outcome ?? "";
  at("ended").className = "ended " + (state.ended?.success ? "good" : "bad");
  at("actions").replaceChildren();
  state.actions.forEach((name, i) => {
    const button = make("button", at("actions"), name);
    if (i < 9) make("kbd", button, String(i + 1)).setAttribute("aria-hidden", "true");
    button.onclick = () => act(name);
  });
  if (!kept) at("prompt").value = state.prompt;
  at("put-back").hidden = !edited || kept;
  running &&= !edited || kept;
  at("mind-title").textContent = state.model ?? "You play alone";
  at("origin").textContent = choices.models.find(one => one.name === state.model)?.note ?? "";
  record();
}

function record() {
  at("steps").replaceChildren();
  turns.forEach((turn, i) => {
    const line = make("li", null);
    make("span", line, String(i + 1), "note");
    make("span", line, turn.by === "person" ? "you" : "model");
    make("span", line, turn.action ?? "no action", turn.legal ? "" : "bad").title = turn.legal ? "" : "not legal";
    make("b", line, number(turn.reward));
    at("steps").prepend(line);
  });
  const totals = [0, ...turns.map(turn => turn.total)], values = turns.map(turn => turn.value);
  const valued = turns.length > 1 && values.every(value => value !== null);
  const lines = [["var(--blue)", totals]];
  if (valued) lines.push(["var(--unsure)", values]);
  chart(at("chart"), Math.max(turns.length, 1), lines, valued ? [...totals, ...values] : totals);
  at("chart-note").textContent = valued ? "return (blue) and value (amber) by step" : "return by step";
}

function explain() {
  at("said-title").textContent = answer ? "What it answered at step " + (answer.step + 1) : "What it answers";
  write(at("said"), answer?.tokens ?? []);
  const chance = answer?.actions.find(([name]) => name === answer.action);
  list(at("numbers"), [["action", answer ? answer.action ?? "none" : "", answer && !chance ? "bad" : ""],
    ["its probability", chance ? chance[1].toFixed(3) : ""], ["value of the state", answer ? number(answer.value) : ""]]);
  weigh(at("bars"), answer?.actions ?? [], answer?.action);
  at("bars-note").textContent = !answer ? "" : answer.actions.length
    ? "probability of each legal action among them, given the thoughts"
    : "the response could not be read, so no action has a probability";
}

async function begin() {
  await busily(at("model").value === ALONE ? "starting the environment" : "loading the model and the environment", async () => {
    const old = state, seed = at("seed").value === "" ? null : Number(at("seed").value);
    const wanted = { environment: at("environment").value, model: at("model").value || null };
    const same = old && old.environment === wanted.environment && old.model === wanted.model;
    let next = same ? await session("episode", { seed }).catch(() => null) : null;
    if (!next) {  // or it was closed meanwhile
      if (old) await call("DELETE", "sessions/" + old.session);
      state = null;
      next = await call("POST", "sessions", { ...wanted, seed });
    }
    turns = [];
    answer = null;
    show(next, old);
    explain();
  });
}

async function ask() {
  const prompt = at("prompt").value;
  answer = null;
  explain();
  const given = await session("answer", { prompt: prompt === state.prompt ? null : prompt });
  const pace = Math.ceil(given.tokens.length / 60);
  for (let count = 1; count < given.tokens.length && !still.matches; count += pace) {
    write(at("said"), given.tokens.slice(0, count));
    await wait(18);
  }
  answer = { ...given, step: state.steps };
  explain();
}

async function take(action) {
  const asked = answer?.step === state.steps, done = await session("step", { action });
  turns.push({ ...done.turn, value: asked ? answer.value : null });
  show(done.state);
  if (action !== null) answer = null;
  explain();
}

const act = name => busily("", () => take(name));
const model = work => busily("the model thinks", work);

async function whole() {
  if (running) {
    running = false;
    return;
  }
  running = true;
  await model(async () => {
    while (running && !state.ended) {
      await ask();
      await wait(still.matches ? 0 : 350);
      await take(null);
    }
  });
  running = false;
  refresh();
}

async function put() {
  await model(async () => {
    const [, base64] = picture.split(",");
    const reply = await call("POST", "questions",
      { model: at("model").value, question: at("words").value, picture: base64 });
    at("reply").hidden = false;
    at("shown").src = reply.picture;
    write(at("replied"), reply.tokens);
    if (!reply.tokens.length) at("replied").textContent = "(it says nothing)";
    if (reply.truncated) make("span", at("replied"), " …").title = "cut off here";
  });
}

function choose(file) {
  if (!file) return;
  if (file.size > MOST_BYTES) return say("the picture has more than 10 MB; take a smaller one", "bad");
  const reader = new FileReader();
  reader.onload = () => {
    picture = reader.result;
    at("file-name").textContent = file.name;
    refresh();
  };
  reader.readAsDataURL(file);
}

function fill(select, names, labels) {
  select.replaceChildren();
  const groups = {};
  names.forEach((name, i) => {
    const family = labels ? "" : name.split(/[-:]/)[0];
    if (family && !groups[family]) (groups[family] = make("optgroup", select)).label = family;
    make("option", family ? groups[family] : select, labels ? labels[i] : name).value = name;
  });
}

async function start() {
  await busily("looking for environments and models", async () => {
    choices = await call("GET", "choices");
    fill(at("environment"), choices.environments);
    fill(at("model"), [...choices.models.map(one => one.name), ALONE],
      [...choices.models.map(one => one.note ? one.name + " · " + one.note : one.name), "nobody: you play alone"]);
    at("model").value = choices.model ?? choices.models[0]?.name ?? ALONE;
    at("environment").value = choices.environment ?? home() ?? "GymCards-NumberLine-v0";
  });
  if (choices) await begin();
}
const home = () => choices.models.find(one => one.name === at("model").value)?.environment ?? undefined;

at("setup").onsubmit = event => { event.preventDefault(); begin(); };
at("environment").onchange = begin;
at("model").onchange = () => {
  at("environment").value = home() ?? at("environment").value;
  begin();
};
at("typed").onsubmit = event => {
  event.preventDefault();
  const text = at("action").value.trim();
  at("action").value = "";
  if (text) act(text).then(() => at("action").focus());
};
at("prompt").oninput = () => { at("put-back").hidden = true; refresh(); };
at("restore").onclick = () => { at("prompt").value = state.prompt; refresh(); };
at("ask").onclick = () => model(ask);
at("do").onclick = () => busily("", () => take(null));
at("step").onclick = () => model(async () => { await ask(); await take(null); });
at("whole").onclick = whole;
at("file").onchange = event => choose(event.target.files[0]);
at("take").onclick = () => { picture = state.frames.at(-1); at("file-name").textContent = "the frame above"; refresh(); };
at("question").onsubmit = event => { event.preventDefault(); put(); };
at("frame").onload = fit;
at("shown").onload = () => at("shown").classList.toggle("small", at("shown").naturalWidth < 240);
addEventListener("resize", fit);
addEventListener("pagehide", () => {
  if (state) fetch("/api/sessions/" + state.session, { method: "DELETE", keepalive: true });
});
document.onkeydown = event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  if (event.target.matches("button") && [" ", "Enter"].includes(event.key)) return;
  const arrow = ARROWS[event.key], named = arrow && state?.actions.find(name => arrow.test(name));
  const press = named !== undefined ? [...at("actions").children][state.actions.indexOf(named)]
    : /^[1-9]$/.test(event.key) ? at("actions").children[event.key - 1]
    : { " ": at("step"), q: at("ask"), d: at("do"), n: at("new") }[event.key];
  if (!press) return;
  event.preventDefault();
  press.click();
};
start();

// The page of `innverse serve`: no library, no build step, nothing from elsewhere.
"use strict";

const $ = (id) => document.getElementById(id);
const show = (element, yes) => { element.hidden = !yes; };

// ---- talking to the server ---------------------------------------------------------------------

class Silent extends Error {}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Silent("The server does not answer: is it still running?");
  }
  const told = answer.headers.get("content-type")?.includes("json") ? await answer.json() : null;
  if (!answer.ok) throw new Error(told?.error ?? `The server refused (${answer.status}).`);
  return told;
}

const post = (path, wish) => ask(path, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(wish),
});

let allowed = null;  // told by the server

function upload(blob) {
  if (allowed && blob.size > allowed.upload)
    throw new Error(`The file is larger than ${Math.floor(allowed.upload / 2 ** 20)} MB, the most that is taken.`);
  return ask("/api/pictures", {
    method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: blob,
  });
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// Wait for a job; told(state) is called now and then. Who leaves the page lets others go first; who
// cancels need not wait for the step that the server is at.
const awaited = new Set();
function cancel(id) {
  awaited.delete(id);
  ask(`/api/jobs/${id}`, { method: "DELETE", keepalive: true }).catch(() => {});
}
addEventListener("pagehide", () => { for (const id of awaited) cancel(id); });

async function finished(id, told) {
  awaited.add(id);
  try {
    for (let wait = 150, silences = 0; ; wait = Math.min(1000, 1.3 * wait)) {
      try {
        const state = await ask(`/api/jobs/${id}`);
        if (!awaited.has(id)) throw new Error("cancelled");
        silences = 0;
        told(state);
        if (state.state === "done") return state;
        if (state.state === "failed" || state.state === "cancelled") throw new Error(state.error);
      } catch (error) {
        if (!(error instanceof Silent) || ++silences === 10) throw error;
      }
      await pause(wait);
    }
  } finally {
    awaited.delete(id);
  }
}

function words(state) {
  if (state.state === "waiting") return `waiting: ${state.before} in the line`;
  if (state.fraction === 0) return "starting …";
  const left = state.left === null ? "" : `, ${Math.ceil(state.left)} s left`;
  return `${Math.round(100 * state.fraction)} %${left} ${state.note}`;
}

// ---- tabs --------------------------------------------------------------------------------------

const tabs = [...document.querySelectorAll("[role=tab]")];
function choose(tab) {
  for (const one of tabs) {
    const own = one === tab;
    one.setAttribute("aria-selected", own);
    one.tabIndex = own ? 0 : -1;
    show($(one.getAttribute("aria-controls")), own);
  }
}
for (const [k, tab] of tabs.entries()) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(k + step + tabs.length) % tabs.length];
    choose(next);
    next.focus();
  });
}

// ---- the picture and the paint over it ---------------------------------------------------------

const canvas = $("canvas"), brushed = canvas.getContext("2d");
const paint = document.createElement("canvas"), layer = paint.getContext("2d", { willReadFrequently: true });
let picture = null, image = null, painted = false, cursor = null, last = null;

async function take(file) {
  if (!file) return;
  if (running) cancel(running);
  say("");
  try {
    picture = await upload(file);
    image = await loaded(`/api/pictures/${picture.id}`);
  } catch (error) {
    return say(error.message);
  }
  for (const one of [canvas, paint]) [one.width, one.height] = [picture.width, picture.height];
  $("brush").value = Math.max(2, Math.round(Math.min(picture.width, picture.height) / 16));
  $("about").textContent = [`${picture.width}×${picture.height} pixels`, ...picture.notes].join("; ");
  $("drop").classList.add("small-now");
  cursor = { x: picture.width / 2, y: picture.height / 2 };
  clear();
  back();
}

function loaded(address) {
  return new Promise((done, failed) => {
    const found = new Image();
    found.onload = () => done(found);
    found.onerror = () => failed(new Error("The picture could not be shown."));
    found.src = address;
  });
}

function draw() {
  if (!image) return;
  brushed.clearRect(0, 0, canvas.width, canvas.height);
  brushed.drawImage(image, 0, 0);
  if (task() === "repair") brushed.drawImage(paint, 0, 0);
  if (document.activeElement === canvas) {
    brushed.strokeStyle = "#fff";
    brushed.strokeRect(cursor.x - 3, cursor.y - 3, 6, 6);
  }
}

function clear() {
  layer.clearRect(0, 0, paint.width, paint.height);
  painted = false;
  update();
}

function stroke(from, to) {
  if (task() !== "repair") return;
  layer.strokeStyle = "#d6006c";
  layer.lineWidth = Number($("brush").value);
  layer.lineCap = layer.lineJoin = "round";
  layer.beginPath();
  layer.moveTo(from.x, from.y);
  layer.lineTo(to.x + 0.01, to.y);
  layer.stroke();
  painted = true;
  update();
}

function at(event) {
  const box = canvas.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) * canvas.width) / box.width,
    y: ((event.clientY - box.top) * canvas.height) / box.height,
  };
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  last = at(event);
  stroke(last, last);
});
canvas.addEventListener("pointermove", (event) => {
  if (!last) return;
  const now = at(event);
  stroke(last, now);
  last = now;
});
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { last = null; });
canvas.addEventListener("keydown", (event) => {
  const far = Number($("brush").value) / 2;
  const step = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] }[event.key];
  if (step) {
    cursor.x = Math.min(canvas.width, Math.max(0, cursor.x + step[0]));
    cursor.y = Math.min(canvas.height, Math.max(0, cursor.y + step[1]));
  } else if (event.key === " ") {
    stroke(cursor, cursor);
  } else {
    return;
  }
  event.preventDefault();
  draw();
});
for (const name of ["focus", "blur"]) canvas.addEventListener(name, draw);

$("file").addEventListener("change", () => take($("file").files[0]));
$("clear").addEventListener("click", clear);
for (const name of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files[0]);
  });
}

// ---- the wish ----------------------------------------------------------------------------------

const task = () => document.querySelector("[name=task]:checked").value;
const say = (message) => { $("error").textContent = message; };
let running = null;

function update() {
  const now = task();
  for (const name of ["repair", "denoise", "deblur", "enlarge"])
    for (const one of document.querySelectorAll(`.for-${name}`)) show(one, name === now);
  for (const one of document.querySelectorAll(".not-repair")) show(one, now !== "repair");
  $("noise").disabled = now === "denoise" && $("auto").checked;
  $("start").disabled = !picture || running !== null || (now === "repair" && !painted);
  $("start").textContent = { repair: "Repair it", denoise: "Remove the noise", deblur: "Sharpen it", enlarge: "Enlarge it" }[now];
  draw();
}
for (const one of document.querySelectorAll("[name=task], #auto")) one.addEventListener("change", update);

function mask() {
  const { data } = layer.getImageData(0, 0, paint.width, paint.height);
  const plain = document.createElement("canvas");
  [plain.width, plain.height] = [paint.width, paint.height];
  const pixels = plain.getContext("2d").createImageData(paint.width, paint.height);
  for (let k = 0; k < data.length; k += 4) {
    pixels.data.fill(data[k + 3] > 0 ? 0 : 255, k, k + 3);
    pixels.data[k + 3] = 255;
  }
  plain.getContext("2d").putImageData(pixels, 0, 0);
  return new Promise((done) => plain.toBlob(done, "image/png"));
}

$("wish").addEventListener("submit", async (event) => {
  event.preventDefault();
  say("");
  running = "";
  update();
  show($("progress"), true);
  show($("result"), false);
  const bar = document.querySelector("#progress progress"), text = document.querySelector("#progress span");
  try {
    const now = task(), wish = {
      picture: picture.id,
      task: now,
      noise: now === "denoise" && $("auto").checked ? null : Number($("noise").value) / 255,
      width: Number($("width").value),
      factor: Number($("factor").value),
      clean: now !== "repair" && $("clean").checked,
      error_bar: $("bar").value,
    };
    if (now === "repair") wish.mask = (await upload(await mask())).id;
    running = (await post("/api/repair", wish)).id;
    show($("cancel"), true);
    const id = running;
    const state = await finished(id, (told) => { bar.value = told.fraction; text.textContent = words(told); });
    await present(id, state);
  } catch (error) {
    say(error.message);
  }
  running = null;
  show($("progress"), false);
  show($("cancel"), false);
  update();
});

$("cancel").addEventListener("click", () => { if (running) cancel(running); });

// ---- the result --------------------------------------------------------------------------------

let flickering = null;

async function present(id, state) {
  const of = (name) => `/api/jobs/${id}/${name}`, told = state.result, bars = told.error_bar;
  await Promise.all([loaded(of("before.png")), loaded(of("result.png"))]);
  $("before").src = of("before.png");
  $("after").src = of("result.png");
  $("download").href = of("result.png");
  $("command").textContent = told.command;
  $("python").textContent = told.python;
  const quality = told.quality ? ` ${told.before.psnr.toFixed(1)} dB before, ${told.quality.psnr.toFixed(1)} dB after.` : "";
  $("told").textContent = `Method ${told.method}, ${told.seconds.toFixed(1)} s.${quality} ${told.notes.join(" ")}`;
  if (bars) {
    const exact = bars.approximate ? "approximate" : bars.status;
    $("told").textContent += ` Error bar of ${bars.of}, where e is noise of deviation 1: ${bars.median.toFixed(3)} for the median pixel, ${bars.largest.toFixed(2)} at most (${exact}).`;
    $("overlay").src = of("std.png");
  }
  for (const one of ["bar-shown", "draws-shown"]) show($(one), Boolean(bars));
  $("show-bar").checked = $("flicker").checked = false;
  $("flicker").onchange = () => flicker(of, bars);
  show($("overlay"), false);
  show($("easel"), false);
  show($("compare"), true);
  show($("result"), true);
  slide();
  $("compare").scrollIntoView({ block: "nearest" });  // on a telephone it is above the button
}

function slide() {
  $("after").style.clipPath = `inset(0 0 0 ${$("slider").value}%)`;
}
$("slider").addEventListener("input", slide);
$("show-bar").addEventListener("change", () => show($("overlay"), $("show-bar").checked));

async function flicker(of, bars) {
  clearInterval(flickering);
  flickering = null;
  if (!$("flicker").checked) {
    $("after").src = of("result.png");
    return;
  }
  const draws = await Promise.all(Array.from({ length: bars.draws }, (_, k) => loaded(of(`draw${k}.png`))));
  let k = 0;
  const slow = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1500 : 250;
  flickering = setInterval(() => { $("after").src = draws[k++ % draws.length].src; }, slow);
}

function back() {
  clearInterval(flickering);
  show($("compare"), false);
  show($("result"), false);
  show($("easel"), true);
  update();
}
$("again").addEventListener("click", back);

// ---- samples and interpolation -----------------------------------------------------------------

$("temperature").addEventListener("input", () => { $("temperature-told").value = $("temperature").value; });

async function drawn(path, wish, file) {
  const told = $("gallery-told");
  $("gallery-error").textContent = "";
  try {
    const { id } = await post(path, wish);
    const state = await finished(id, (state) => { told.textContent = words(state); });
    const figure = $("drawn"), picture = figure.querySelector("img"), walk = figure.querySelector("input");
    picture.src = `/api/jobs/${id}/${file}`;
    figure.querySelector("code").textContent = state.result.command;
    show($("walk"), Boolean(state.result.steps));
    walk.max = (state.result.steps ?? 1) - 1;
    walk.oninput = () => { picture.src = `/api/jobs/${id}/step${walk.value}.png`; };
    show(figure, true);
    told.textContent = "";
  } catch (error) {
    told.textContent = "";
    $("gallery-error").textContent = error.message;
  }
}

const anew = () => Math.floor(Math.random() * 2 ** 31);

$("sampling").addEventListener("submit", (event) => {
  event.preventDefault();
  drawn("/api/samples", { model: $("model").value, temperature: Number($("temperature").value), seed: anew() }, "samples.png");
});

$("between").addEventListener("click", async () => {
  const wish = { model: $("model").value, seed: anew() };
  try {
    for (const end of ["first", "second"]) {
      const file = $(end).files[0];
      if (file) wish[end] = (await upload(file)).id;
    }
  } catch (error) {
    $("gallery-error").textContent = error.message;
    return;
  }
  drawn("/api/between", wish, "strip.png");
});

// ---- the arm -----------------------------------------------------------------------------------

const postures = $("postures"), pen = postures.getContext("2d");
const SPAN = { left: -0.6, bottom: -1.6, size: 3.2 };
let point = { x: 1.6, y: 0.2 }, asking = false, again = false, able = false;
const ink = () => getComputedStyle(document.body).color;
const accent = () => getComputedStyle(document.documentElement).getPropertyValue("--accent");

const onCanvas = ([x, y]) => [
  ((x - SPAN.left) / SPAN.size) * postures.width,
  postures.height - ((y - SPAN.bottom) / SPAN.size) * postures.height,
];

$("learn").addEventListener("click", async () => {
  $("learn").disabled = true;
  try {
    const { id } = await post("/api/arm/learn", {});
    await finished(id, (state) => { $("arm-told").textContent = state.state === "waiting" ? words(state) : "learning from 20,000 simulations …"; });
    able = true;
    $("arm-told").textContent = "";
    show($("learn"), false);
    reach();
  } catch (error) {
    $("arm-error").textContent = error.message;
    $("learn").disabled = false;
  }
});

async function reach() {
  show($("board"), able);
  if (!able) return;
  if (asking) { again = true; return; }
  asking = true;
  try {
    const found = await post("/api/arm/draws", { ...point, draws: 200 });
    drawPostures(found.joints);
    drawPairs(found.names, found.theta);
    $("arm-error").textContent = "";
  } catch (error) {
    $("arm-error").textContent = error.message;
  }
  asking = false;
  if (again) { again = false; reach(); }
}

function drawPostures(all) {
  pen.clearRect(0, 0, postures.width, postures.height);
  pen.globalAlpha = 0.12;
  pen.strokeStyle = accent();
  pen.lineWidth = 2;
  for (const joints of all) {
    pen.beginPath();
    joints.forEach((joint, k) => (k ? pen.lineTo(...onCanvas(joint)) : pen.moveTo(...onCanvas(joint))));
    pen.stroke();
  }
  pen.globalAlpha = 1;
  pen.fillStyle = ink();
  pen.beginPath();
  pen.arc(...onCanvas([point.x, point.y]), 7, 0, 2 * Math.PI);
  pen.fill();
}

function drawPairs(names, theta) {
  const board = $("pairs"), c = board.getContext("2d"), n = names.length, side = board.width / n;
  c.clearRect(0, 0, board.width, board.height);
  const place = (v, k) => ((v / (k ? 1.8 : 0.9) + 1) / 2) * side;
  c.font = "13px system-ui";
  for (let i = 0; i < n; i++) for (let j = 0; j <= i; j++) {
    const left = j * side, top = i * side;
    c.strokeStyle = ink();
    c.globalAlpha = 0.3;
    c.strokeRect(left + 1, top + 1, side - 2, side - 2);
    c.globalAlpha = i === j ? 0.8 : 0.35;
    c.fillStyle = accent();
    c.save();
    c.beginPath();
    c.rect(left, top, side, side);
    c.clip();
    if (i === j) {
      const bins = new Array(24).fill(0);
      for (const row of theta) bins[Math.max(0, Math.min(23, Math.floor((place(row[i], i) / side) * 24)))]++;
      const most = Math.max(...bins);
      bins.forEach((count, k) => c.fillRect(left + (k * side) / 24, top + side, side / 24, (-0.75 * side * count) / most));
    } else {
      for (const row of theta) c.fillRect(left + place(row[j], j) - 1, top + side - place(row[i], i) - 1, 2.5, 2.5);
    }
    c.restore();
    c.globalAlpha = 1;
    c.fillStyle = ink();
    if (i === j) c.fillText(names[i], left + 6, top + 16);
  }
}

function move(event) {
  const box = postures.getBoundingClientRect();
  point = {
    x: SPAN.left + (SPAN.size * (event.clientX - box.left)) / box.width,
    y: SPAN.bottom + SPAN.size * (1 - (event.clientY - box.top) / box.height),
  };
  reach();
}
let dragging = false;
postures.addEventListener("pointerdown", (event) => { dragging = true; postures.setPointerCapture(event.pointerId); move(event); });
postures.addEventListener("pointermove", (event) => { if (dragging) move(event); });
postures.addEventListener("pointerup", () => { dragging = false; });
postures.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-0.05, 0], ArrowRight: [0.05, 0], ArrowUp: [0, 0.05], ArrowDown: [0, -0.05] }[event.key];
  if (!step) return;
  event.preventDefault();
  point = { x: point.x + step[0], y: point.y + step[1] };
  reach();
});

ask("/api/limits").then((told) => {
  allowed = told;
  if (told.keep !== 3600) $("kept").textContent = `${Math.ceil(told.keep / 60)} minutes`;
  able = told.arm;
  show($("learn"), !able);
  reach();
}).catch((error) => say(error.message));
if (!["localhost", "127.0.0.1", "[::1]"].includes(location.hostname))
  $("where").textContent = "Pictures go to the computer that serves this page, and no further.";
update();

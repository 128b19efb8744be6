// The picture of PreparePanel's editor: its crop is dragged, its mask painted. Only a thumbnail is here; the kernel is told
// the square, in px of the whole picture, and each stroke, in shares of width and height.
const TOOLS = { crop: "Crop", paint: "Paint mask", erase: "Erase mask" };
const KEYS = {
  crop: "Arrow keys move the square, plus and minus change its size.",
  paint: "Arrow keys move the brush, space paints, square brackets change its size, control Z takes a stroke back.",
  erase: "Arrow keys move the brush, space erases, square brackets change its size, control Z takes a stroke back.",
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const between = (low, value, high) => Math.max(low, Math.min(value, high));

function made(tag, facts, parent) {
  const out = Object.assign(document.createElement(tag), facts);
  parent.append(out);
  return out;
}

function render({ model, el }) {
  const root = made("div", { className: "ti-nb-painter" }, el);
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab would take the arrow keys
  const bar = made("div", { className: "ti-nb-bar" }, root);
  bar.setAttribute("role", "toolbar");
  bar.setAttribute("aria-label", "Tools for crop and mask");
  const canvas = made("canvas", { tabIndex: 0 }, root);
  canvas.setAttribute("role", "application");
  const ctx = canvas.getContext("2d");
  const picture = new Image(), white = document.createElement("canvas"), tint = document.createElement("canvas");
  let tool = "crop", crop = model.get("crop"), hasMask = false, held = null, stroke = null, at = [0.5, 0.5], brush = 0.06;
  let onPicture = false, drawn = 0;

  const buttons = Object.entries(TOOLS).map(([name, label]) => {
    const button = made("button", { textContent: label, className: "jupyter-widgets jupyter-button" }, bar);
    button.onclick = () => choose(name);
    return [name, button];
  });
  const undo = made("button", { textContent: "Undo stroke", className: "jupyter-widgets jupyter-button" }, bar);
  undo.onclick = () => model.send({ undo: true });
  const size = made("label", { textContent: "Brush " }, bar);
  const slider = made("input", { type: "range", min: 1, max: 30, value: 6 }, size);
  slider.oninput = () => { brush = slider.value / 100; draw(); };

  function choose(name) {
    tool = name;
    for (const [other, button] of buttons) {
      button.setAttribute("aria-pressed", other === tool);
      button.classList.toggle("mod-active", other === tool);
    }
    canvas.setAttribute("aria-label", `${model.get("label")}. ${KEYS[tool]}`);
    size.style.visibility = tool === "crop" ? "hidden" : "visible";
    draw();
  }

  const full = () => model.get("size");
  const scale = () => canvas.width / full()[0];
  const radius = () => brush * Math.min(canvas.width, canvas.height);
  const where = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };

  function draw() {
    cancelAnimationFrame(drawn);
    drawn = requestAnimationFrame(paintAll);
  }

  function paintAll() {
    const { width, height } = canvas, k = scale(), [left, top, side] = crop.map((value) => value * k);
    ctx.imageSmoothingEnabled = picture.width * 2 > width; // small drawings keep their pixels
    ctx.drawImage(picture, 0, 0, width, height);
    if (hasMask) {
      const red = tint.getContext("2d");
      red.globalCompositeOperation = "copy";
      red.fillStyle = "rgb(200, 0, 60)";
      red.fillRect(0, 0, width, height);
      red.globalCompositeOperation = "destination-out";
      red.drawImage(white, 0, 0);
      ctx.globalAlpha = 0.6;
      ctx.drawImage(tint, 0, 0);
      ctx.globalAlpha = 1;
    }
    ctx.fillStyle = "rgba(40, 40, 40, 0.7)";
    ctx.beginPath();
    ctx.rect(0, 0, width, height);
    ctx.rect(left, top, side, side);
    ctx.fill("evenodd");
    for (const [colour, thick] of [["black", 4], ["white", 2]]) {
      ctx.strokeStyle = ctx.fillStyle = colour;
      ctx.lineWidth = thick;
      ctx.strokeRect(left + 1, top + 1, side - 2, side - 2);
      if (tool === "crop") for (const [x, y] of corners()) ctx.fillRect(x - 5 - thick / 2, y - 5 - thick / 2, 10 + thick, 10 + thick);
      if (tool !== "crop" && (onPicture || document.activeElement === canvas)) {
        ctx.beginPath();
        ctx.arc(at[0] * width, at[1] * height, radius(), 0, 7);
        ctx.stroke();
      }
    }
  }

  const corners = () => {
    const [left, top, side] = crop.map((value) => value * scale());
    return [[left, top], [left + side, top], [left + side, top + side], [left, top + side]];
  };

  function setCrop(left, top, side) {
    const [width, height] = full(), least = Math.ceil(Math.min(width, height) / 10);
    side = Math.round(between(least, side, Math.min(width, height)));
    crop = [Math.round(between(0, left, width - side)), Math.round(between(0, top, height - side)), side];
    draw();
  }

  function resize(corner, x, y) { // the opposite corner stays
    const [left, top, side] = held.crop, east = corner === 1 || corner === 2, south = corner >= 2;
    const [fixedX, fixedY] = [east ? left : left + side, south ? top : top + side], [width, height] = full();
    const room = Math.min(east ? width - fixedX : fixedX, south ? height - fixedY : fixedY);
    const wanted = between(Math.min(width, height) / 10, Math.max(Math.abs(x - fixedX), Math.abs(y - fixedY)), room);
    setCrop(east ? fixedX : fixedX - wanted, south ? fixedY : fixedY - wanted, wanted);
  }

  function tell() {
    model.set("crop", crop);
    model.save_changes();
  }

  function dab(x, y) {
    if (!hasMask) { // the first stroke that erases starts on a full mask
      hasMask = true;
      white.getContext("2d").clearRect(0, 0, white.width, white.height);
      if (tool === "erase") white.getContext("2d").fillRect(0, 0, white.width, white.height);
    }
    const pen = white.getContext("2d"), last = stroke.at(-1) || [x, y];
    pen.globalCompositeOperation = tool === "erase" ? "destination-out" : "source-over";
    pen.lineCap = "round";
    pen.lineWidth = 2 * radius();
    pen.beginPath();
    pen.moveTo(last[0] * white.width, last[1] * white.height);
    pen.lineTo(x * white.width + 0.01, y * white.height);
    pen.stroke();
    pen.globalCompositeOperation = "source-over";
    stroke.push([x, y]);
    draw();
  }

  function finish() {
    if (stroke) model.send({ stroke, radius: brush, white: tool === "paint" });
    else if (held) tell();
    stroke = held = null;
  }

  canvas.onpointerdown = (event) => {
    const [x, y] = (at = where(event)), px = x * canvas.width, py = y * canvas.height;
    canvas.setPointerCapture(event.pointerId);
    if (tool !== "crop") {
      stroke = [];
      return dab(x, y);
    }
    const reach = event.pointerType === "touch" ? 28 : 16;
    const near = corners().findIndex(([cx, cy]) => Math.hypot(cx - px, cy - py) < reach);
    const [left, top, side] = crop.map((value) => value * scale());
    const inside = px > left && px < left + side && py > top && py < top + side;
    if (near >= 0 || inside) held = { corner: near, crop, x, y };
  };
  canvas.onpointermove = (event) => {
    const [x, y] = (at = where(event)), [width, height] = full();
    if (stroke && Math.hypot(x - stroke.at(-1)[0], y - stroke.at(-1)[1]) > brush / 4) dab(between(0, x, 1), between(0, y, 1));
    else if (held && held.corner >= 0) resize(held.corner, x * width, y * height);
    else if (held) setCrop(held.crop[0] + (x - held.x) * width, held.crop[1] + (y - held.y) * height, held.crop[2]);
    else if (tool !== "crop") draw();
  };
  canvas.onpointerup = canvas.onpointercancel = finish;
  canvas.onpointerenter = canvas.onpointerleave = (event) => { onPicture = event.type === "pointerenter"; draw(); };
  canvas.onfocus = canvas.onblur = draw;

  root.onkeydown = (event) => {
    event.stopPropagation(); // Notebook 6 would take it
    if (event.target !== canvas) return;
    const arrow = ARROWS[event.key], far = event.shiftKey ? 5 : 1, [left, top, side] = crop, [width, height] = full();
    const grown = { "+": 2, "=": 2, "-": -2 }[event.key], wider = { "]": 0.01, "[": -0.01 }[event.key];
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) model.send({ undo: true });
    else if (tool === "crop" && arrow) setCrop(left + (arrow[0] * far * width) / 100, top + (arrow[1] * far * height) / 100, side);
    else if (tool === "crop" && grown) {
      const step = (grown * far * Math.min(width, height)) / 100;
      setCrop(left - step / 2, top - step / 2, side + step);
    } else if (tool !== "crop" && arrow) at = at.map((value, axis) => between(0, value + (arrow[axis] * far) / 100, 1));
    else if (tool !== "crop" && wider) slider.value = 100 * (brush = between(0.01, brush + wider, 0.3));
    else if (tool !== "crop" && event.key === " ") {
      stroke = [];
      dab(...at);
      finish();
    } else return;
    event.preventDefault();
    if (tool === "crop") tell();
    draw();
  };

  const address = (bytes, kind) => URL.createObjectURL(new Blob([bytes], { type: kind }));

  function showPicture() {
    const [width, height] = full(), most = model.get("most"), k = most / Math.max(width, height);
    for (const one of [canvas, white, tint]) [one.width, one.height] = [Math.round(2 * width * k), Math.round(2 * height * k)];
    canvas.style.width = `${width * k}px`;
    crop = model.get("crop");
    picture.onload = () => { URL.revokeObjectURL(picture.src); draw(); };
    picture.src = address(model.get("picture"), "image/jpeg");
    choose(tool);
    showMask();
  }

  function showMask() {
    const bytes = model.get("mask"), image = new Image(), pen = white.getContext("2d");
    hasMask = bytes.byteLength > 0;
    if (!hasMask) return draw();
    image.onload = () => {
      pen.clearRect(0, 0, white.width, white.height);
      pen.drawImage(image, 0, 0, white.width, white.height);
      draw();
    };
    image.src = address(bytes, "image/png");
  }

  const follow = { "change:picture": showPicture, "change:mask": showMask, "change:crop": () => { crop = model.get("crop"); draw(); } };
  for (const [what, act] of Object.entries(follow)) model.on(what, act);
  showPicture();
  model.send({ ready: true });
  return () => { for (const [what, act] of Object.entries(follow)) model.off(what, act); };
}

export default { render };

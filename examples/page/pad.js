/*
 * The drawing pad: pointer or keyboard, black on white. It also shows pictures.
 */

const PEN = 34;
const STEP = 8;

/**
 * @param {HTMLCanvasElement} canvas
 * @param {() => void} onChange called after each stroke, and after a part of one
 */
export function createPad(canvas, onChange) {
  const context = canvas.getContext('2d', { willReadFrequently: true });
  let last;
  /** Where the keyboard's pen is, and whether it draws. */
  let pen = { x: canvas.width / 2, y: canvas.height / 2 };
  let down = false;
  /** The picture that was shown, until something is drawn. */
  let picture;

  function clear() {
    picture = undefined;
    context.fillStyle = '#fff';
    context.fillRect(0, 0, canvas.width, canvas.height);
  }

  function line(from, to) {
    if (picture) clear();
    context.strokeStyle = '#000';
    context.lineWidth = PEN;
    context.lineCap = 'round';
    context.lineJoin = 'round';
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x, to.y);
    context.stroke();
    onChange();
  }

  const at = ({ clientX, clientY }) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    return { x: ((clientX - left) * canvas.width) / width, y: ((clientY - top) * canvas.height) / height };
  };
  canvas.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    last = at(event);
    line(last, last);
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!last) return;
    const next = at(event);
    line(last, next);
    last = next;
  });
  for (const end of ['pointerup', 'pointercancel']) {
    canvas.addEventListener(end, () => {
      last = undefined;
    });
  }

  const MOVES = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
  canvas.addEventListener('keydown', (event) => {
    if (event.key === ' ') {
      if (!down) line(pen, pen);
      down = true;
    } else if (event.key === 'Backspace' || event.key === 'Delete') {
      clear();
      onChange();
    } else if (event.key in MOVES) {
      const [dx, dy] = MOVES[event.key];
      const next = {
        x: Math.min(canvas.width, Math.max(0, pen.x + dx)),
        y: Math.min(canvas.height, Math.max(0, pen.y + dy)),
      };
      if (down) line(pen, next);
      pen = next;
    } else return;
    event.preventDefault();
  });
  canvas.addEventListener('keyup', ({ key }) => {
    if (key === ' ') down = false;
  });
  canvas.addEventListener('blur', () => {
    down = false;
  });
  clear();

  return {
    clear() {
      clear();
      onChange();
    },
    /** Shows a picture, as large as it fits. */
    show(bitmap) {
      clear();
      picture = bitmap;
      const scale = Math.min(canvas.width / bitmap.width, canvas.height / bitmap.height);
      const [width, height] = [bitmap.width * scale, bitmap.height * scale];
      context.drawImage(bitmap, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
      onChange();
    },
    /** What is to be classified: the picture, or the drawing cut to its ink; undefined if there is none. */
    image() {
      return picture ?? inkOf(canvas, context);
    },
  };
}

/** The drawing with as much white around it as printed characters have. */
function inkOf(canvas, context) {
  const { width, height } = canvas;
  const { data } = context.getImageData(0, 0, width, height);
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (data[(y * width + x) * 4] > 127) continue;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y);
    }
  }
  if (right < 0) return undefined;
  const side = Math.ceil(Math.max(right - left + 1, bottom - top + 1) * 1.35);
  const cut = document.createElement('canvas');
  cut.width = cut.height = side;
  const to = cut.getContext('2d');
  to.fillStyle = '#fff';
  to.fillRect(0, 0, side, side);
  to.drawImage(canvas, Math.round((side - left - right) / 2), Math.round((side - top - bottom) / 2));
  return cut;
}

// A histogram whose clip marks can be dragged. Positions are shares of the width, heights shares of the height; what they stand
// for is Python's to know. data: bars [[left, width, height]], ticks [[position, label]], levels [position], zero, marks
// [low, high], words [low, high], limits [[least, most], [least, most]], mirrored, sequence.
const HEIGHT = 220;
const NAMES = ["Lower clip", "Upper clip"];
const STEP = 0.005;

export default function ({ parentElement, data, setStateValue }) {
  const sender = senderOf(parentElement, setStateValue);
  const chart = parentElement.querySelector("svg");
  const [bars, grid] = chart.querySelectorAll(".bars, .grid");
  const marks = [...chart.querySelectorAll(".mark")];
  const at = (share) => `${100 * share}%`;

  const drawn = JSON.stringify([data.bars, data.ticks]);
  if (chart.drawn !== drawn) {
    chart.drawn = drawn;
    bars.replaceChildren(
      ...data.bars.map(([left, width, height]) => {
        return shape("rect", "bar", { x: at(left), width: at(width), y: HEIGHT * (1 - height), height: HEIGHT * height });
      }),
      ...data.ticks.map(([x, label]) => shape("text", "tick", { x: at(x), y: HEIGHT + 18 }, label)),
      shape("line", "base", { x1: "0%", x2: "100%", y1: HEIGHT, y2: HEIGHT }),
    );
  }
  const upright = (kind, x) => shape("line", kind, { x1: at(x), x2: at(x), y1: 0, y2: HEIGHT });
  grid.replaceChildren(upright("zero", data.zero), ...data.levels.map((x) => upright("level", x)));

  const place = (positions) => {
    const [low, high] = positions;
    const [left, right] = chart.querySelectorAll(".beyond");
    left.setAttribute("width", at(Math.max(low, 0)));
    right.setAttribute("x", at(high));
    right.setAttribute("width", at(Math.max(1 - high, 0)));
    marks.forEach((mark, side) => {
      mark.setAttribute("x", at(positions[side]));
      const handle = mark.querySelector("g");
      handle.setAttribute("aria-valuenow", positions[side].toFixed(4));
      handle.setAttribute("aria-valuemin", data.limits[side][0]);
      handle.setAttribute("aria-valuemax", data.limits[side][1]);
      handle.setAttribute("aria-valuetext", data.words[side]);
      handle.setAttribute("aria-label", NAMES[side]);
    });
    chart.positions = positions;
  };
  const moved = (side, share) => {
    const [least, most] = data.limits[side];
    const positions = [...chart.positions];
    positions[side] = Math.min(Math.max(share, least), most);
    if (data.mirrored) positions[1 - side] = 2 * data.zero - positions[side];
    return positions;
  };
  const send = (released, event) => sender.push(chart.positions, released, event.timeStamp);

  const held = chart.dragged !== undefined || sender.next || (sender.awaited !== null && sender.awaited !== data.sequence);
  if (!held || !chart.positions) place(data.marks);

  marks.forEach((mark, side) => {
    const handle = mark.querySelector("g");
    handle.onpointerdown = (event) => {
      handle.setPointerCapture(event.pointerId);
      chart.dragged = side;
    };
    handle.onpointermove = (event) => {
      if (chart.dragged !== side) return;
      const box = chart.getBoundingClientRect();
      place(moved(side, (event.clientX - box.left) / box.width));
      send(false, event);
    };
    handle.onpointerup = handle.onpointercancel = (event) => {
      if (chart.dragged !== side) return;
      chart.dragged = undefined;
      send(true, event);
    };
    handle.onkeydown = (event) => {
      const direction = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
      if (!direction) return;
      event.preventDefault();
      place(moved(side, chart.positions[side] + direction * STEP * (event.shiftKey ? 10 : 1)));
      send(true, event);
    };
  });
  sender.answered(data.sequence);
}

function shape(name, kind, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  element.setAttribute("class", kind);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

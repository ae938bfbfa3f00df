// A slider that answers while its thumb moves. data: label, meaning, min, max, value, unit, sequence.
export default function ({ parentElement, data, setStateValue }) {
  const sender = senderOf(parentElement, setStateValue);
  const input = parentElement.querySelector("input");
  const output = parentElement.querySelector("output");
  parentElement.querySelector("span").textContent = data.label;
  input.title = data.meaning;
  input.setAttribute("aria-label", data.label);
  input.min = data.min;
  input.max = data.max;
  const show = (value) => {
    output.textContent = `${value} ${data.unit}${value === 1 ? "" : "s"}`;
    input.setAttribute("aria-valuetext", output.textContent);
    input.style.setProperty("--share", `${(100 * (value - data.min)) / (data.max - data.min)}%`);
  };
  const held = input.matches(":active") || sender.next || (sender.awaited !== null && sender.awaited !== data.sequence);
  if (!held) {
    input.value = data.value;
    show(data.value);
  }
  input.oninput = (event) => {
    show(Number(input.value));
    sender.push(Number(input.value), false, event.timeStamp);
  };
  input.onchange = (event) => sender.push(Number(input.value), true, event.timeStamp);
  sender.answered(data.sequence);
}

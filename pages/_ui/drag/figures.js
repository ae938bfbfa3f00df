// Figures that follow a drag. One message draws them all: an element for each would take longer than computing them.
// data: figures [[title, text, meaning]].
export default function ({ parentElement, data }) {
  const list = parentElement.querySelector("dl");
  const titles = JSON.stringify(data.figures.map(([title, , meaning]) => [title, meaning]));
  if (list.drawn !== titles) {
    list.drawn = titles;
    list.replaceChildren(...data.figures.map(card));
  }
  list.querySelectorAll("dd").forEach((value, place) => {
    const text = data.figures[place][1];
    if (value.textContent !== text) value.textContent = text;
  });
}

function card([title, , meaning]) {
  const name = element("dt", title);
  const help = element("button", "?");
  help.type = "button";
  help.dataset.meaning = meaning;
  help.setAttribute("aria-label", `${title}: ${meaning}`);
  name.append(help);
  const both = element("div", "");
  both.append(name, element("dd", ""));
  return both;
}

function element(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

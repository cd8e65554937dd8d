// What the other scripts share. Data meets the document as text alone: no script here assigns HTML.

const SVG = 'http://www.w3.org/2000/svg';

/** An element with attributes (null ones left out) and children, which are elements or text. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  return filled(made, attributes, children);
}

/** The same in SVG. */
function shape(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? '' : String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const byId = (id) => document.getElementById(id);
const read = (id) => JSON.parse(byId(id).textContent);

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 4 });
const share = new Intl.NumberFormat('en-US', { style: 'percent', maximumFractionDigits: 1 });

/** A number as people read it. */
function amount(value, percent = false) {
  if (value === null || value === undefined) return '–';
  if (percent) return share.format(value);
  return Number.isInteger(value) || Math.abs(value) >= 10000 ? whole.format(value) : precise.format(value);
}

/** Calls `act` once, `milliseconds` after the last of several calls. */
function settled(act, milliseconds) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...values), milliseconds);
  };
}

/** Which of a group of buttons is pressed: just `chosen`. */
function press(buttons, chosen) {
  for (const button of buttons) button.setAttribute('aria-pressed', String(button === chosen));
}

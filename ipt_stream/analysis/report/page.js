// The page as a whole: colours, where in it one is, and its parts brought to life.

function showTheme() {
  const buttons = [...document.querySelectorAll('[data-choice]')];
  const choose = (choice) => {
    document.documentElement.dataset.theme = choice;
    press(buttons, buttons.find((button) => button.dataset.choice === choice));
  };
  for (const button of buttons) {
    button.addEventListener('click', () => {
      choose(button.dataset.choice);
      remember(button.dataset.choice);
    });
  }
  const known = remembered();
  if (['light', 'dark'].includes(known)) choose(known);
}

const KEY = 'ipt-stream-report-colours';
/** Storage is refused to some pages (privacy settings, sandboxes): the choice then holds until the page is closed. */
function remember(choice) {
  try {
    localStorage.setItem(KEY, choice);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
  }
}
function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    return null;
  }
}

/** The link of the section that is being read is marked. */
function followSections() {
  const links = new Map([...document.querySelectorAll('nav a')].map((link) => [link.hash.slice(1), link]));
  const sections = [...links.keys()].map(byId).filter(Boolean);
  let current = null;
  const mark = () => {
    const passed = sections.filter((section) => section.getBoundingClientRect().top < innerHeight * 0.3);
    const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
    const found = (atEnd && scrollY > 0 ? sections[sections.length - 1] : passed[passed.length - 1]) ?? sections[0];
    if (!found || found.id === current) return;
    if (current !== null) links.get(current).removeAttribute('aria-current');
    current = found.id;
    const link = links.get(current);
    link.setAttribute('aria-current', 'true');
    const list = link.closest('nav');
    if (list.scrollWidth > list.clientWidth) list.scrollTo({ left: link.offsetLeft - list.clientWidth / 3 });
  };
  addEventListener('scroll', mark, { passive: true });
  addEventListener('resize', mark);
  mark();
}

async function start() {
  const data = read('data');
  showTheme();
  followSections();
  for (const figure of document.querySelectorAll('[data-plot]')) showPlot(figure, data.plots[Number(figure.dataset.plot)]);
  if (data.examples) await showBrowser(new Examples(data.examples));
  // When the first example stood there, in milliseconds from the page's request: what benchmarks/report.py reads.
  document.documentElement.dataset.readyMs = performance.now().toFixed(0);
}

start();

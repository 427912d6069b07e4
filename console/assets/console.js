// The live parts of the pages. Everything else works without this file.

const main = document.querySelector("main");
const address = main?.dataset.live;
const sign = document.getElementById("live");
let source;
let asking = false, again = false;

// refresh asks for the page again and replaces its parts that have changed: those
// elements of main that have an id and no parent with one.
async function refresh() {
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected && new URL(answer.url).pathname === "/login") {
      location.reload();
      return;
    }
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      replaceParts(page);
      if (!page.querySelector("main")?.dataset.live) leave();
    } else {
      later();
    }
  } catch {
    later();
  } finally {
    asking = false;
    if (again) {
      again = false;
      setTimeout(refresh, 1000);
    }
  }
}

// later asks again after a failure: the next change may be long in coming.
function later() {
  if (!document.hidden) setTimeout(refresh, 10000);
}

function replaceParts(page) {
  const focus = document.activeElement;
  const href = main.contains(focus) ? focus.getAttribute("href") : null;
  for (const part of page.querySelectorAll("main div[id]")) {
    const here = document.getElementById(part.id);
    if (!here || here.innerHTML === part.innerHTML || here.contains(document.getSelection()?.anchorNode) && !document.getSelection().isCollapsed) {
      continue; // a text that is selected stays
    }
    const places = [...here.querySelectorAll(".scroll")].map((e) => [e.scrollLeft, e.scrollTop]);
    here.replaceChildren(...document.adoptNode(part).childNodes);
    here.querySelectorAll(".scroll").forEach((e, i) => { if (places[i]) [e.scrollLeft, e.scrollTop] = places[i]; });
  }
  if (href && !main.contains(document.activeElement)) {
    main.querySelector(`a[href="${CSS.escape(href)}"]`)?.focus({ preventScroll: true });
  }
}

function leave() {
  source?.close();
  sign.hidden = true;
}

if (address) {
  const open = () => {
    source = new EventSource(address);
    source.onopen = () => { sign.hidden = false; refresh(); };
    source.onerror = () => { sign.hidden = true; };
    source.onmessage = refresh;
  };
  // A page in the background asks for nothing.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      leave();
    } else {
      open();
    }
  });
  if (!document.hidden) open();
}

for (const command of document.querySelectorAll(".command")) {
  const button = document.createElement("button");
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy the command");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(command.querySelector("code").textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  command.append(button);
}

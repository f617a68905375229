// While a training goes on: what is marked data-live is read again every few seconds. Where
// scripts are off, the reader reloads. What holds the focus is left as it is until it is left.
const PAUSE = 3000;

async function look() {
  let next;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok || answer.redirected) return;
    next = new DOMParser().parseFromString(await answer.text(), "text/html");
  } catch {
    setTimeout(look, PAUSE);
    return;
  }
  for (const part of document.querySelectorAll("[data-live]")) {
    const news = next.getElementById(part.id);
    if (news && news.innerHTML !== part.innerHTML && !part.contains(document.activeElement)) {
      part.replaceChildren(...news.childNodes);
    }
  }
  if (next.querySelector("script[src*='live']")) setTimeout(look, PAUSE);
}

setTimeout(look, PAUSE);

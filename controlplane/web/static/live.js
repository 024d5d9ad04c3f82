// The live page of a run: asks for its piece of HTML again when an event came. Without it the page reloads itself.
(() => {
  "use strict";
  const live = document.getElementById("live");
  if (!live || !window.EventSource) return;
  const LEAST_MS = 1000;
  let resting = false;
  let again = false;
  const renew = async () => {
    if (resting) { again = true; return; }
    resting = true;
    try {
      const answer = await fetch(live.dataset.piece, { credentials: "same-origin", redirect: "error" });
      if (answer.ok) live.innerHTML = await answer.text();
    } catch { /* the stream tells when the server is there again */ }
    setTimeout(() => {
      resting = false;
      if (again) { again = false; renew(); }
    }, LEAST_MS);
  };
  const source = new EventSource(live.dataset.events);
  source.onmessage = renew;
  source.addEventListener("end", () => { source.close(); location.replace(live.dataset.page); });
  source.onerror = () => {
    // Refused for good (logged out, too many listeners): the page goes on as it would without a script.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.replace(live.dataset.page), 5000);
  };
})();

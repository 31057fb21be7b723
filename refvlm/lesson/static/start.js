// Every section begins; a link into a listing that is folded away unfolds it.
"use strict";

function unfold() {
  let place = at(decodeURIComponent(location.hash.slice(1)));
  const target = place;
  for (; place; place = place.parentElement) if (place.tagName === "DETAILS") place.open = true;
  if (target) target.scrollIntoView();
}

for (const begin of [generator, bound, costs, learning, wakeSleep, runs, divergences, helmholtz, questions]) begin();
window.addEventListener("hashchange", unfold);
unfold();

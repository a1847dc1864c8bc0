"use strict";
const select = (place, from = document) => from.querySelector(place);
const all = (place, from = document) => [...from.querySelectorAll(place)];
const plain = id => JSON.parse(document.getElementById(id).textContent);

// Contents: open beside the text, closed above it.
const wide = matchMedia("(min-width: 84rem)");
const unfold = () => { select("#contents").open = wide.matches; };
wide.addEventListener("change", unfold);
unfold();
for (const link of all("nav a")) link.addEventListener("click", unfold);
const seen = new IntersectionObserver(entries => {
  const head = entries.find(entry => entry.isIntersecting)?.target;
  if (!head) return;
  for (const link of all("nav a")) link.removeAttribute("aria-current");
  select(`nav a[href="#${head.id}"]`)?.setAttribute("aria-current", "true");
}, {rootMargin: "0px 0px -70% 0px"});
for (const head of all("main h2, main h3")) seen.observe(head);

// Tables are sorted by a click on a head; the ledger by claim.
const number = text => parseFloat(text.replace(/[,\[]/g, "").replace("−", "-"));
function sort(head, column) {
  const table = head.closest("table");
  const ledger = table.id === "ledger";
  const rows = ledger ? [...table.tBodies] : [...table.tBodies[0].rows];
  const up = head.getAttribute("aria-sort") !== "ascending";
  const key = row => (ledger ? row.rows[0] : row).cells[column].textContent.trim();
  const compare = (a, b) => {
    const [x, y] = [number(key(a)), number(key(b))];
    return Number.isNaN(x) || Number.isNaN(y) ? key(a).localeCompare(key(b)) : x - y;
  };
  const full = rows.filter(row => key(row) !== "").sort((a, b) => up ? compare(a, b) : compare(b, a));
  (ledger ? table : table.tBodies[0]).append(...full, ...rows.filter(row => key(row) === ""));   // empty cells stay last
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
}
for (const head of all(".scroll thead th, #ledger > thead th")) {
  const button = document.createElement("button");
  button.append(...head.childNodes);
  button.addEventListener("click", () => sort(head, head.cellIndex));
  head.append(button);
}

// The ledger: filter, search, readings of a claim.
const form = select("#filter");
const claims = [...select("#ledger").tBodies];
for (const row of all("#ledger > tbody > tr:not(.readings)")) {
  [...row.cells].forEach((cell, i) => { if (i > 2) cell.dataset.head = select("#ledger thead").rows[0].cells[i].textContent; });
}
function filter() {
  const {text, verdict, data} = Object.fromEntries(new FormData(form));
  for (const claim of claims) {
    claim.hidden = (verdict && claim.dataset.verdict !== verdict) || (data && claim.dataset.data !== data)
      || !claim.textContent.toLowerCase().includes(text.trim().toLowerCase());
  }
  select("output", form).value = `${claims.filter(claim => !claim.hidden).length} of ${claims.length} claims`;
}
for (const event of ["input", "change"]) form.addEventListener(event, filter);
form.addEventListener("submit", event => event.preventDefault());
function fold(claim, open) {
  const button = select(".fold", claim);
  if (!button) return;
  button.setAttribute("aria-expanded", open);
  select(".readings", claim).hidden = !open;
}
for (const claim of claims) {
  select(".fold", claim)?.addEventListener("click", () => fold(claim, select(".readings", claim).hidden));
}
// An address such as #C01 shows the claim with its readings, whatever was filtered before.
function show() {
  const claim = claims.find(claim => `#${claim.id}` === location.hash);
  if (!claim) return;
  if (claim.hidden) { form.reset(); filter(); }
  fold(claim, true);
  claim.scrollIntoView();
}
addEventListener("hashchange", show);
filter();
show();

// The explorer.
const studies = plain("survivors");
const choice = select("#choice").elements;
function offer(field, labels, chosen) {
  const old = field.value;
  field.replaceChildren(...Object.entries(labels).map(([value, label]) => new Option(label, value)));
  field.value = old in labels ? old : chosen;
}
function picture(study, lost, rows) {
  const {sheet, size, lines} = study.shown[lost];
  const image = new Image();
  const figures = rows.map(row => {
    const [label, read] = lines[row];
    const figure = document.createElement("figure");
    for (const [column, kind] of [[0, "clean"], [1, "adversarial"]]) {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = size;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${kind} image of class ${label}`);
      image.addEventListener("load", () => {
        canvas.getContext("2d").drawImage(image, column * size, row * size, size, size, 0, 0, size, size);
      });
      figure.append(canvas);
    }
    const caption = document.createElement("figcaption");
    caption.textContent = `${label}; ${study.models[lost]} reads ${read}`;
    figure.append(caption);
    return figure;
  });
  image.src = sheet;
  return figures;
}
function grid(study, kept, lost) {
  const lines = study.shown[lost]?.lines ?? [];
  const rows = lines.map((_, row) => row).filter(row => {
    const alive = lines[row][2].split(" ");
    return alive.includes(kept) && !alive.includes(lost);
  });
  const head = document.createElement("h3");
  head.textContent = `${study.models[kept]} survives, ${study.models[lost]} does not`;
  const tiles = document.createElement("div");
  if (rows.length) {
    tiles.className = "tilesheet";
    tiles.append(...picture(study, lost, rows));
  } else tiles.textContent = `No such image of seed ${study.seed} among those kept.`;
  return [head, tiles];
}
function explore() {
  const study = studies[choice.study.value];
  offer(choice.attack, study.attacks, study.pictured);
  offer(choice.model, study.models, "tla");
  offer(choice.other, study.models, "at");
  const [attack, model, other] = [choice.attack.value, choice.model.value, choice.other.value];
  const said = select("#said");
  select("#pictures").replaceChildren();
  if (model === other) { said.textContent = "Choose two models."; return; }
  const there = study.counts[attack][`${model} ${other}`];
  const [both, here, elsewhere, neither] = there ?? (([b, x, y, n]) => [b, y, x, n])(study.counts[attack][`${other} ${model}`]);
  const total = both + here + elsewhere + neither;
  const points = (100 * (here - elsewhere) / total).toFixed(2);
  const count = n => n.toLocaleString("en");
  said.textContent = `Under ${study.attacks[attack]}, of ${count(total)} pairs of a test image and a training seed, `
    + `${study.models[model]} alone survives ${count(here)}, ${study.models[other]} alone ${count(elsewhere)}, `
    + `both ${count(both)}, neither ${count(neither)}: a difference of ${points > 0 ? "+" : ""}${points} points.`;
  if (attack !== study.pictured) {
    select("#pictures").textContent = `Pictures are kept of ${study.attacks[study.pictured]} alone.`;
    return;
  }
  const note = document.createElement("p");
  note.textContent = `The first of these images on the networks of seed ${study.seed}: clean, and as the attack on the model that `
    + "lost it left it, to 8 bits.";
  select("#pictures").append(note, ...grid(study, model, other), ...grid(study, other, model));
}
offer(choice.study, Object.fromEntries(Object.keys(studies).map(name => [name, name])), Object.keys(studies)[0]);
select("#choice").addEventListener("change", explore);
explore();

// Files of the studies, gzipped.
const files = plain("files");
async function download(name) {
  const bytes = Uint8Array.from(atob(files[name]), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await new Response(stream).blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
for (const link of all("a[data-file]")) {
  link.addEventListener("click", event => { event.preventDefault(); download(link.dataset.file); });
}

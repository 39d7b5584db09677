"use strict";
// Tables that can be sorted by their headings and narrowed by a search field; without this they are plain tables.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const buttons = [...table.tHead.querySelectorAll("button")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const heading = button.closest("th");
      const isNumber = heading.classList.contains("number");
      const before = heading.getAttribute("aria-sort");
      const isAscending = before ? before === "descending" : !isNumber;
      for (const other of buttons) other.closest("th").removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", isAscending ? "ascending" : "descending");
      const column = heading.cellIndex;
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const order = (a, b) => isNumber ? Number(a) - Number(b) : a.localeCompare(b);
      const rows = [...body.rows].sort((a, b) => (isAscending ? 1 : -1) * order(value(a), value(b)));
      body.append(...rows);
    });
  }
}
for (const input of document.querySelectorAll("input[data-searches]")) {
  const rows = [...document.getElementById(input.dataset.searches).tBodies[0].rows];
  const told = document.getElementById(input.getAttribute("aria-describedby"));
  input.closest(".search").hidden = false;
  input.addEventListener("input", () => {
    const words = input.value.trim().toLowerCase();
    let n = 0;
    for (const row of rows) {
      row.hidden = !row.cells[0].textContent.toLowerCase().includes(words);
      n += row.hidden ? 0 : 1;
    }
    told.textContent = words ? `${n} of ${rows.length}` : "";
  });
}
// The picture of the confusions: what a cell stands for, told beneath it.
for (const picture of document.querySelectorAll("img[data-classes]")) {
  const names = JSON.parse(document.getElementById(picture.dataset.classes).textContent);
  const told = document.getElementById(picture.getAttribute("aria-describedby"));
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const cell = (at, size) => Math.min(names.length - 1, Math.max(0, Math.floor(at / size * names.length)));
    const answer = names[cell(event.clientX - box.left, box.width)];
    const truth = names[cell(event.clientY - box.top, box.height)];
    told.textContent = truth === answer ? `${truth}: recognised` : `${truth}, answered with ${answer}`;
  });
}

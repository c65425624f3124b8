"""The script of the HTML report: tables sort, and a click shows a picture large."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

SCRIPT = """
"use strict";
function value(cell) {
  const text = cell.textContent.trim(), number = parseFloat(text.replace("+", ""));
  return Number.isNaN(number) ? text : number;
}
function compare(a, b) {
  if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
  return typeof a === "number" ? -1 : 1;  // what is missing comes last
}
function sort(button) {
  const header = button.closest("th"), body = header.closest("table").tBodies[0];
  const rising = header.getAttribute("aria-sort") === "descending";
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const rows = [...body.rows].map((row) => [value(row.cells[header.cellIndex]), row]);
  rows.sort(([a], [b]) => typeof a === "number" && typeof b === "number" && !rising ? compare(b, a) : compare(a, b));
  if (!rising && rows.every(([a]) => typeof a === "string")) rows.reverse();
  body.append(...rows.map(([, row]) => row));
}
function show(button) {
  const image = button.querySelector("img"), dialog = document.getElementById("large");
  const large = dialog.querySelector("img");
  large.src = image.src;
  large.alt = image.alt;
  dialog.querySelector("p").textContent = image.alt;
  dialog.showModal();
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button && button.matches("th button")) sort(button);
  else if (button && button.matches(".zoom")) show(button);
  else if (event.target.closest("#large")) document.getElementById("large").close();
});
"""
# Lets the browser run this script and no other.
SCRIPT_HASH = "sha256-" + b64encode(sha256(SCRIPT.encode()).digest()).decode("ascii")
DIALOG = (
    '<dialog id="large" aria-label="Picture, large"><button type="button">close</button><img alt=""><p></p></dialog>'
)

"use strict";
// Sorts a table when a heading is pressed; without this the page reads the same.
document.querySelectorAll("table.sortable").forEach(function (table) {
  var headings = Array.prototype.slice.call(table.tHead.rows[0].cells);
  headings.forEach(function (heading, column) {
    var button = document.createElement("button");
    button.type = "button";
    while (heading.firstChild) button.appendChild(heading.firstChild);
    heading.appendChild(button);
    button.addEventListener("click", function () {
      var down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach(function (other) { other.removeAttribute("aria-sort"); });
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      var body = table.tBodies[0];
      var rows = Array.prototype.slice.call(body.rows);
      rows.map(function (row, place) {
        var cell = row.cells[column];
        return { row: row, place: place, number: parseFloat(cell.getAttribute("data-n")), text: cell.textContent };
      }).sort(function (a, b) {
        var order;
        if (isNaN(a.number) && isNaN(b.number)) order = a.text < b.text ? -1 : a.text > b.text ? 1 : 0;
        else if (isNaN(a.number)) return 1;
        else if (isNaN(b.number)) return -1;
        else order = a.number - b.number;
        return (down ? -order : order) || a.place - b.place;
      }).forEach(function (item) { body.appendChild(item.row); });
    });
  });
});

// What can be done with the tables and commands of a report: sorting, copying, scrolling, printing.
(() => {
  "use strict";
  const select = (query) => [...document.querySelectorAll(query)];

  select("table.sortable").forEach((table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
        const body = table.tBodies[0];
        const rows = [...body.rows];
        const numbers = rows.every((row) => value(row) !== "" && !Number.isNaN(Number(value(row))));
        const current = head.getAttribute("aria-sort");
        const down = current ? current === "ascending" : numbers;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const order = (a, b) => (numbers ? value(a) - value(b) : value(a).localeCompare(value(b), undefined, { numeric: true }));
        body.append(...rows.sort((a, b) => (down ? order(b, a) : order(a, b))));
      });
    });
  });

  select("pre.copy").forEach((block) => {
    const button = document.createElement("button");
    const text = block.querySelector("code").textContent;
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(block.querySelector("code"));
        button.textContent = "Selected";
      }
    });
    block.append(button);
  });

  // A table wider than its place scrolls, which nothing shows on a phone.
  const hints = new Map(select(".scroll").map((place) => {
    const hint = document.createElement("p");
    hint.className = "note hint";
    hint.hidden = true;
    hint.textContent = "Scroll the table sideways →";
    place.before(hint);
    return [place, hint];
  }));
  const wide = new ResizeObserver((entries) => entries.forEach(({ target }) => { hints.get(target).hidden = target.scrollWidth <= target.clientWidth + 1; }));
  hints.forEach((_, place) => wide.observe(place));

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = select("details:not([open])");
    closed.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((details) => { details.open = false; }));
})();
